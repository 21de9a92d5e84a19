"""YAML job files."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import io
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from scheduler.manifest import jobfile
from scheduler.manifest.jobfile import MAX_DEPTH, ItemsReader, manifest_path, read_job_file
from scheduler.manifest.problems import FieldError, ManifestProblems, Problems


def read(text: str | bytes, *, max_bytes: int = 1 << 20) -> Any:
    data = text.encode() if isinstance(text, str) else text
    return read_job_file(io.BytesIO(data), Problems("job.yaml"), max_bytes=max_bytes)


def refused(text: str | bytes, **options: Any) -> ManifestProblems:
    with pytest.raises(ManifestProblems) as caught:
        read(text, **options)
    return caught.value


def test_a_job_file_says_all_about_a_job() -> None:
    text = """\
name: shapes-1
seed: 7
priority: -5
defaults: {steps: 8}
sweep:
  - {width: [64, 128], height: [64, 128]}
  - cfg: [1.5, 7]
items:
  - prompt: a cat
    tags: {kind: animal}

  - {prompt: a dog, seed: 3}
"""
    job, lines, digest = read(text)
    assert (job.name, job.seed, job.priority) == ("shapes-1", 7, -5)
    assert job.defaults == {"steps": 8}
    assert job.sweep == [{"width": [64, 128], "height": [64, 128]}, {"cfg": [1.5, 7]}]
    assert job.items == [
        {"prompt": "a cat", "tags": {"kind": "animal"}},
        {"prompt": "a dog", "seed": 3},
    ]
    assert lines == [9, 12]
    assert digest == hashlib.sha256(text.encode()).hexdigest()


def test_a_job_file_may_name_a_manifest_instead() -> None:
    job, lines, _ = read("manifest: prompts/all.csv\n")
    assert (job.manifest, job.items, lines) == ("prompts/all.csv", None, [])


@pytest.mark.parametrize(
    ("job", "manifest", "expected"),
    [
        ("jobs/a.yaml", "b.csv", "jobs/b.csv"),
        ("jobs/a.yaml", "../b.csv", "jobs/../b.csv"),
        ("jobs/a.yaml", "/data/b.csv", "/data/b.csv"),
        ("a.yaml", "b.csv", "b.csv"),
    ],
)
def test_the_manifest_lies_where_the_job_file_lies(job: str, manifest: str, expected: str) -> None:
    assert manifest_path(Path(job), manifest) == Path(expected)


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm() -> None:
    job, lines, _ = read(b"\xef\xbb\xbfitems:\r\n  - prompt: a\r\n  - prompt: b\r\n")
    assert [item["prompt"] for item in job.items] == ["a", "b"]
    assert lines == [2, 3]


def test_aliases_and_merges_are_what_yaml_makes_of_them() -> None:
    job, lines, _ = read("items:\n - &a {prompt: a, seed: 1}\n - {<<: *a, prompt: b}\n - *a\n")
    assert job.items == [
        {"prompt": "a", "seed": 1},
        {"prompt": "b", "seed": 1},
        {"prompt": "a", "seed": 1},
    ]
    assert len(lines) == 3


def test_items_merged_in_under_items_of_its_own_count_for_nothing() -> None:
    job, lines, _ = read("<<: {items: [{prompt: a}, {prompt: b}]}\nitems:\n - prompt: c\n")
    assert job.items == [{"prompt": "c"}]
    assert lines == [3]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "job.yaml: must be a mapping with 'items' or 'manifest'"),
        ("# nothing\n", "job.yaml: must be a mapping with 'items' or 'manifest'"),
        ("- prompt: a\n", "job.yaml: must be a mapping with 'items' or 'manifest'"),
        ("a prompt\n", "job.yaml: must be a mapping with 'items' or 'manifest'"),
        ("name: a\n", "job.yaml: needs either 'items' or 'manifest'"),
        ("items: [{}]\nmanifest: a.csv\n", "job.yaml: needs either 'items' or 'manifest'"),
        ("item: [{}]\nitems: []\n", "job.yaml: item: Extra inputs are not permitted"),
        ("items: {prompt: a}\n", "job.yaml: items: Input should be a valid list"),
        ("items: [a cat]\n", "job.yaml: items.0: Input should be a valid dictionary"),
        ("items: [{1: a}]\n", "job.yaml: items.0.1.[key]: Input should be a valid string"),
        ("items: []\nname: A b\n", "job.yaml: name: String should match pattern"),
        ("items: []\nname: 7\n", "job.yaml: name: Input should be a valid string"),
        ("items: []\nseed: -1\n", "job.yaml: seed: Input should be greater than or equal to 0"),
        ("items: []\nseed: true\n", "job.yaml: seed: Input should be a valid integer"),
        ("items: []\nseed: 4294967296\n", "job.yaml: seed: Input should be less than or equal"),
        ("items: []\npriority: 1.5\n", "job.yaml: priority: Input should be a valid integer"),
        ("items: []\npriority: 2000\n", "job.yaml: priority: Input should be less than or equal"),
        ("items: []\nsweep: {seed: [1]}\n", "job.yaml: sweep: Input should be a valid list"),
        ("items: []\nsweep: [{seed: 1}]\n", "job.yaml: sweep.0.seed: Input should be a valid list"),
        ("items: []\ndefaults: [1]\n", "job.yaml: defaults: Input should be a valid dictionary"),
        ("manifest: [a.csv]\n", "job.yaml: manifest: Input should be a valid string"),
        ("items: []\nname: a\nname: b\n", "job.yaml:3: name: is there twice"),
        ("items:\n - {prompt: a,\n    prompt: b}\n", "job.yaml:3: prompt: is there twice"),
        ("items: []\ndefaults: {a: {b: 1, b: 2}}", "job.yaml:2: b: is there twice"),
        ("items:\n - prompt: a: b\n", "job.yaml:2: cannot be read as YAML: mapping values are not"),
        ("items:\n - prompt: {a\n", "job.yaml:3: cannot be read as YAML: did not find expected"),
        ("items: [\n", "job.yaml:2: cannot be read as YAML: did not find expected node content"),
        ("items: []\n---\nitems: []\n", "job.yaml:2: cannot be read as YAML: but found another"),
        ("items: [*a]\n", "job.yaml:1: cannot be read as YAML: found undefined alias"),
        ("items: [!!python/name:os.system a]\n", "job.yaml:1: cannot be read as YAML: could not"),
        ("items:\n\t- prompt: a\n", "job.yaml:2: cannot be read as YAML: found character that"),
        ("items: [{[a]: b}]\n", "job.yaml:1: cannot be read as YAML: found unhashable key"),
        (
            "items:\n- prompt: 2001-99-99\n",
            "job.yaml:2: cannot be read as YAML: '2001-99-99' is no",
        ),
        ("items:\n- seed: 0b_\n", "job.yaml:2: cannot be read as YAML: '0b_' is no valid int"),
        ("items: [{seed: !!int a}]\n", "job.yaml:1: cannot be read as YAML: 'a' is no valid int"),
        (
            "items: [{seed: !!float ''}]\n",
            "job.yaml:1: cannot be read as YAML: '' is no valid float",
        ),
        ("items: [{seed: !!bool a}]\n", "job.yaml:1: cannot be read as YAML: 'a' is no valid bool"),
        ("items: [{a: !!timestamp b}]\n", "job.yaml:1: cannot be read as YAML: 'b' is no valid t"),
        (f"items: [{{a: {'9' * 5000}}}]\n", "job.yaml:1: cannot be read as YAML: '999"),
        ('items:\n - prompt: "\\ud800"\n', "job.yaml:2: cannot be read as YAML: found invalid U"),
        (b"items:\n - prompt: caf\xe9\n", "job.yaml: is not UTF-8: byte 22 is 0xe9"),
        ("items: []\n".encode("utf-16"), "job.yaml: is not UTF-8: byte 1 is 0xff"),
        (b"items: [a\0b]\n", "job.yaml: cannot be read as YAML: unacceptable character #x0000"),
        (b"\x89PNG\r\n\x1a\n\0\0", "job.yaml: is not UTF-8: byte 1 is 0x89"),
    ],
)
def test_a_bad_job_file_is_refused_in_words(text: str | bytes, said: str) -> None:
    assert refused(text).message.startswith(said)


def test_all_faults_are_found_at_once() -> None:
    message = refused("nam: a\nseed: x\nitems: [1, {}]\n").message
    assert [line.split(":")[1].strip() for line in message.splitlines()] == [
        "seed",
        "items.0",
        "nam",
    ]


@pytest.mark.parametrize(
    "text",
    ["items: " + "[" * 100_000, "- " * 100_000, "items: " + "{a: " * 100_000, "? " * 100_000],
    ids=["lists", "blocks", "mappings", "keys"],
)
def test_nesting_that_would_end_the_process_is_refused(text: str) -> None:
    message = refused(text).message
    assert (
        message == f"job.yaml:1: cannot be read as YAML: is nested deeper than {MAX_DEPTH} levels"
    )


def test_aliases_that_nest_into_gigabytes_cost_nothing() -> None:
    lines = [f"   l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 30)]
    job, _, _ = read("items:\n - prompt: a\n   l0: &l0 [x]\n" + "".join(lines))
    assert len(job.items[0]) == 31


def test_many_items_beside_each_other_are_not_deep() -> None:
    job, lines, _ = read("items:\n" + " - {prompt: a, tags: {a: b}}\n" * 1000)
    assert len(job.items) == len(lines) == 1000


@pytest.mark.parametrize("priority", [-1000, 1000])
def test_a_job_file_may_be_as_large_and_as_urgent_as_allowed(priority: int) -> None:
    text = f"items: []\npriority: {priority}\n"
    job, _, _ = read(text, max_bytes=len(text))
    assert job.priority == priority
    assert "too large" in refused(text, max_bytes=len(text) - 1).message


def test_a_job_file_that_is_too_large_is_refused_with_what_to_do() -> None:
    error = refused("items: []\n" + "#" * 100, max_bytes=100)
    assert error.message == (
        "job.yaml: is too large for a job file; the limit is 100 (RENDERMILL_MAX_JOB_FILE_BYTES)"
    )
    assert error.hint is not None
    assert "JSONL" in error.hint


def test_a_disk_that_fails_is_a_clear_error() -> None:
    class Failing(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    stream: Any = Failing()
    with pytest.raises(ManifestProblems, match="cannot be read: Input/output error"):
        read_job_file(stream, Problems("job.yaml"), max_bytes=100)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('items:\n - prompt: "\\ud800"\n', "job.yaml:2: '\\ud800' is not UTF-8"),
        ('items: [{"\\udc00": a}]\n', "job.yaml:1: '\\udc00' is not UTF-8"),
        ('items: [{prompt: "\\U0FFFFFFF"}]\n', "job.yaml: "),
        ("items: " + "[" * 5000, "job.yaml:1: cannot be read as YAML: is nested deeper than"),
        ("items: [{a: 2001-99-99}]\n", "job.yaml:1: cannot be read as YAML: '2001-99-99' is no"),
    ],
    ids=["value", "key", "no character", "nesting", "date"],
)
def test_all_holds_for_the_parser_in_python_too(
    monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    # PyYAML may be built without its parser in C, which is chosen when the module is loaded.
    monkeypatch.delattr(yaml, "CSafeLoader")
    spec = importlib.util.spec_from_file_location("jobfile_without_c", jobfile.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    with pytest.raises(ManifestProblems) as caught:
        module.read_job_file(io.BytesIO(text.encode()), Problems("job.yaml"), max_bytes=1 << 20)
    assert caught.value.message.startswith(said)


# Items as rows


def test_items_are_rows_with_the_lines_they_start_on() -> None:
    reader = ItemsReader([{"prompt": "a"}, {"prompt": "b"}], [3, 7])
    assert list(reader.rows()) == [(3, {"prompt": "a"}), (7, {"prompt": "b"})]
    assert (reader.digest, reader.notes) == ("", [])


def test_a_key_that_is_no_text_is_a_problem_of_its_item() -> None:
    odd: Any = {"prompt": "a", True: "b"}
    ((line, error),) = ItemsReader([odd], [3]).rows()
    assert isinstance(error, FieldError)
    assert (line, error.field) == (3, "True")


# Anything


@given(st.binary(max_size=200))
def test_any_bytes_are_a_job_or_one_clear_error(data: bytes) -> None:
    try:
        job, lines, _ = read(data)
    except ManifestProblems:
        return
    assert job.items is None or len(job.items) == len(lines)


YAML = st.text(st.sampled_from("ab01._-+:,?!&*#|>'\"%@[]{}<=~ \n\tex"), max_size=60)
TAGS = ("!!int ", "!!float ", "!!bool ", "!!timestamp ", "!!binary ", "!!set ", "!!omap ", "")


@given(YAML, st.sampled_from(TAGS))
def test_anything_that_looks_like_yaml_is_a_job_or_one_clear_error(text: str, tag: str) -> None:
    for whole in (f"items:\n - prompt: {tag}{text}\n", f"items: {tag}{text}\n", text):
        try:
            job, lines, _ = read(whole)
        except ManifestProblems:
            continue
        assert job.items is None or len(job.items) == len(lines)
