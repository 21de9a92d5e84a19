"""Options that say what becomes of the pictures. A job file says the same under ``output``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from storage.contract.output import FAMILY_WATERMARK, OFF, Embed, ImageFormat, SafetyRule

PANEL = "Files"

ImageFormatOption = Annotated[
    str | None,
    typer.Option(
        "--image-format",
        help=f"{', '.join(ImageFormat)}. Default: png.",
        rich_help_panel=PANEL,
    ),
]
QualityOption = Annotated[
    int | None,
    typer.Option(help="1 to 100, of webp, jpeg and avif.", rich_help_panel=PANEL),
]
PngLevelOption = Annotated[
    int | None,
    typer.Option(help="0 (fast) to 9 (small). Default: 1.", rich_help_panel=PANEL),
]
MetadataOption = Annotated[
    str | None,
    typer.Option(
        help=f"What files say of themselves: {', '.join(Embed)}. Default: full.",
        rich_help_panel=PANEL,
    ),
]
ThumbnailsOption = Annotated[
    bool | None,
    typer.Option("--thumbnails/--no-thumbnails", help="Default: yes.", rich_help_panel=PANEL),
]
SafetyOption = Annotated[
    str | None,
    typer.Option(
        help=f"What is done with pictures the checker flags: {', '.join(SafetyRule)}."
        " Default: off.",
        rich_help_panel=PANEL,
    ),
]
SafetyModelOption = Annotated[
    str | None,
    typer.Option(help="The checker. Default: the model's own.", rich_help_panel=PANEL),
]
WatermarkOption = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help=f"Invisible; {FAMILY_WATERMARK}: what the model's own scripts wrote; {OFF}: none.",
        rich_help_panel=PANEL,
    ),
]
C2paOption = Annotated[
    bool | None,
    typer.Option(
        "--c2pa/--no-c2pa",
        help="Sign with the certificate of RENDERMILL_C2PA_CERTIFICATE.",
        rich_help_panel=PANEL,
    ),
]


def asked(**options: Any) -> dict[str, Any]:
    """Those of the options that were given, by field of `OutputOptions`."""
    return {name: value for name, value in options.items() if value is not None}
