"""Parquet that Hugging Face's datasets and DuckDB read, with the pictures in it or named."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from scheduler.service.export.columns import (
    COLUMNS,
    arrow_type,
    columns_of,
    features,
    need_pyarrow,
)
from scheduler.service.export.forms import Output, Whole
from scheduler.service.export.options import ExportOptions
from scheduler.service.export.samples import Sample
from scheduler.service.export.selection import Shard

EMBEDDED_GROUP: Final = 100
"""Images of a row group that holds pictures: it is what a reader must load to see one."""

LINKED_GROUP: Final = 10_000


class Parquet:
    """``data/train-00000.parquet``: the column ``image`` is datasets' Image feature."""

    def __init__(self, options: ExportOptions, locate: Callable[[str], str]) -> None:
        self._pyarrow = need_pyarrow()
        self._options = options
        self._locate = locate
        self.takes_pictures = not options.link
        self._schema = self._schema_of()

    def shard(self, shard: Shard, alone: bool, samples: Iterator[Sample], out: Output) -> None:
        """One Parquet file."""
        group = LINKED_GROUP if self._options.link else EMBEDDED_GROUP
        packed = dict.fromkeys(COLUMNS, "zstd")  # pictures are packed already
        packed |= {"image.bytes": "none", "image.path": "zstd"}
        parquet = self._pyarrow.parquet
        with (
            out.file(f"data/{shard.split}-{shard.number:05d}.parquet") as file,
            parquet.ParquetWriter(file, self._schema, compression=packed) as writer,
        ):
            some: list[dict[str, Any]] = []
            for sample in samples:
                some.append(self._row(sample))
                if len(some) == group:
                    writer.write_table(self._table(some), row_group_size=group)
                    some = []
            if some:
                writer.write_table(self._table(some), row_group_size=group)

    def beside(self, whole: Whole, out: Output) -> None:
        """Nothing."""

    def _row(self, sample: Sample) -> dict[str, Any]:
        image: dict[str, Any]
        if self._options.link:
            image = {"bytes": None, "path": absolute(self._locate(sample.row.object_key or ""))}
        else:
            name = f"{sample.job}-{sample.row.item:09d}.{sample.extension}"
            image = {"bytes": sample.picture, "path": name}
        return {"image": image} | columns_of(sample, self._options.caption)

    def _table(self, rows: list[dict[str, Any]]) -> Any:
        return self._pyarrow.Table.from_pylist(rows, schema=self._schema)

    def _schema_of(self) -> Any:
        pa = self._pyarrow
        image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        fields = [("image", image)]
        fields += [(name, arrow_type(pa, kind)) for name, kind in COLUMNS.items()]
        told = json.dumps({"info": {"features": features(COLUMNS)}})
        return pa.schema(fields, metadata={"huggingface": told})


def absolute(place: str) -> str:
    """A path from the root, whatever folder it is read from; a URL as it is."""
    if "://" in place:
        return place
    with suppress(OSError):
        return str(Path(place).resolve())
    return place
