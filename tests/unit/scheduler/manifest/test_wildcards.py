"""Wildcards: lists of texts in folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from scheduler.manifest.limits import Limits
from scheduler.manifest.wildcards import WildcardFault, Wildcards


def wildcards(folder: Path, files: dict[str, str | bytes], **limits: int) -> Wildcards:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return Wildcards([folder], Limits(**limits))


def texts(these: Wildcards, name: str) -> list[str]:
    return [value.text for value in these.values(name)]


def test_a_line_is_a_text_and_neither_comments_nor_blank_lines_are(tmp_path: Path) -> None:
    these = wildcards(tmp_path, {"colour.txt": "\ufeffred\r\n\n # no colour\n blue # sky\nred\n"})
    assert texts(these, "colour") == ["red", "blue # sky"]


def test_folders_are_part_of_the_name(tmp_path: Path) -> None:
    these = wildcards(tmp_path, {"animals/birds.txt": "owl", "birds.txt": "heron"})
    assert texts(these, "animals/birds") == ["owl"]
    assert texts(these, "birds") == ["heron"]


def test_a_star_joins_all_that_match_by_name(tmp_path: Path) -> None:
    these = wildcards(tmp_path, {"a/y.txt": "2\n1", "a/x.txt": "1", "b/z.txt": "3"})
    assert texts(these, "a/*") == ["1", "2"]


def test_the_first_folder_that_has_a_name_counts(tmp_path: Path) -> None:
    wildcards(tmp_path / "one", {"a.txt": "1"})
    wildcards(tmp_path / "two", {"a.txt": "2", "b.txt": "3"})
    these = Wildcards([tmp_path / "one", tmp_path / "two"], Limits())
    assert (texts(these, "a"), texts(these, "b")) == (["1"], ["3"])


def test_keys_of_a_yaml_file_are_names_inside_its_folder(tmp_path: Path) -> None:
    data = "birds: [owl, 3::heron, 1920, on, 2020-01-01]\nbig:\n  cats:\n    - lion\n"
    these = wildcards(tmp_path, {"animals/all.yaml": data, "list.yml": "- a\n- b"})
    assert texts(these, "animals/birds") == ["owl", "heron", "1920", "on", "2020-01-01"]
    assert [v.weight for v in these.values("animals/birds")] == [1, 3, 1, 1, 1]
    assert texts(these, "animals/big/cats") == ["lion"]
    assert texts(these, "list") == ["a", "b"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "birds: there is no such wildcard in {}"),
        ({"a/birds.txt": "owl"}, "birds: there is no such wildcard in {}; did you mean __a/b"),
        ({"bird.txt": "owl"}, "birds: there is no such wildcard in {}; did you mean __bird__?"),
        ({"birds.txt": "# none\n"}, "birds: is empty"),
        ({"birds.yaml": "- 0::owl"}, "birds: all its weights are 0"),
        ({"birds.txt": b"owl\n\xff"}, "{}/birds.txt:2: is not UTF-8: byte 1 is 0xff"),
        ({"birds.txt": "owl\n" + "x" * 99}, "{}/birds.txt:2: is 99 characters long; the limit"),
        ({"birds.txt": "o\0wl"}, "{}/birds.txt:1: holds a NUL character"),
        ({"birds.yaml": "a: [b\n"}, "{}/birds.yaml:2: cannot be read as YAML"),
        ({"birds.yaml": "a: &x [b]\nc: *x"}, "{}/birds.yaml:2: cannot be read as YAML: aliases"),
        ({"birds.yaml": "[" * 30}, "{}/birds.yaml:1: cannot be read as YAML: is nested deeper"),
        ({"birds.yaml": "birds: owl"}, "{}/birds.yaml:1: must be a list of texts"),
        ({"birds.yaml": "birds:\n  - [owl]"}, "{}/birds.yaml:2: must be a text"),
        ({"birds.txt": "owl\n" * 600}, "{}/birds.txt: wildcard files are too large together"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(
    tmp_path: Path, files: dict[str, str | bytes], message: str
) -> None:
    these = wildcards(tmp_path, files, max_prompt_chars=50, max_wildcard_bytes=2000)
    with pytest.raises(WildcardFault) as caught:
        these.values("birds")
    assert str(caught.value).startswith(message.format(tmp_path))


@pytest.mark.parametrize("files", [{"a.txt": b"\xff" * 30}, {"all.yaml": "[" * 30}, {}])
def test_a_fault_is_found_once_and_said_every_time(
    tmp_path: Path, files: dict[str, str | bytes]
) -> None:
    these = wildcards(tmp_path, files, max_wildcard_bytes=50)
    said = set()
    for _ in range(3):
        with pytest.raises(WildcardFault) as caught:
            these.values("a")
        said.add(str(caught.value))
    assert len(said) == 1


def test_without_folders_the_option_is_named() -> None:
    with pytest.raises(WildcardFault, match="--wildcards"):
        Wildcards([], Limits()).values("a")


def test_a_name_that_leads_out_of_the_folder_is_no_wildcard(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("word")
    these = wildcards(tmp_path / "inside", {"a.txt": "b"})
    with pytest.raises(WildcardFault, match="no such wildcard"):
        these.values("../secret")


def test_the_digest_is_of_what_was_read_wherever_it_lies(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"a.txt": "1", "b.txt": "2"}
    one, two = wildcards(tmp_path / "one", files), wildcards(tmp_path / "two", files)
    one.values("a"), two.values("a")
    assert one.digest == two.digest
    two.values("b")
    assert one.digest != two.digest
    three = wildcards(tmp_path / "three", {"a.txt": "3"})
    three.values("a")
    assert one.digest != three.digest
