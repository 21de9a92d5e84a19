"""Marking, deleting and purging from the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

from scheduler.cli.keeping import bytes_of, seconds_of
from storage.contract.errors import InputError

Run = Callable[..., Result]
ReadJson = Callable[..., Any]


def images_of(read_json: ReadJson, query: str) -> list[str]:
    return [one["image"] for one in read_json("images", query, "--sort", "created")["images"]]


def test_images_are_tagged_rated_and_collected(run: Run, read_json: ReadJson) -> None:
    assert read_json("tag", "add", "mood=calm", "job:birds") == {"images": 2}
    assert read_json("rate", "5", "birds/1") == {"images": 1}
    assert read_json("collection", "add", "best", "rating:5") == {"images": 1}
    assert images_of(read_json, "tag.mood:calm") == ["birds/0", "birds/1"]
    assert images_of(read_json, "collection:best") == ["birds/1"]
    assert read_json("collection", "list") == [{"name": "best", "images": 1}]
    assert "best" in run("collection", "list").output
    assert read_json("tag", "remove", "mood", "birds/0") == {"images": 1}
    assert read_json("collection", "remove", "best") == {"images": 1}
    assert images_of(read_json, "tag.mood:calm") == ["birds/1"]
    assert "There are no collections" in run("collection", "list").output


def test_deleting_asks_and_hides(run: Run, read_json: ReadJson) -> None:
    assert read_json("delete", "job:birds", "--dry-run")["images"] == 2
    assert "Delete 2 images" in run("delete", "job:birds", code=1).output
    assert images_of(read_json, "job:birds") == ["birds/0", "birds/1"]
    assert "2 images are hidden" in run("delete", "job:birds", "--yes").output
    assert images_of(read_json, "job:birds") == []
    assert "1 images changed" in run("undelete", "birds/0").output
    assert images_of(read_json, "job:birds") == ["birds/0"]


def test_a_purge_says_what_went(run: Run, read_json: ReadJson) -> None:
    run("delete", "birds/0", "--yes")
    assert read_json("purge") == {"hidden": 0, "images": 0, "objects": 0}
    foreseen = read_json("purge", "--dry-run")
    assert foreseen["hidden"]["images"] == 1
    assert read_json("purge", "--older-than", "0s")["images"] == 1
    assert images_of(read_json, "hidden:true") == []


def test_retention_rules_are_kept_and_applied(run: Run, read_json: ReadJson) -> None:
    rule = read_json("retention", "add", "job:birds", "--max-bytes", "0", "--keep", "900d")["rule"]
    assert "job:birds" in run("retention", "list").output
    assert "would hide 2 images" in " ".join(run("purge", "--dry-run").output.split())
    assert read_json("purge")["hidden"] == 2
    run("retention", "remove", str(rule))
    assert read_json("retention", "list") == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tag", "add", "calm", "birds/0"], "must be NAME=VALUE"),
        (["rate", "9", "birds/0"], "from 1 to 5"),
        (["delete", " "], "needs a query"),
        (["purge", "--older-than", "soon"], "must be an age"),
        (["retention", "add", "*"], "needs --keep or --max-bytes"),
        (["retention", "remove", "77"], "no retention rule 77"),
    ],
)
def test_what_makes_no_sense_is_refused(run: Run, arguments: list[str], said: str) -> None:
    with pytest.raises(Exception, match=said):
        run(*arguments)


@pytest.mark.parametrize(
    ("text", "seconds"), [("7d", 604_800.0), ("0s", 0.0), ("2h", 7_200.0), ("1Y", 31_557_600.0)]
)
def test_ages(text: str, seconds: float) -> None:
    assert seconds_of(text, "--keep") == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("10GB", 10**10), ("0", 0), ("1.5 kB", 1_500), ("2GiB", 2 << 30), ("3Ki", 3 << 10)],
)
def test_sizes(text: str, size: int) -> None:
    assert bytes_of(text, "--max-bytes") == size


@pytest.mark.parametrize("text", ["", "x", "-1GB", "10XB", "1e9", "9" * 30])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="must be a size"):
        bytes_of(text, "--max-bytes")
