"""What all commands share: printing for people and for programs, and common options."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scheduler.settings import DEFAULT_HOME
from storage.contract.items import GroupSpec

out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)

HomeOption = Annotated[
    Path,
    typer.Option(
        "--home",
        envvar="RENDERMILL_HOME",
        help="Folder with the catalog and the pictures.",
        show_default=str(DEFAULT_HOME),
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Rows to show.")]


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    encoded = msgspec.json.encode(value)
    sys.stdout.write(msgspec.json.format(encoded, indent=2).decode() + "\n")


def table(*columns: str, right: Sequence[str] = (), wide: str | None = None) -> Table:
    """An empty table; `right` are columns of numbers, `wide` the one that may be cut."""
    made = Table(box=None, pad_edge=False, header_style="bold", expand=wide is not None)
    for column in columns:
        made.add_column(
            column,
            justify="right" if column in right else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=12 if column == wide else None,
            ratio=1 if column == wide else None,
        )
    return made


def facts(pairs: Sequence[tuple[str, object]]) -> Table:
    """Names and values, two columns; pairs without a value are left out."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        if value not in (None, ""):
            made.add_row(name, Text(visible(str(value))))
    return made


def duration(seconds: float) -> str:
    """``1 h 05 m``, ``2 m 08 s``, ``41 s``, ``0.4 s``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} m"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def size(count: float) -> str:
    """Bytes in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def moment(at: float | None) -> str:
    """Local date and time."""
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def one_line(text: str) -> str:
    """Text without line ends, for a table."""
    return " ".join(text.split())


def short_model(model: str) -> str:
    """A model's name for a table: folders by their last part."""
    return escaped(f".../{Path(model).name}" if model.startswith("/") else model)


def settings(spec: GroupSpec) -> str:
    """What a group's images have in common, for a table."""
    sampler = spec.scheduler.removesuffix("Scheduler")
    more = {
        spec.kind: spec.needs_picture,
        f"strength {spec.strength or 0:g}": spec.strength is not None,
        f"{len(spec.loras)} LoRAs": spec.loras,
        f"{len(spec.controlnets)} ControlNets": spec.controlnets,
        "IP-Adapter": spec.ip_adapter,
        "upscaled": spec.upscaler,
    }
    said = [
        f"{spec.width}x{spec.height}",
        *(text for text, holds in more.items() if holds),
        f"{spec.num_inference_steps} steps",
        f"cfg {spec.guidance_scale:g}",
        sampler,
    ]
    return ", ".join(said)


# Escape sequences in a prompt must not reach the terminal. Tabs and line feeds may.
_PICTURES = {code: 0x2400 + code for code in range(32) if code not in (9, 10)}
_CONTROLS = _PICTURES | {127: 0x2421} | dict.fromkeys(range(128, 160), 0xFFFD)


def visible(text: str) -> str:
    """Text with a picture in the place of each control character."""
    return text.translate(_CONTROLS)


_BRACKET = re.compile(r"(\\*)\[([a-z#/@][^[]*?\])?")


def escaped(text: str) -> str:
    """Text that neither Rich nor the terminal must take for more than text.

    `rich.markup.escape` loses a backslash before a bracket that begins no tag.
    """
    return _BRACKET.sub(_escaped_bracket, visible(text))


def _escaped_bracket(found: re.Match[str]) -> str:
    backslashes, rest_of_tag = found[1], found[2]
    return f"{backslashes * 2}\\[{rest_of_tag}" if rest_of_tag else f"{backslashes}\\["
