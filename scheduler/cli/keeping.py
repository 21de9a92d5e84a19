"""``rendermill tag``, ``rate``, ``collection``, ``delete``, ``purge``, ``retention``."""

from __future__ import annotations

import re
from typing import Annotated, Final

import typer

from scheduler.cli.console import (
    HomeOption,
    JsonOption,
    duration,
    escaped,
    moment,
    out,
    print_json,
    size,
    table,
)
from scheduler.cli.searching import complete_query
from scheduler.service import keeping
from scheduler.service.home import open_home
from scheduler.service.keeping import Mark
from scheduler.settings import DEFAULT_HOME
from storage.contract.errors import InputError
from storage.db import marks, purging, retention
from storage.opening import Mill

tag_app = typer.Typer(help="Give images tags, or take them away.")
collection_app = typer.Typer(help="Put images together under a name.")
retention_app = typer.Typer(help="Rules by which images are deleted by themselves.")

QueryArgument = Annotated[
    str,
    typer.Argument(help="A query, or an image: JOB/ITEM.", autocompletion=complete_query),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]

_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800, "y": 31_557_600}
_BYTES: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


@tag_app.command("add")
def add_tag(
    tag: Annotated[str, typer.Argument(metavar="NAME=VALUE", help="The tag.")],
    query: QueryArgument,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Give images a tag; another value of the same tag is replaced."""
    name, sign, value = tag.partition("=")
    if not sign:
        raise InputError(f"{tag}: must be NAME=VALUE, such as mood=calm")
    name = keeping.checked_name(name, "tag")
    with open_home(home) as mill:
        now = mill.ledger.now()
        _mark(mill, query, lambda c, k: marks.tag(c, k, name, value, now=now), as_json=as_json)


@tag_app.command("remove")
def remove_tag(
    tag: Annotated[str, typer.Argument(metavar="NAME[=VALUE]", help="The tag.")],
    query: QueryArgument,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Take a tag away from images, whatever its value or only where it is that."""
    name, sign, value = tag.partition("=")
    only = value if sign else None
    with open_home(home) as mill:
        now = mill.ledger.now()
        _mark(mill, query, lambda c, k: marks.untag(c, k, name, only, now=now), as_json=as_json)


def rate_command(
    rating: Annotated[int, typer.Argument(help="1 to 5; 0 takes it away.")],
    query: QueryArgument,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Rate images; find favourites again with rating:>=4."""
    given = keeping.checked_rating(rating)
    with open_home(home) as mill:
        now = mill.ledger.now()
        _mark(mill, query, lambda c, k: marks.rate(c, k, given, now=now), as_json=as_json)


@collection_app.command("add")
def add_to_collection(
    name: Annotated[str, typer.Argument(help="The collection; made if there is none.")],
    query: QueryArgument,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Put images into a collection."""
    name = keeping.checked_name(name, "collection")
    with open_home(home) as mill:
        now = mill.ledger.now()
        _mark(mill, query, lambda c, k: marks.collect(c, k, name, now=now), as_json=as_json)


@collection_app.command("remove")
def remove_from_collection(
    name: Annotated[str, typer.Argument(help="The collection.")],
    query: Annotated[
        str, typer.Argument(help="A query, or an image; none: the whole collection.")
    ] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Take images out of a collection; the images themselves stay."""
    with open_home(home) as mill:
        if not query:
            _say(keeping.empty_collection(mill.ledger, name), as_json=as_json)
            return
        now = mill.ledger.now()
        _mark(mill, query, lambda c, k: marks.uncollect(c, k, name, now=now), as_json=as_json)


@collection_app.command("list")
def list_collections(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List collections."""
    with open_home(home) as mill, mill.ledger.read() as connection:
        found = marks.collections(connection)
    if as_json:
        print_json(found)
        return
    listing = table("collection", "images", right=("images",))
    for one in found:
        listing.add_row(escaped(one.name), f"{one.images:,}")
    out.print(listing if found else "There are no collections.")


def delete_command(
    query: QueryArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: DryRunOption = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Hide images; rendermill purge removes them for good later, undelete brings them back."""
    with open_home(home) as mill:
        keys = keeping.select(mill.ledger, query, home=not mill.connections.is_farm)
        taken = keeping.bytes_of(mill.ledger, keys)
        if dry_run or not keys:
            found = {"images": len(keys), "bytes": taken}
            if as_json:
                print_json(found)
            else:
                out.print(f"{len(keys):,} images, {size(taken)}, would be deleted.")
            return
        if not yes:
            typer.confirm(f"Delete {len(keys):,} images, {size(taken)}?", abort=True, err=True)
        now = mill.ledger.now()
        hidden = keeping.apply(mill.ledger, keys, lambda c, k: marks.hide(c, k, now=now))
    if as_json:
        print_json({"images": hidden})
        return
    days = keeping.GRACE_SECONDS / _SECONDS["d"]
    out.print(f"{hidden:,} images are hidden. Bring them back: rendermill undelete QUERY")
    out.print(f"[dim]rendermill purge removes what was hidden {days:g} days ago.[/]")


def undelete_command(
    query: QueryArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False
) -> None:
    """Show deleted images again, as far as they are not purged."""
    with open_home(home) as mill:
        is_home = not mill.connections.is_farm
        keys = keeping.select(mill.ledger, query, home=is_home, hidden=True)
        now = mill.ledger.now()
        shown = keeping.apply(mill.ledger, keys, lambda c, k: marks.unhide(c, k, now=now))
    _say(shown, as_json=as_json)


def purge_command(
    older_than: Annotated[
        str, typer.Option(metavar="AGE", help="Only what was hidden so long ago: 7d, 12h, 0s.")
    ] = "7d",
    dry_run: DryRunOption = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Remove hidden images for good, after hiding what the retention rules say; resumable."""
    age = seconds_of(older_than, "--older-than")
    with open_home(home) as mill:
        if not mill.connections.is_farm:
            keeping.index_all(mill.ledger)
        if dry_run:
            _foresee(mill, as_json=as_json)
            return
        hidden = keeping.enforce(mill.ledger)
        gone = keeping.purge(mill.ledger, mill.store, older_than=age)
    if as_json:
        print_json({"hidden": hidden, "images": gone.images, "objects": gone.objects})
        return
    if hidden:
        out.print(f"{hidden:,} images were hidden by retention rules.")
    out.print(f"{gone.images:,} images are gone, with {gone.objects:,} files.")


@retention_app.command("add")
def add_retention(
    query: QueryArgument,
    keep: Annotated[
        str | None, typer.Option(metavar="AGE", help="Keep images so long: 30d, 12h, 1y.")
    ] = None,
    max_bytes: Annotated[
        str | None,
        typer.Option("--max-bytes", metavar="SIZE", help="Keep the newest up to so much: 10GB."),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Have images hidden when they are too old or too many, and purged later."""
    if keep is None and max_bytes is None:
        raise InputError("a rule needs --keep or --max-bytes", hint="such as --keep 30d")
    age = None if keep is None else seconds_of(keep, "--keep")
    most = None if max_bytes is None else bytes_of(max_bytes, "--max-bytes")
    with open_home(home) as mill:
        number = keeping.add_rule(mill.ledger, query, keep_seconds=age, max_bytes=most)
    if as_json:
        print_json({"rule": number})
        return
    out.print(f"Rule {number}. See what it would hide: rendermill purge --dry-run")


@retention_app.command("list")
def list_retention(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List the rules."""
    with open_home(home) as mill, mill.ledger.read() as connection:
        found = retention.every(connection)
    if as_json:
        print_json(found)
        return
    listing = table("no", "keeps", "of", "since", right=("no",), wide="of")
    for rule in found:
        listing.add_row(str(rule.id), _kept(rule), escaped(rule.query), moment(rule.created_at))
    out.print(listing if found else "There are no rules: images are kept.")


@retention_app.command("remove")
def remove_retention(
    number: Annotated[int, typer.Argument(help="As listed.")], home: HomeOption = DEFAULT_HOME
) -> None:
    """Remove a rule; what it hid stays hidden."""
    with open_home(home) as mill, mill.ledger.write() as connection:
        retention.delete(connection, number)
    out.print(f"Rule {number} is gone.")


def seconds_of(text: str, option: str) -> float:
    """An age like ``7d``, in seconds."""
    found = re.fullmatch(r"(\d{1,7})([smhdwy])", text.strip().lower())
    if found is None:
        raise InputError(f"{option} {text}: must be an age, such as 7d, 12h or 90m")
    return float(int(found[1]) * _SECONDS[found[2]])


def bytes_of(text: str, option: str) -> int:
    """A size like ``10GB``, in bytes; units are powers of 1000, ``GiB`` and the like of 1024."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)\s*([kmgt]?)(i?)b?", text.strip().lower())
    if found is None:
        raise InputError(f"{option} {text}: must be a size, such as 10GB or 500MB")
    unit = _BYTES[found[2]]
    if found[3] and found[2]:
        unit = 1024 ** (" kmgt".index(found[2]))
    return int(float(found[1]) * unit)


def _kept(rule: retention.Rule) -> str:
    kept = [] if rule.keep_seconds is None else [duration(rule.keep_seconds)]
    return ", ".join(kept + ([] if rule.max_bytes is None else [size(rule.max_bytes)]))


def _foresee(mill: Mill, *, as_json: bool) -> None:
    found = keeping.foresee(mill.ledger)
    with mill.ledger.read() as connection:
        hidden, taken = purging.hidden(connection)
    if as_json:
        print_json({"rules": found, "hidden": {"images": hidden, "bytes": taken}})
        return
    for one in found:
        rule = f"Rule {one.rule.id} ({_kept(one.rule)} of {one.rule.query})"
        out.print(escaped(f"{rule} would hide {one.images:,} images, {size(one.bytes)}."))
    out.print(f"{hidden:,} images, {size(taken)}, are hidden already.")


def _mark(mill: Mill, query: str, mark: Mark, *, as_json: bool) -> None:
    keys = keeping.select(mill.ledger, query, home=not mill.connections.is_farm)
    _say(keeping.apply(mill.ledger, keys, mark), as_json=as_json)


def _say(count: int, *, as_json: bool) -> None:
    if as_json:
        print_json({"images": count})
    else:
        out.print(f"{count:,} images changed.")
