"""Options of the commands that read a manifest."""

from __future__ import annotations

from typing import Annotated

import typer

from scheduler.cli.console import escaped, out
from scheduler.service.prepare import Prepared
from storage.contract.errors import InputError
from storage.db.jobs import Job

ManifestArgument = Annotated[
    str,
    typer.Argument(help="Prompts: .txt, .csv, .tsv, .jsonl, .parquet, or a .yaml job; - is stdin."),
]
NameOption = Annotated[
    str | None, typer.Option(help="The job's name; the same manifest under it is found again.")
]
ModelOption = Annotated[
    str, typer.Option(help="For rows that name none: starter, a hub id, or a folder.")
]
OverridesOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="For all rows, whatever they say."),
]
DefaultsOption = Annotated[
    list[str] | None,
    typer.Option("--default", metavar="FIELD=VALUE", help="For rows that say nothing."),
]
SeedOption = Annotated[
    int | None,
    typer.Option(min=0, max=2**32 - 1, help="Seeds of rows without one derive from it."),
]
DtypeOption = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
FormatOption = Annotated[
    str | None, typer.Option("--format", help="txt, csv, tsv, jsonl, parquet or yaml.")
]
SkipInvalidOption = Annotated[
    bool, typer.Option("--skip-invalid", help="Render the good rows, record the bad ones.")
]
DynamicPromptsOption = Annotated[
    str | None,
    typer.Option(
        "--dynamic-prompts",
        metavar="random|combinatorial",
        help="Expand {a|b} and __wildcards__ in prompts: one draw an image, or each combination.",
    ),
]
WildcardsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--wildcards", metavar="DIR", help="A folder of wildcard files; repeat for several."
    ),
]
ReuseOption = Annotated[
    bool,
    typer.Option(
        "--reuse/--no-reuse", help="Link images the catalog has already instead of rendering them."
    ),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be made; write nothing.")
]

DTYPES = ("auto", "float32", "bfloat16", "float16")


def check_choice(option: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuse a value that is not one of those allowed."""
    if value not in allowed:
        raise InputError(f"{option} {value}: must be one of {', '.join(allowed)}")


def say_submitted(work: Prepared, job: Job, *, created: bool, linked: int = 0) -> None:
    """Tell people what became of their manifest; `linked` images were in the catalog."""
    if not created:
        out.print(f"Job [bold]{job.name}[/] was made from this manifest before; going on with it.")
        return
    groups = f" in {len(work.groups):,} groups" if len(work.groups) > 1 else ""
    out.print(f"Job [bold]{job.name}[/]: {work.items:,} images{groups}.")
    if linked:
        left = work.items - linked
        rest = f"{left:,} are left to render" if left else "nothing is left to render"
        out.print(f"{linked:,} of them are in the catalog already and were linked; {rest}.")
    if work.tag_names:
        out.print(f"Searchable tags: {escaped(', '.join(work.tag_names))}.", soft_wrap=True)
    for note in work.notes:
        out.print(f"Note: {escaped(note)}.")
    if work.problems.rejected_rows:
        out.print(
            f"[yellow]{work.problems.rejected_rows:,} rows rejected[/], for example:"
            f" {escaped(str(work.problems.first[0]))}",
            soft_wrap=True,
        )
