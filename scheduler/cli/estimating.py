"""``rendermill estimate``: what a model needs, before anything is fetched or rendered."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from scheduler.cli.console import JsonOption, escaped, facts, out, print_json, size, table
from scheduler.service.estimating import Estimate, Rung, Wish, estimate_model
from storage.contract.classes import GIB
from storage.contract.errors import InputError
from storage.contract.items import KINDS
from storage.models.resolve import describe

DTYPES = ("auto", "float32", "bfloat16", "float16")
_SIZE = re.compile(r"(\d{1,5})(?:[xX×](\d{1,5}))?")


def estimate_command(
    model: Annotated[str, typer.Argument(help="starter, a hub id, a folder or a file.")],
    revision: Annotated[str | None, typer.Option(help="Of a hub model.")] = None,
    picture_size: Annotated[
        str | None, typer.Option("--size", metavar="SIDE|WxH", help="Default: the model's own.")
    ] = None,
    vram: Annotated[
        float | None, typer.Option(min=0.5, help="GiB of a card: what would it do?")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, max=64, help="Images at once; default: as jobs have it.")
    ] = None,
    dtype: Annotated[str, typer.Option(help=", ".join(DTYPES))] = "auto",
    kind: Annotated[str | None, typer.Option(help=", ".join(KINDS))] = None,
    as_json: JsonOption = False,
) -> None:
    """Show how much memory a model needs, mode by mode; its weights are not loaded."""
    width, height = parse_size(picture_size)
    for option, said, allowed in (("--dtype", dtype, DTYPES), ("--kind", kind, KINDS)):
        if said is not None and said not in allowed:
            raise InputError(f"{option} {said!r}: must be one of {', '.join(allowed)}")
    wish = Wish(width=width, height=height, batch=batch, dtype=dtype, kind=kind)
    vram_bytes = None if vram is None else int(vram * GIB)
    found = estimate_model(describe(model, revision), wish, vram_bytes=vram_bytes)
    if as_json:
        print_json(found)
    else:
        _show(found)


def parse_size(text: str | None) -> tuple[int | None, int | None]:
    """``1024`` or ``1024x768`` as width and height; `InputError` if it is neither."""
    if text is None:
        return None, None
    read = _SIZE.fullmatch(text.strip())
    if read is None:
        raise InputError(f"--size {text!r}: must be like 1024 or 1024x768")
    return int(read[1]), int(read[2] or read[1])


def _show(found: Estimate) -> None:
    rows = table(
        "mode", "batch", "memory", "card", "speed", right=("batch", "memory"), wide="speed"
    )
    for rung in found.rungs:
        rows.add_row(
            _mode(rung),
            str(rung.batch),
            size(rung.memory_bytes),
            _card(rung),
            rung.speed,
            style=_style(rung, found),
        )
    out.print(rows)
    out.print()
    out.print(
        facts(
            [
                ("model", found.model),
                ("family", f"{found.family} ({found.pipeline})"),
                ("makes", f"{found.width}x{found.height}, {found.kind}, {found.dtype}"),
                ("weights", _weights(found)),
                ("licence", found.licence),
                ("note", _PLAIN if found.plain else ""),
                ("answer", _answer(found)),
            ]
        )
    )


_PLAIN = (
    "no record covers this pipeline: it is rendered by diffusers' own call, all on the device,"
    " which is slower and cannot step down when memory runs out"
)


def _mode(rung: Rung) -> str:
    return f"{rung.mode}, tiled" if rung.tiled else rung.mode.value


def _card(rung: Rung) -> str:
    if rung.mode.on_cpu:
        return "none"
    return "too large" if rung.card is None else f"{rung.card.removeprefix('gpu')} GB"


def _style(rung: Rung, found: Estimate) -> str | None:
    if found.takes is not None and rung == found.takes:
        return "green"
    return "dim" if rung.fits is False else None


def _weights(found: Estimate) -> str:
    million = sum(found.parameters.values()) / 1e6
    return f"{million:,.0f} million parameters, {size(found.disk_bytes)} of files"


def _answer(found: Estimate) -> str:
    if found.vram_bytes is None:
        return ""
    asked = f"{found.vram_bytes / GIB:g} GiB"
    if found.takes is None:
        return f"does not fit {asked} in any mode; a CPU can do it"
    batch = f" in batches of {found.takes.batch}" if found.takes.batch > 1 else ""
    return escaped(f"a card of {asked} renders it {_mode(found.takes)}{batch}")
