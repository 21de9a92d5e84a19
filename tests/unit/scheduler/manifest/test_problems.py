"""Collecting what is wrong with a manifest."""

from __future__ import annotations

import pytest

from scheduler.manifest.problems import KEPT, FieldError, Problem, Problems, Rejected
from storage.contract.errors import InputError


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (Problem("a.csv", 3, "seed", "is odd"), "a.csv:3: seed: is odd"),
        (Problem("a.csv", 3, None, "is odd"), "a.csv:3: is odd"),
        (Problem("a.csv", None, "seed", "is odd"), "a.csv: seed: is odd"),
        (Problem("a.csv", None, None, "is odd"), "a.csv: is odd"),
    ],
)
def test_a_problem_says_file_line_field_and_what_is_wrong(problem: Problem, words: str) -> None:
    assert str(problem) == words


def test_a_hundred_problems_are_kept_and_all_are_counted() -> None:
    problems = Problems("a.txt")
    for row in range(250):
        problems.reject(row, row + 1, [FieldError("seed", "is odd")])
    refused = problems.refused(hint="mend them")
    lines = refused.message.splitlines()
    assert (problems.total, problems.rejected_rows, len(problems.first)) == (250, 250, KEPT)
    assert lines[0] == "a.txt:1: seed: is odd"
    assert lines[KEPT - 1] == f"a.txt:{KEPT}: seed: is odd"
    assert lines[KEPT:] == ["... and 150 more problems"]
    assert refused.hint == "mend them"
    assert isinstance(refused, InputError)


def test_what_ends_the_reading_is_shown_however_many_problems_came_before() -> None:
    problems = Problems("a.parquet")
    for row in range(250):
        problems.reject(row, row + 1, [FieldError("seed", "is odd")])
    lines = problems.fatal("cannot be read any further").message.splitlines()
    assert lines[-2:] == ["a.parquet: cannot be read any further", "... and 150 more problems"]


def test_a_row_with_several_problems_is_one_rejected_row() -> None:
    noted: list[Rejected] = []
    problems = Problems("a.csv", on_rejected=noted.append)
    problems.reject(4, 6, [FieldError("seed", "is odd"), FieldError("width", "is negative")])
    assert noted == [Rejected(4, 6, ("a.csv:6: seed: is odd", "a.csv:6: width: is negative"))]
    assert (problems.total, problems.rejected_rows) == (2, 1)


def test_every_rejected_row_is_passed_on_beyond_those_kept_for_showing() -> None:
    noted: list[Rejected] = []
    problems = Problems("a.csv", on_rejected=noted.append)
    for row in range(KEPT + 7):
        problems.reject(row, row, [FieldError(None, "is odd")])
    assert [one.row for one in noted] == list(range(KEPT + 7))


@pytest.mark.parametrize("skips", [True, False])
def test_rows_are_skipped_only_if_somebody_takes_them(skips: bool) -> None:
    noted: list[Rejected] = []
    assert Problems("a.csv", on_rejected=noted.append if skips else None).skips_rows is skips
