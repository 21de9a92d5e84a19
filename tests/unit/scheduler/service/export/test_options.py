"""What an export is asked to be."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.service.export.diffusiondb import SAMPLERS
from scheduler.service.export.options import (
    ExportOptions,
    Form,
    ShardSize,
    shard_size,
    split_of,
    splits,
    usual_splits,
)
from storage.contract.errors import InputError
from storage.contract.samplers import find_sampler


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1000", ShardSize(images=1000)),
        ("512MB", ShardSize(bytes=512_000_000)),
        ("2gib", ShardSize(bytes=2**31)),
        ("1k", ShardSize(bytes=1000)),
    ],
)
def test_shards_have_a_size_in_images_or_bytes(text: str, size: ShardSize) -> None:
    assert shard_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "0MB", "many", "1.5GB", "9" * 13])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--shard-size"):
        shard_size(text)


def test_readers_find_the_split_they_expect() -> None:
    assert usual_splits(Form.HF) == {"train": 1.0}
    assert usual_splits(Form.JSONL) == {"images": 1.0}


def test_splits_are_shares_of_a_whole() -> None:
    assert splits("train=0.9, test=0.1") == {"train": 0.9, "test": 0.1}


@pytest.mark.parametrize(
    "text", ["", "train", "train=1.5", "a=0.5,a=0.5", "a=0.5,b=0.4", "../x=1", "a=nan", "A=1"]
)
def test_other_splits_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--split"):
        splits(text)


@given(st.text(max_size=50))
def test_a_picture_keeps_its_split_when_the_shares_of_others_change(identity: str) -> None:
    three = split_of(identity, {"train": 0.5, "val": 0.3, "test": 0.2})
    two = split_of(identity, {"train": 0.5, "test": 0.5})
    assert (three == "train") == (two == "train")


def test_shares_are_about_kept() -> None:
    counts = Counter(split_of(str(n), {"train": 0.9, "test": 0.1}) for n in range(5000))
    assert 400 < counts["test"] < 600


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"format": Form.FILES, "link": True}, "--link is for"),
        ({"format": Form.DIFFUSIONDB, "splits": {"a": 0.5, "b": 0.5}}, "knows no splits"),
        ({"format": Form.HF, "name_template": "{seed}"}, "--name-template is for"),
        ({"format": Form.FILES, "name_template": "{nothing}"}, "is no field"),
        ({"format": Form.HF, "caption": "seed"}, "--caption seed"),
    ],
)
def test_what_does_not_go_together_is_said(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        ExportOptions(query="*", **options).check()  # type: ignore[arg-type]


def test_samplers_of_diffusiondb_are_samplers_of_ours() -> None:
    assert sorted(SAMPLERS.values()) == sorted([*range(1, 9)] * 2)
    assert all(find_sampler(name).name in SAMPLERS for name in SAMPLERS)
