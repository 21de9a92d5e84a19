"""Reading and checking a whole manifest before anything is written."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.manifest import lines as lines_module
from scheduler.manifest import spool
from scheduler.manifest.grouping import Describe
from scheduler.manifest.limits import Limits
from scheduler.manifest.problems import ManifestProblems
from scheduler.manifest.source import FORMATS
from scheduler.manifest.spool import CountingSink, ItemSpool
from scheduler.service.options import SubmitOptions
from scheduler.service.prepare import prepared
from storage.contract.errors import InputError, StoreFull
from storage.contract.items import derive_seed
from storage.testing.factories import make_card

Read = Callable[..., Any]
Write = Callable[[str, str | bytes], str]

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def table(**columns: Any) -> bytes:
    written = io.BytesIO()
    parquet.write_table(pa.table(columns), written)
    return written.getvalue()


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def refused(read: Read) -> Callable[..., ManifestProblems]:
    """Reads a manifest that must be refused, with the path taken out of what is said."""

    def read_refused(name: str, content: str | bytes, **options: Any) -> ManifestProblems:
        with pytest.raises(ManifestProblems) as caught:
            read(name, content, **options)
        error: ManifestProblems = caught.value
        error.message = re.sub(rf"\S*/{re.escape(name)}", name, error.message)
        return error

    return read_refused


# Good manifests

SAME = {
    "a.txt": "a cat\na dog\n",
    "a.csv": 'prompt\n"a cat"\na dog\n',
    "a.tsv": "Prompt\na cat\na dog\n",
    "a.jsonl": lines({"prompt": "a cat"}, {"text": "a dog"}),
    "a.parquet": table(prompt=["a cat", "a dog"]),
    "a.yaml": "items:\n - prompt: a cat\n - {prompt: a dog}\n",
}


@pytest.mark.parametrize("name", SAME)
def test_every_format_gives_the_same_items(read: Read, name: str) -> None:
    reading = read(name, SAME[name], seed=3)
    assert reading.prompts == ["a cat", "a dog"]
    assert reading.seeds == [derive_seed(3, 0, 0), derive_seed(3, 1, 0)]
    assert (reading.work.rows, reading.work.items, reading.total) == (2, 2, 0)
    ((spec, items),) = reading.groups
    assert len(items) == 2
    assert (spec.model, spec.width, spec.batch.denoise) == ("starter", 64, 2)


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["bare", "BOM"])
@pytest.mark.parametrize("name", [name for name in SAME if name != "a.parquet"])
def test_line_ends_and_byte_order_marks_change_nothing(
    read: Read, name: str, mark: str, end: str
) -> None:
    content = mark + str(SAME[name]).replace("\n", end)
    assert read(name, content).prompts == ["a cat", "a dog"]


def test_parti_prompts_are_read_as_they_are(read: Read) -> None:
    content = (
        "Prompt\tCategory\tChallenge\tNote\n"
        'a sign that says "Hello"\tArtifacts\tWriting & Symbols\t\n'
        "bond\tAbstract\tBasic\tone word \n"
    )
    reading = read("a.tsv", content)
    assert reading.prompts == ['a sign that says "Hello"', "bond"]
    assert reading.items[0].tags == {"Category": "Artifacts", "Challenge": "Writing & Symbols"}
    assert reading.work.tag_names == ("Category", "Challenge", "Note")
    assert reading.work.notes == ()


def test_groups_lie_side_by_side_and_cover_all_items(read: Read) -> None:
    rows = [{"prompt": str(n), "width": (64, 128, 256)[n % 3]} for n in range(30)]
    work = read("a.jsonl", lines(*rows)).work
    places = [(one.first_item, one.stop_item, one.spec.width) for one in work.groups]
    assert places == [(0, 10, 64), (10, 20, 128), (20, 30, 256)]
    assert all(one.requirements.modes for one in work.groups)


def test_items_of_a_group_keep_the_order_of_the_manifest(read: Read) -> None:
    rows = [{"prompt": str(n), "width": (64, 128)[n % 2], "n": 2} for n in range(9)]
    reading = read("a.jsonl", lines(*rows))
    for _, items in reading.groups:
        order = [(item.row, item.image_no) for item in items]
        assert order == sorted(order)


def test_a_group_whose_rows_were_all_refused_is_none(read: Read) -> None:
    rows = [
        {"prompt": "a", "width": 64, "seed": -1},
        {"prompt": "b", "width": 128},
        {"prompt": "c", "width": 256, "note": []},
        {"prompt": "d", "width": 512},
    ]
    reading = read("a.jsonl", lines(*rows), skip_invalid=True)
    assert [(spec.width, len(items)) for spec, items in reading.groups] == [(128, 1), (512, 1)]
    assert reading.prompts == ["b", "d"]


def test_batches_are_sized_for_the_fleet(read: Read) -> None:
    content = lines(*[{"prompt": "a", "width": 256, "height": 256}] * 40)
    sizes = {
        on_cpu: read("a.jsonl", content, on_cpu=on_cpu).groups[0][0].batch.denoise
        for on_cpu in (True, False)
    }
    assert sizes == {True: 1, False: 14}


def test_standard_input_is_a_manifest_too(
    describe: Describe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"a cat\n\n")))
    options = SubmitOptions(manifest="-", format="txt")
    with prepared(options, limits=Limits(), describe=describe) as work:
        assert (work.items, work.suggested_name) == (1, "stdin")
        assert work.notes == ("1 blank lines passed over",)


@pytest.mark.parametrize(
    ("name", "suggested"),
    [("Shapes.txt", "shapes"), ("My prompts (1).txt", "my-prompts-1"), ("日本.txt", "job")],
)
def test_the_name_of_a_file_suggests_one_for_the_job(read: Read, name: str, suggested: str) -> None:
    work = read(name, "a cat\n").work
    assert (work.name, work.suggested_name, work.priority) == (None, suggested, 0)


# Job files


def test_a_job_file_sets_name_seed_priority_defaults_and_sweep(read: Read) -> None:
    content = """\
name: mine
seed: 4
priority: 2
defaults: {steps: 3, n: 2}
sweep: [{width: [64, 128], height: [128, 64]}]
items: [{prompt: a}, {prompt: b, steps: 5}]
"""
    reading = read("job.yaml", content)
    work = reading.work
    assert (work.name, work.suggested_name, work.priority) == ("mine", "mine", 2)
    assert (work.rows, work.items) == (2, 8)
    assert [
        (spec.width, spec.height, spec.num_inference_steps, len(items))
        for spec, items in reading.groups
    ] == [(64, 128, 3, 2), (128, 64, 3, 2), (64, 128, 5, 2), (128, 64, 5, 2)]
    assert {item.seed for item in reading.items} == {
        derive_seed(4, row, image) for row in (0, 1) for image in (0, 1)
    }


def test_texts_of_a_job_file_are_no_numbers(refused: Callable[..., ManifestProblems]) -> None:
    error = refused("job.yaml", 'items:\n - {prompt: a}\n - {prompt: b, seed: "7"}\n')
    assert error.message == "job.yaml:3: seed: must be a whole number, not '7'"


def test_a_wrong_key_of_one_item_leaves_the_others_alone(read: Read) -> None:
    content = "items:\n - {prompt: a}\n - {promtp: b}\n - {prompt: c}\n"
    reading = read("job.yaml", content, skip_invalid=True)
    assert reading.prompts == ["a", "c"]
    assert reading.total == 1


def test_the_command_line_beats_the_job_file(read: Read) -> None:
    content = "name: mine\nseed: 4\npriority: 2\ndefaults: {steps: 3}\nitems: [{prompt: a}]\n"
    options = {"name": "yours", "seed": 9, "priority": 0, "defaults": {"steps": "7"}}
    reading = read("job.yaml", content, options)
    assert (reading.work.name, reading.work.priority) == ("yours", 0)
    assert reading.seeds == [derive_seed(9, 0, 0)]
    assert reading.groups[0][0].num_inference_steps == 7


def test_a_job_file_may_name_a_manifest_beside_it(read: Read, write: Write) -> None:
    write("all.csv", "prompt,seed\na,1\nb,2\n")
    reading = read("job.yaml", "manifest: all.csv\ndefaults: {steps: 3}\n")
    assert reading.seeds == [1, 2]
    assert reading.groups[0][0].num_inference_steps == 3


def test_problems_of_the_manifest_of_a_job_file_name_the_manifest(
    refused: Callable[..., ManifestProblems], write: Write
) -> None:
    path = write("all.csv", "prompt,seed\na,-1\n")
    said = refused("job.yaml", "manifest: all.csv\n").message
    assert said == f"{path}:2: seed: must be 0 to 4294967295, not -1"


def test_problems_of_the_job_file_itself_name_the_job_file(
    refused: Callable[..., ManifestProblems], write: Write
) -> None:
    write("all.csv", "prompt\na\n")
    said = refused("job.yaml", "manifest: all.csv\ndefaults: {steps: 0}\n").message
    assert said == "job.yaml: defaults.steps: must be 1 to 1000, not 0"


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ("other.yaml", "a job file cannot name another one"),
        ("nowhere.csv", "there is no such file"),
        ("nowhere", "cannot tell its format by its name"),
        ('"-"', "cannot tell its format by its name"),
        ('"a\\0b.csv"', "cannot be a file's name"),
        (".", "cannot tell its format by its name"),
    ],
)
def test_a_manifest_that_a_job_file_cannot_name_is_refused(
    read: Read, manifest: str, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        read("job.yaml", f"manifest: {manifest}\n")


# Bad input


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", "", "a.txt: is empty"),
        ("a.txt", "\n \n", "a.txt: is empty"),
        ("a.csv", "", "a.csv: is empty"),
        ("a.csv", "prompt\n", "a.csv: is empty"),
        ("a.csv", "\ufeff", "a.csv: is empty"),
        ("a.tsv", "", "a.tsv: is empty"),
        ("a.jsonl", "", "a.jsonl: is empty"),
        ("a.jsonl", "\n\n", "a.jsonl: is empty"),
        ("a.parquet", table(prompt=pa.array([], pa.string())), "a.parquet: is empty"),
        ("a.parquet", b"", "a.parquet: is not a readable Parquet file: "),
        ("a.yaml", "", "a.yaml: must be a mapping with 'items' or 'manifest'"),
        ("a.yaml", "items: []\n", "a.yaml: is empty"),
    ],
)
def test_an_empty_manifest_is_refused(
    refused: Callable[..., ManifestProblems], name: str, content: str | bytes, said: str
) -> None:
    for skip_invalid in (True, False):
        error = refused(name, content, skip_invalid=skip_invalid)
        assert error.message.startswith(said)
        assert error.exit_code == 2


GARBAGE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)) * 40


@pytest.mark.parametrize("content", [GARBAGE, "prompt\na".encode("utf-16"), bytes(5000)])
@pytest.mark.parametrize("kind", FORMATS)
def test_binary_garbage_is_one_problem_in_any_format(
    refused: Callable[..., ManifestProblems], kind: str, content: bytes
) -> None:
    for skip_invalid in (True, False):
        error = refused("a", content, format=kind, skip_invalid=skip_invalid)
        assert error.problems.total == 1
        assert re.match(r"a: (is|cannot) ", error.message)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text_id,note\n1,x\n2,y\n"),
        ("a.tsv", "text_id\tnote\n1\tx\n2\ty\n"),
        ("a.parquet", table(text_id=[1, 2], note=["x", "y"])),
    ],
)
def test_a_table_without_prompts_is_one_problem_that_names_its_columns(
    refused: Callable[..., ManifestProblems], name: str, content: str | bytes
) -> None:
    for skip_invalid in (True, False):
        error = refused(name, content, skip_invalid=skip_invalid)
        assert error.message == (
            f"{name}:1: prompt: is missing; the columns are: 'text_id', 'note'"
        )


@pytest.mark.parametrize("option", ["defaults", "overrides"])
def test_a_table_without_prompts_will_do_if_the_command_line_has_one(
    read: Read, option: str
) -> None:
    reading = read("a.csv", "seed\n1\n2\n", **{option: {"prompt": "a cat"}})
    assert reading.prompts == ["a cat", "a cat"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "a.csv",
            "prompt,width\n" + "a,64\n" * 30_000 + "a,wide\n",
            "a.csv:30002: width: must be a whole number, not 'wide'",
        ),
        (
            "a.jsonl",
            lines({"prompt": "a", "seed": 1}) * 30_000 + lines({"prompt": "a", "seed": "x"}),
            "a.jsonl:30001: seed: must be a whole number, not 'x'",
        ),
        (
            "a.jsonl",
            lines({"prompt": "a", "clip_skip": 1}) * 30_000
            + lines({"prompt": "a", "clip_skip": True}),
            "a.jsonl:30001: clip_skip: must be a whole number, not True",
        ),
        (
            "a.parquet",
            table(prompt=["a"] * 30_001, width=[64] * 30_000 + [-64]),
            "a.parquet:30001: width: must be 1 to 8192, not -64",
        ),
        ("a.txt", b"a\n" * 30_000 + b"caf\xe9\n", "a.txt:30001: is not UTF-8: byte 4 is 0xe9"),
    ],
    ids=["CSV", "JSONL", "truth value", "Parquet", "text"],
)
def test_a_fault_in_a_late_row_is_found_before_anything_is_made(
    refused: Callable[..., ManifestProblems], name: str, content: str | bytes, said: str
) -> None:
    error = refused(name, content)
    assert error.message == said
    assert error.hint == "mend them, or render the other rows with --skip-invalid"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"width": -64}, "width: must be 1 to 8192, not -64"),
        ({"height": 0}, "height: must be 1 to 8192, not 0"),
        ({"width": 100}, "width: must be divisible by 8; 100 is not, 96 and 104 would be"),
        ({"width": 9000}, "width: is 9000; the limit is 8,192 (RENDERMILL_MAX_SIDE)"),
        ({"scheduler": "eulr"}, "scheduler: no sampler 'eulr'; did you mean 'euler'? allowed: "),
        ({"model": "nothing"}, "model: no model 'nothing' (there are: starter, other)"),
        ({"guidance_scale": True}, "guidance_scale: must be a number, not True"),
        ({"promtp": "b"}, "promtp: is no field; did you mean 'prompt'? To keep it as a tag, name"),
        ({"seed": 2**32}, "seed: must be 0 to 4294967295, not 4294967296"),
        ({"clip_skip": 12}, "clip_skip: must be 0 to 11 for this model, not 12"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_value_is_refused_with_place_field_and_what_is_allowed(
    refused: Callable[..., ManifestProblems], row: dict[str, Any], said: str
) -> None:
    content = lines({"prompt": "a"}, {"prompt": "a"} | row)
    assert refused("a.jsonl", content).message.startswith(f"a.jsonl:2: {said}")


def test_honest_columns_of_prompt_sets_pass_as_tags(read: Read) -> None:
    header = "prompt,prompt_id,weight,test,note,category,style,image_id,source,split"
    reading = read("a.csv", f"{header}\na,{',x' * 8}\n")
    assert reading.work.tag_names == tuple(sorted(header.split(",")[1:]))


def test_an_unknown_model_of_the_command_line_is_a_problem_of_each_row(
    refused: Callable[..., ManifestProblems],
) -> None:
    error = refused("a.txt", "a\nb\n", model="nothing")
    assert error.message.splitlines()[0].startswith("a.txt:1: model: no model 'nothing'")
    assert error.problems.total == 2


def test_a_hundred_problems_are_shown_and_all_are_counted(
    refused: Callable[..., ManifestProblems],
) -> None:
    error = refused("a.csv", "prompt,seed\n" + "a,-1\n" * 5000)
    said = error.message.splitlines()
    assert said[0] == "a.csv:2: seed: must be 0 to 4294967295, not -1"
    assert said[99].startswith("a.csv:101: seed: ")
    assert said[100:] == ["... and 4,900 more problems"]


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.tsv", "a.jsonl"])
def test_a_prompt_of_ten_megabytes_is_refused_and_never_held(
    refused: Callable[..., ManifestProblems], name: str
) -> None:
    long = "x" * (10 << 20)
    start = {"a.txt": "", "a.csv": "prompt\n", "a.tsv": "prompt\n", "a.jsonl": ""}[name]
    line = lines({"prompt": long}) if name == "a.jsonl" else f"{long}\n"
    content = f"{start}{line}".encode()
    del long, line
    tracemalloc.start()
    error = refused(name, content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert error.message == (
        f"{name}:{2 if start else 1}: the line is too long; the limit is 1,048,576"
        " (RENDERMILL_MAX_ROW_BYTES)"
    )
    assert peak < 8 << 20


def test_a_long_prompt_that_fits_a_line_is_refused_by_its_length_alone(
    refused: Callable[..., ManifestProblems],
) -> None:
    error = refused("a.txt", "x" * 20_000 + "\n")
    assert error.message == (
        "a.txt:1: prompt: is 20,000 characters long; the limit is 10,000"
        " (RENDERMILL_MAX_PROMPT_CHARS)"
    )


# Going on without the bad rows

MIXED = lines(
    {"prompt": "a"},
    {"prompt": "b", "seed": -1, "width": -8},
    {"prompt": "c", "n": 2},
    {"prompt": 7},
    {"prompt": "e"},
)


def test_bad_rows_are_recorded_and_the_others_rendered(read: Read) -> None:
    reading = read("a.jsonl", MIXED, skip_invalid=True)
    assert reading.prompts == ["a", "c", "c", "e"]
    assert [(one["row"], one["line"]) for one in reading.rejected] == [(1, 2), (3, 4)]
    assert [len(one["problems"]) for one in reading.rejected] == [1, 1]
    assert reading.rejected[1]["problems"][0].endswith("a.jsonl:4: prompt: must be text, not 7")
    assert reading.work.problems.rejected_rows == 2
    assert reading.work.rows == 5


def test_bad_rows_shift_no_seeds(read: Read) -> None:
    mended = MIXED.replace("-1", "1").replace("-8", "8").replace("7}", '"d"}')
    whole = {(item.row, item.image_no): item.seed for item in read("a.jsonl", mended).items}
    rest = read("a.jsonl", MIXED, skip_invalid=True).items
    assert all(item.seed == whole[item.row, item.image_no] for item in rest)


def test_all_bad_rows_are_recorded_beyond_those_that_are_shown(read: Read) -> None:
    content = "prompt,seed\n" + "a,-1\n" * 300 + "b,1\n"
    reading = read("a.csv", content, skip_invalid=True)
    assert len(reading.rejected) == 300
    assert len(reading.problems) == 100
    assert reading.prompts == ["b"]


def test_a_manifest_of_bad_rows_alone_is_refused_and_says_so(
    refused: Callable[..., ManifestProblems],
) -> None:
    error = refused("a.csv", "prompt,seed\n" + "a,-1\n" * 300, skip_invalid=True)
    assert error.message.splitlines()[-2:] == [
        "a.csv: has no row to render",
        "... and 200 more problems",
    ]


# Digests


def test_the_digest_is_that_of_content_and_settings(read: Read) -> None:
    content = "a cat\n"

    def digest(text: str = content, name: str = "a.txt", **options: Any) -> str:
        found: str = read(name, text, **options).work.digest
        return found

    assert digest() == digest(name="b.txt") == digest(priority=3) == digest(on_cpu=False)
    others = [
        digest("a cat"),
        digest(seed=1),
        digest(overrides={"steps": "3"}),
        digest(defaults={"steps": "3"}),
        digest(dtype="float16"),
        digest(skip_invalid=True),
        digest(model="other"),
    ]
    assert len({digest(), *others}) == 1 + len(others)


def test_the_digest_of_a_job_file_covers_the_manifest_it_names(read: Read, write: Write) -> None:
    job = "manifest: all.txt\n"
    digests = []
    for content in ("a\n", "b\n"):
        write("all.txt", content)
        digests.append(read("job.yaml", job).work.digest)
    digests.append(read("job.yaml", job + "# changed\n").work.digest)
    assert len(set(digests)) == 3


# Dry runs and disks


def test_a_dry_run_counts_and_keeps_nothing(describe: Describe, write: Write) -> None:
    options = SubmitOptions(manifest=write("a.jsonl", MIXED), skip_invalid=True)
    with prepared(options, limits=Limits(), describe=describe, dry_run=True) as work:
        assert isinstance(work.sink, CountingSink)
        assert (work.items, work.sink.counts) == (4, [4])
        assert [(one.first_item, one.stop_item) for one in work.groups] == [(0, 4)]


def test_a_full_disk_under_the_temporary_files_is_a_clear_error(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_options: Full())
    with pytest.raises(StoreFull, match="no space left for temporary files in ") as caught:
        read("a.txt", "a cat\n")
    assert caught.value.hint is not None
    assert "nothing was written" in caught.value.hint


def test_another_error_of_whoever_uses_a_manifest_stays_what_it_is(
    describe: Describe, write: Write
) -> None:
    def use() -> None:
        options = SubmitOptions(manifest=write("a.txt", "a cat\n"))
        with prepared(options, limits=Limits(), describe=describe):
            raise BrokenPipeError(errno.EPIPE, "whoever read our output has seen enough")

    with pytest.raises(BrokenPipeError):
        use()


def test_temporary_files_are_closed_whatever_happens(
    describe: Describe, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[io.BytesIO] = []

    def temporary(**_options: Any) -> io.BytesIO:
        made.append(io.BytesIO())
        return made[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", temporary)
    options = SubmitOptions(manifest=write("a.jsonl", MIXED), skip_invalid=True)

    def interrupted() -> None:
        with prepared(options, limits=Limits(), describe=describe) as work:
            assert isinstance(work.sink, ItemSpool)
            list(work.sink.shards())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(made) == 2
    assert all(file.closed for file in made)


def test_memory_stays_flat_over_four_times_the_rows(
    describe: Describe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Smaller buffers than usual, so that few rows are many.
    monkeypatch.setattr(lines_module, "_BLOCK", 1 << 14)
    monkeypatch.setattr(spool, "_BUFFERED_BYTES", 1 << 14)
    peaks = []
    for count in (4_000, 16_000):
        path = tmp_path / f"{count}.csv"
        with open(path, "w") as file:
            file.write("prompt,seed,width,category\n")
            file.writelines(f"prompt {n},{n},{64 + n % 4 * 8},c{n % 9}\n" for n in range(count))
        tracemalloc.start()
        with prepared(
            SubmitOptions(manifest=str(path)), limits=Limits(), describe=describe
        ) as work:
            assert work.items == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.3


# Dynamic prompts


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    (tmp_path / "colour.txt").write_text("red\nblue\n")
    return tmp_path


def test_a_job_file_asks_for_every_combination(tmp_path: Path, colours: Path) -> None:
    content = "dynamic_prompts: combinatorial\nwildcards: [.]\nitems:\n"
    content += " - prompt: a __colour__ {x|y}\n"
    job_file = tmp_path / "job.yaml"
    job_file.write_text(content)
    options = SubmitOptions(manifest=str(job_file))
    with prepared(options, limits=Limits(), describe=lambda *_: make_card()) as work:
        assert isinstance(work.sink, ItemSpool)
        ((_, count, _),) = work.sink.shards()
        assert (work.rows, work.items, count) == (1, 4, 4)
        before = work.digest
    (colours / "colour.txt").write_text("red\ngreen\n")
    with prepared(options, limits=Limits(), describe=lambda *_: make_card()) as work:
        assert work.digest != before


def test_a_template_that_cannot_be_used_is_a_problem_of_file_line_and_field(
    tmp_path: Path, colours: Path
) -> None:
    manifest = tmp_path / "a.csv"
    manifest.write_text("prompt,negative_prompt\na,b\na __colours__,{b\n")
    options = SubmitOptions(
        manifest=str(manifest), dynamic_prompts="random", wildcards=[str(colours)]
    )
    with (
        pytest.raises(ManifestProblems) as caught,
        prepared(options, limits=Limits(), describe=lambda *_: make_card()),
    ):
        pass
    assert caught.value.message == (
        f"{manifest}:3: prompt: colours: there is no such wildcard in {colours};"
        " did you mean __colour__?"
    )


# Anything


@pytest.mark.parametrize("kind", FORMATS)
@given(content=st.binary(max_size=120), start=st.sampled_from([b"", b"prompt\n", b"items:\n - "]))
def test_any_bytes_are_items_or_a_clear_error(kind: str, content: bytes, start: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a")
        path.write_bytes(start + content)
        options = SubmitOptions(manifest=str(path), format=kind, skip_invalid=True)
        try:
            with prepared(
                options, limits=Limits(), describe=lambda model, _: make_card(model=model)
            ) as work:
                assert work.items + work.problems.rejected_rows >= work.rows
        except InputError as error:
            said = error.message
        else:
            return
        assert said.startswith(str(path))


@pytest.mark.parametrize(
    ("asked", "length", "settled"),
    [
        ("auto", 1, "never"),
        ("auto", 9000, "always"),
        ("always", 1, "always"),
        ("never", 9, "never"),
    ],
)
def test_whether_to_compile_is_settled_by_the_length_of_the_group(
    read: Read, asked: str, length: int, settled: str
) -> None:
    row = {
        "prompt": "a",
        "compile": asked,
        "num_images": length,
        "steps": 1000,
        "width": 1024,
        "height": 1024,
    }
    spec = read("a.jsonl", lines(row), on_cpu=False).groups[0][0]
    assert spec.compile == settled
