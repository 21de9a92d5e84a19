"""Searching from the command line."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

from scheduler.cli import searching
from storage.contract.errors import InputError

Run = Callable[..., Result]
ReadJson = Callable[..., Any]


def images_of(found: Any) -> list[str]:
    return [one["image"] for one in found["images"]]


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (["outcome:failed"], 1),
        (["job:shapes outcome:rendered"], 4),
        (["*", "--failed"], 1),
        (["*", "--job", "birds"], 2),
        (["*", "--job", "2"], 2),
        (["--prompt-like", "%a red%"], 2),
        (["red", "--contains", "STAR"], 1),
        (["width:64 -job:birds"], 5),
        (["nowhere"], 0),
    ],
)
def test_images_are_found_by_query_and_options_together(
    read_json: ReadJson, arguments: list[str], count: int
) -> None:
    assert len(read_json("images", *arguments)["images"]) == count


def test_pages_go_on_and_back(read_json: ReadJson) -> None:
    whole = images_of(read_json("images", "*", "--sort", "seed"))
    first = read_json("images", "*", "--sort", "seed", "--limit", "3")
    assert first["previous"] is None
    second = read_json("images", "*", "--sort", "seed", "--limit", "3", "--after", first["next"])
    back = ("--limit", "3", "--before", second["previous"])
    again = read_json("images", "*", "--sort", "seed", *back)
    assert images_of(first) + images_of(second) == whole[:6]
    assert images_of(again) == images_of(first)
    assert again["previous"] is None


def test_a_cursor_goes_with_its_query(run: Run, read_json: ReadJson) -> None:
    cursor = read_json("images", "*", "--sort", "seed", "--limit", "3")["next"]
    with pytest.raises(InputError, match="another query"):
        run("images", "seed:1", "--sort", "seed", "--after", cursor)


@pytest.mark.parametrize(
    "arguments",
    [
        ["widht:3"],
        ["*", "--sort", "prompt"],
        ["*", "--sort", "--seed"],
        ["*", "--count", "perhaps"],
        ["*", "--after", "x", "--before", "y"],
        ["--prompt-like", "%" * 30],
        ["--prompt-like", "\x07"],
    ],
)
def test_what_cannot_be_asked_is_bad_input(run: Run, arguments: list[str]) -> None:
    with pytest.raises(InputError):
        run("images", *arguments)


def test_counts_are_told(run: Run, read_json: ReadJson) -> None:
    assert read_json("images", "*", "--count", "exact") == {"images": 7, "exact": True}
    assert read_json("images", "job:birds", "--count", "about") == {"images": 2, "exact": True}
    assert "about" in run("images", "red job:shapes", "--count", "about").output


def test_a_search_is_printed_as_csv(run: Run) -> None:
    result = run("images", "job:birds", "--sort", "seed", "--csv")
    rows = sorted(csv.DictReader(io.StringIO(result.output)), key=lambda row: row["image"])
    assert [row["image"] for row in rows] == ["birds/0", "birds/1"]
    assert rows[0]["file"].endswith(".png")


def test_pictures_are_opened(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("typer.launch", opened.append)
    result = run("images", "job:birds", "--open")
    assert result.exit_code == 0
    assert len(opened) == 2


def test_queries_are_kept_and_used_by_name(run: Run, read_json: ReadJson) -> None:
    assert run("query", "save", "good", "job:birds").exit_code == 0
    with pytest.raises(InputError):
        run("query", "save", "loop", "@loop")
    with pytest.raises(InputError):
        run("query", "save", "two words", "x")
    with pytest.raises(InputError):
        run("query", "save", "bad", "widht:3")
    assert [one["name"] for one in read_json("query", "list")] == ["good"]
    assert len(read_json("images", "@good row:1")["images"]) == 1
    assert run("query", "delete", "good").exit_code == 0
    with pytest.raises(InputError):
        run("query", "delete", "good")


def test_images_are_summed_up(run: Run, read_json: ReadJson) -> None:
    shapes, birds = read_json("stats", "--by", "job", "--price", "2")
    assert (shapes["by"], shapes["images"], shapes["failed"]) == ({"job": "shapes"}, 5, 1)
    assert (birds["images"], birds["gpu_seconds"], birds["cost"]) == (2, 0.0, 0.0)
    [one] = read_json("stats", "--by", "model,mode", "--where", "job:birds outcome:rendered")
    assert one["images"] == 2
    with pytest.raises(InputError):
        run("stats", "--by", "prompt")
    assert "birds" in run("stats", "--by", "job").output


def test_everything_is_indexed_again(run: Run, read_json: ReadJson) -> None:
    assert "Every image can be searched" in run("index", "--again").output
    assert len(read_json("images", "red")["images"]) == 2


def test_fields_are_completed_word_by_word() -> None:
    assert searching.complete_query("fox wid") == ["fox width:"]
    assert searching.complete_query("-out") == ["-outcome:"]
    assert searching.complete_query("(ta") == ["(tag."]
