"""Scenario files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scheduler.simulate.scenario import checked, read_scenario
from storage.contract.errors import InputError

EXAMPLES = sorted((Path(__file__).parents[4] / "examples" / "scenarios").glob("*.yaml"))


def tree(**overrides: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "name": "small",
        "models": {"a": {"gib": {"resident": 6}, "seconds": 1.0}},
        "workers": [{"kind": "card", "count": 4, "vram_gib": 8}],
        "jobs": [{"name": "one", "groups": [{"model": "a", "items": 200}]}],
    }
    return values | overrides


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_can_be_read(path: Path) -> None:
    assert read_scenario(path).jobs


def test_there_are_examples() -> None:
    assert {"mixed-2k", "rough-20k", "fleet-10k", "studio"} <= {path.stem for path in EXAMPLES}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"workers": [{"kind": "a", "count": 0, "vram_gib": 8}]}, "workers[0].count: "),
        ({"wokers": []}, "wokers: Extra inputs are not permitted"),
        ({"models": {}}, "models: "),
        ({"models": {"a": {"gib": {"tiny": 1}, "seconds": 1}}}, "models.a.gib.tiny.[key]: "),
        ({"noise": float("nan")}, "noise: "),
        ({"faults": {"death_share": 2}}, "faults.death_share: "),
        (
            {"jobs": [{"name": "j", "groups": [{"model": "b", "items": 1}]}]},
            "job 'j' names model 'b'; there are: a",
        ),
        ({"jobs": tree()["jobs"] * 2}, "there are two of job 'one'; give each its own name"),
        ({"workers": tree()["workers"] * 2}, "there are two of kind of worker 'card'"),
    ],
)
def test_a_fault_is_named_with_its_place(overrides: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        checked(tree(**overrides), "s.yaml")
    assert f"s.yaml: {said}" in caught.value.message
    assert caught.value.hint


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(InputError) as caught:
        checked(tree(noise=9, tick_seconds=0), "s.yaml")
    assert len(caught.value.message.splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [("- a\n", "must be a mapping"), ("a: [\n", "is not YAML"), ("", "must be a mapping")],
)
def test_what_is_no_scenario_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_scenario(path)


def test_a_file_that_is_not_there_or_far_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_scenario(tmp_path / "none.yaml")
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (2 << 20))
    with pytest.raises(InputError, match="is larger than"):
        read_scenario(large)
