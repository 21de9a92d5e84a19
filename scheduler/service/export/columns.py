"""The columns of tables: the same for every image, and typed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from scheduler.service.export.samples import Sample, caption_of, facts
from storage.contract.errors import SettingError

if TYPE_CHECKING:
    import pyarrow as pa

TEXT: Final = "text"
"""The caption's column: the name that training scripts look for."""

COLUMNS: Final[dict[str, str]] = {
    TEXT: "string",
    "id": "string",
    "job": "string",
    "item": "int64",
    "row": "int64",
    "line": "int64",
    "image_no": "int64",
    "prompt": "string",
    "negative_prompt": "string",
    "seed": "int64",
    "model": "string",
    "revision": "string",
    "width": "int32",
    "height": "int32",
    "num_inference_steps": "int32",
    "guidance_scale": "float64",
    "scheduler": "string",
    "tags": "string",
    "rating": "int32",
    "mode": "string",
    "dtype": "string",
    "device": "string",
    "weights": "string",
    "seconds": "float64",
    "truncated_tokens": "int64",
    "flagged": "bool",
    "bytes": "int64",
    "sha256": "string",
    "pixels_sha256": "string",
    "phash": "string",
    "render_key": "string",
    "created_at": "string",
    "lineage": "string",
    "manifest": "string",
}
"""Types by datasets' names. Tags, lineage and the manifest row are JSON: each image has its own."""


def columns_of(sample: Sample, caption: str) -> dict[str, Any]:
    """The values of an image, in the order of `COLUMNS`."""
    known = facts(sample) | {TEXT: caption_of(sample, caption)}
    for name in ("tags", "lineage", "manifest"):
        known[name] = msgspec.json.encode(known[name]).decode()
    return {name: known[name] for name in COLUMNS}


def features(columns: Mapping[str, str]) -> dict[str, Any]:
    """What `datasets` is told of the columns, the picture's before them."""
    values = {name: {"dtype": kind, "_type": "Value"} for name, kind in columns.items()}
    return {"image": {"_type": "Image"}} | values


AS_JSON: Final = COLUMNS | {"flagged": "string", "created_at": "float64"}
"""Types of the columns as JSON lines.

Readers guess a file's types from its values and want the same for all files, so there is no null,
and no text that may or may not be taken for a date: a column of nothing would have no type.
"""

_EMPTY: Final = {"string": "", "int32": 0, "int64": 0, "float64": 0.0}


def json_columns_of(sample: Sample, caption: str) -> dict[str, Any]:
    """The values of an image, none of them null, in the order of `AS_JSON`."""
    known = columns_of(sample, caption)
    flagged = {None: "", True: "yes", False: "no"}[known["flagged"]]
    known |= {"flagged": flagged, "created_at": float(sample.row.created_at)}
    return {
        name: _EMPTY[kind] if known[name] is None else known[name] for name, kind in AS_JSON.items()
    }


def need_pyarrow() -> Any:
    """The module; `SettingError` says how to install it."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise SettingError(
            "this form is Parquet, which needs the package pyarrow",
            hint="install it: pip install 'rendermill[parquet]'",
        ) from error
    return pyarrow


def arrow_type(pyarrow: Any, name: str) -> pa.DataType:
    """The Arrow type of that name."""
    return getattr(pyarrow, "bool_" if name == "bool" else name)()
