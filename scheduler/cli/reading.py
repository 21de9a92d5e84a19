"""``rendermill jobs``, ``job``, ``images`` and ``image``: reading the catalog."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from scheduler.cli.console import (
    HomeOption,
    JsonOption,
    LimitOption,
    duration,
    escaped,
    facts,
    moment,
    one_line,
    out,
    print_json,
    settings,
    short_model,
    table,
)
from scheduler.cli.live import show
from scheduler.cli.nearing import (
    NearOption,
    SemanticOption,
    WithinOption,
    find_nearest,
    print_nearest,
    refuse_beside,
)
from scheduler.cli.searching import (
    complete_query,
    open_pictures,
    print_count,
    print_csv,
    print_neighbours,
    search_images,
)
from scheduler.service.descent import descent_of
from scheduler.service.finding import Ask, Found
from scheduler.service.home import open_home
from scheduler.service.options import split_pairs
from scheduler.service.watching import JobWatch
from scheduler.settings import DEFAULT_HOME
from storage.contract.errors import InputError
from storage.contract.items import SEED_MAX, GroupSpec
from storage.contract.keys import image_id, parse_image_id
from storage.contract.outcomes import Outcome
from storage.contract.output import Produced
from storage.contract.states import JobState
from storage.db import groups, images, jobs, workers
from storage.db.images import ImageFilter, ImageRow
from storage.db.jobs import Job
from storage.opening import Mill

SHOWN_GROUPS = 20
LARGEST = 2**63 - 1  # that SQL compares with
PHASH_MASK = 2**64 - 1  # SQL keeps the 64 bits as a signed number


def jobs_command(
    limit: LimitOption = 20,
    before: Annotated[
        int | None, typer.Option(min=1, max=LARGEST, help="Go on after the job of this number.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List jobs, the newest first."""
    with open_home(home) as opened, opened.ledger.read() as connection:
        found = list(jobs.newest(connection, limit=limit, before=before))
        busy = {worker.progress.job for worker in workers.present(connection)}
    if as_json:
        print_json([_job_fields(job, busy) for job in found])
        return
    listing = table(
        "no",
        "job",
        "state",
        "images",
        "failed",
        "submitted",
        "manifest",
        right=("no", "images", "failed"),
        wide="manifest",
    )
    for job in found:
        listing.add_row(
            str(job.id),
            job.name,
            _state(job, busy),
            f"{job.done:,}/{job.item_count:,}",
            f"{job.failed:,}" if job.failed else "",
            moment(job.created_at),
            escaped(job.manifest),
        )
    out.print(listing if found else "No jobs yet.")


def job_command(
    job: Annotated[str, typer.Argument(help="The job's name or number.")],
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it live until it ends.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show one job: its state, its groups, what failed."""
    with open_home(home) as opened:
        with opened.ledger.read() as connection:
            found = jobs.find(connection, job)
        if watch:
            show(JobWatch(opened.ledger, found.id), quiet=as_json, interrupted=lambda: False)
        with opened.ledger.read() as connection:
            found = jobs.get(connection, found.id)
            busy = {worker.progress.job for worker in workers.present(connection)}
            its_groups = list(groups.of_job(connection, found.id, limit=SHOWN_GROUPS + 1))
            reasons = images.failure_counts(connection, found.id)
            truncated = images.truncated_count(connection, found.id)
        if as_json:
            extra = {"failures": reasons, "truncated_prompts": truncated, "groups": its_groups}
            print_json(_job_fields(found, busy) | extra)
            return
        _print_job(opened, found, busy, reasons, truncated)
    _print_groups(its_groups)


def images_command(
    query: Annotated[
        str,
        typer.Argument(help="Such as 'fox width:>=1024'.", autocompletion=complete_query),
    ] = "",
    job: Annotated[str | None, typer.Option(help="Of this job.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="With this tag; repeatable.")
    ] = None,
    contains: Annotated[str | None, typer.Option(help="With this in the prompt.")] = None,
    prompt_like: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="With a prompt like '%red fo_%'.")
    ] = None,
    near: NearOption = None,
    within: WithinOption = None,
    semantic: SemanticOption = None,
    seed: Annotated[int | None, typer.Option(min=0, max=SEED_MAX, help="With this seed.")] = None,
    model: Annotated[str | None, typer.Option(help="Of this model.")] = None,
    row: Annotated[
        int | None, typer.Option(min=0, max=LARGEST, help="Of this manifest row, from 0.")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only items that failed.")] = False,
    truncated: Annotated[
        bool, typer.Option("--truncated", help="Only prompts too long for the text encoder.")
    ] = False,
    limit: LimitOption = 50,
    sort: Annotated[
        str | None, typer.Option(help="-created (the newest first), seed, -seconds, bytes, ...")
    ] = None,
    after: Annotated[str | None, typer.Option(help="Go on after this image or cursor.")] = None,
    before: Annotated[str | None, typer.Option(help="Go back before this cursor.")] = None,
    count: Annotated[
        str | None, typer.Option(metavar="about|exact", help="Only say how many match.")
    ] = None,
    paths: Annotated[bool, typer.Option("--paths", help="Print files only, one a line.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    show_them: Annotated[bool, typer.Option("--open", help="Open the pictures.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Search the catalog."""
    with open_home(home) as opened:
        searched = (query, sort, prompt_like, before, count, as_csv, show_them, near, semantic)
        if any(one not in {"", None, False} for one in searched):
            ask = Ask(
                query=query,
                job=_job_name(opened, job),
                failed=failed,
                tags=tuple(split_pairs(tag or [], "--tag", example="category=Animals")),
                contains=contains,
                prompt_like=prompt_like,
                seed=seed,
                model=model,
                row=row,
                truncated=truncated,
            )
            if near is not None or semantic is not None:
                refuse_beside(near, semantic, sort=sort, after=after, before=before, count=count)
                nearest = find_nearest(opened, ask, near, semantic, within=within, limit=limit)
                forms = {"paths": paths, "as_json": as_json, "as_csv": as_csv}
                print_nearest(opened, nearest, _image_fields, show_them=show_them, **forms)
                return
            if count is not None:
                if count not in {"about", "exact"}:
                    raise InputError(f"--count {count}: must be about or exact")
                print_count(opened, ask, count, as_json=as_json)
                return
            page = search_images(
                opened, ask, sort=sort or "-created", limit=limit, place=(after, before)
            )
            shown = {"paths": paths, "as_json": as_json, "as_csv": as_csv, "show_them": show_them}
            _print_found(opened, page, **shown)
            return
        with opened.ledger.read() as connection:
            wanted = ImageFilter(
                job_id=jobs.find(connection, job).id if job else None,
                outcome=Outcome.FAILED if failed else None,
                tags=tuple(split_pairs(tag or [], "--tag", example="category=Animals")),
                contains=contains,
                seed=seed,
                model=model,
                row=row,
                truncated=truncated,
            )
            start = _place(opened, after)
            found = list(images.page(connection, wanted, limit=limit + 1, after=start))
        more = len(found) > limit
        found = found[:limit]
        _print_images(opened, found, more=more, paths=paths, as_json=as_json)


def _job_name(mill: Mill, job: str | None) -> str | None:
    """A job's name, by its name or number."""
    if job is None:
        return None
    with mill.ledger.read() as connection:
        return jobs.find(connection, job).name


def _print_found(
    mill: Mill, page: Found, *, paths: bool, as_json: bool, as_csv: bool, show_them: bool
) -> None:
    if as_json:
        shown = [_image_fields(mill, *one) for one in page.images]
        cursors = {"next": page.next, "previous": page.previous, "waiting": page.waiting}
        print_json({"images": shown} | cursors)
    elif as_csv:
        print_csv(mill, page.images)
    elif show_them:
        open_pictures(mill, page.images)
    else:
        _print_images(mill, page.images, more=False, paths=paths, as_json=False)
        if not paths:
            print_neighbours(page)


def image_command(
    image: Annotated[str, typer.Argument(help="JOB/ITEM, as listed by rendermill images.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show one image: its file, its settings, how it came to be."""
    job, item = _parsed_id(image)
    with open_home(home) as opened, opened.ledger.read() as connection:
        row = images.get(connection, job, item)
        fields = _image_fields(opened, job, row)
        fields["lineage"] = descent_of(connection, row)
        fields["settings"] = _settings_beside(groups.get(connection, row.group_id).spec, fields)
    if as_json:
        print_json(fields)
        return
    rendering = fields.pop("rendering") or {}
    fields |= fields.pop("settings") | fields.pop("lineage")
    fields |= _said_of_file(fields.pop("produced"))
    fields["created_at"] = moment(row.created_at)
    fields["seconds"] = None if row.seconds is None else f"{row.seconds:.3g}"
    shown = [(name, _plain(value)) for name, value in fields.items()]
    shown += [(name, _plain(value)) for name, value in rendering.items()]
    out.print(facts(shown))


_INTERNAL = ("job_id", "group_id", "task_id", "lineage", "linked_job", "linked_item")


def _place(mill: Mill, after: str | None) -> tuple[int, int] | None:
    if after is None:
        return None
    job, item = _parsed_id(after)
    with mill.ledger.read() as connection:
        return jobs.find(connection, job).id, item


def _parsed_id(text: str) -> tuple[str, int]:
    try:
        return parse_image_id(text)
    except ValueError as error:
        raise InputError(str(error)) from None


def _state(job: Job, busy: set[str | None]) -> str:
    """The state in words: an open job without workers waits to be resumed."""
    if job.state == JobState.OPEN:
        return "rendering" if job.name in busy else "interrupted"
    return job.state


def _job_fields(job: Job, busy: set[str | None]) -> dict[str, Any]:
    return msgspec.structs.asdict(job) | {"shown_state": _state(job, busy)}


def _print_job(
    mill: Mill, job: Job, busy: set[str | None], reasons: dict[str, int], truncated: int
) -> None:
    failures = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
    took = job.finished_at - job.created_at if job.finished_at else None
    out.print(
        facts(
            [
                ("job", f"{job.name} (number {job.id})"),
                ("state", _state(job, busy)),
                ("images", f"{job.done:,} of {job.item_count:,}"),
                ("failed", f"{job.failed:,}: {failures}" if job.failed else None),
                ("rejected rows", f"{job.rejected:,}" if job.rejected else None),
                ("long prompts", f"{truncated:,} (see images --truncated)" if truncated else None),
                ("submitted", moment(job.created_at)),
                (
                    "finished",
                    f"{moment(job.finished_at)}, after {duration(took)}" if took else None,
                ),
                ("manifest", job.manifest),
                ("pictures", mill.store.locate(f"renders/{job.name}")),
            ]
        )
    )
    out.print()


def _print_groups(found: list[groups.GroupView]) -> None:
    listing = table(
        "model",
        "settings",
        "batch",
        "done",
        "failed",
        "leased",
        "left",
        right=("batch", "done", "failed", "leased", "left"),
        wide="settings",
    )
    for group in found[:SHOWN_GROUPS]:
        listing.add_row(
            short_model(group.spec.model),
            settings(group.spec),
            str(group.spec.batch.denoise),
            *(f"{count:,}" for count in (group.done, group.failed, group.leased, group.claimable)),
        )
    out.print(listing)
    if len(found) > SHOWN_GROUPS:
        out.print("... and more groups; see --json")


def _print_images(
    mill: Mill, found: list[tuple[str, ImageRow]], *, more: bool, paths: bool, as_json: bool
) -> None:
    last = image_id(found[-1][0], found[-1][1].item) if found and more else None
    if as_json:
        print_json({"images": [_image_fields(mill, *one) for one in found], "next": last})
        return
    if paths:
        for _, row in found:
            if row.object_key:
                out.print(mill.store.locate(row.object_key), soft_wrap=True, markup=False)
        return
    listing = table(
        "image", "seed", "size", "model", "outcome", "prompt", right=("seed",), wide="prompt"
    )
    for job, row in found:
        listing.add_row(
            image_id(job, row.item),
            str(row.seed),
            f"{row.width}x{row.height}",
            short_model(row.model),
            row.outcome if row.reason is None else f"[red]{row.reason}[/]",
            escaped(one_line(row.prompt)),
        )
    out.print(listing if found else "No images match.")
    if last:
        out.print(f"[dim]More: add --after {last}[/]")


def _image_fields(mill: Mill, job: str, row: ImageRow) -> dict[str, Any]:
    """An image for people and programs: JSON columns opened, its place on disk added."""
    fields: dict[str, Any] = {"image": image_id(job, row.item), "job": job}
    fields |= msgspec.structs.asdict(row)
    fields["tags"] = msgspec.json.decode(row.tags)
    fields["rendering"] = msgspec.json.decode(row.rendering) if row.rendering else None
    produced = msgspec.json.decode(row.produced, type=Produced) if row.produced else Produced()
    fields["produced"] = msgspec.to_builtins(produced)
    fields["flagged"] = None if row.flagged is None else bool(row.flagged)
    fields["phash"] = None if row.phash is None else f"{row.phash & PHASH_MASK:016x}"
    fields["file"] = mill.store.locate(row.object_key) if row.object_key else None
    fields["collections"] = msgspec.json.decode(row.collections) if row.collections else []
    for internal in _INTERNAL:
        del fields[internal]
    return fields


def _settings_beside(spec: GroupSpec, known: dict[str, Any]) -> dict[str, Any]:
    """What else its group asked for, where that is not the usual: kind, strength, LoRAs."""
    usual = GroupSpec(
        model="", width=8, height=8, num_inference_steps=1, guidance_scale=1.0, scheduler=""
    )
    wanted, left_out = msgspec.to_builtins(spec), msgspec.to_builtins(usual)
    names = [name for name in wanted if name not in known and name != "batch"]
    return {name: wanted[name] for name in names if wanted[name] != left_out[name]}


def _said_of_file(produced: dict[str, Any]) -> dict[str, str]:
    """What was done to the file, in words."""
    said: dict[str, str] = {}
    if (safety := produced.get("safety")) is not None:
        concepts = ", ".join(f"{n} (+{score:g})" for n, score in safety.get("concepts", {}).items())
        blurred = "; stored blurred" if produced.get("blurred") else ""
        said["safety"] = f"flagged: concepts {concepts}{blurred}" if concepts else "not flagged"
    if (mark := produced.get("watermark")) is not None:
        wrong = mark.get("wrong", 0)
        verdict = (
            f"read back with {wrong} of {mark.get('bits')} bits wrong" if wrong else "verified"
        )
        said["watermark"] = mark.get("note") or verdict
    if produced.get("signed"):
        said["signed"] = "C2PA"
    return said


def _plain(value: object) -> str:
    if isinstance(value, list):
        return "; ".join(_plain(one) for one in value)
    if isinstance(value, dict):
        return ", ".join(f"{name}={one}" for name, one in value.items())
    return "" if value is None else str(value)
