"""Weights and long prompts through the families that read by CLIP alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from storage.contract.items import GroupSpec
from storage.testing.factories import make_item
from tests.models import classic
from tests.models.phases import Phased, open_whole
from workers.engine.families.base import Inputs

Build = Callable[[Path], Path]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(
    scope="module",
    params=[classic.stable_diffusion, classic.stable_diffusion_xl],
    ids=["stable-diffusion", "stable-diffusion-xl"],
)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    build: Build = request.param
    return open_whole(build(tmp_path_factory.mktemp("model") / "model"))


def phased(whole: Any, **changes: Any) -> Phased:
    spec = GroupSpec(
        model="tiny",
        width=64,
        height=64,
        num_inference_steps=2,
        guidance_scale=5.0,
        scheduler="ddim",
        **changes,
    )
    return Phased(whole=whole, spec=spec)


def pictures(whole: Any, *prompts: str, negative: str = "dull", **changes: Any) -> np.ndarray:
    items = [
        make_item(n, prompt=prompt, negative_prompt=negative, seed=7)
        for n, prompt in enumerate(prompts)
    ]
    return phased(whole, **changes).pictures(items, [Inputs()] * len(items))


def apart(one: np.ndarray, two: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - two.astype(int)).max())


def test_a_weight_of_one_and_no_marks_at_all_change_nothing(whole: Any) -> None:
    plain = pictures(whole, "a red cat")
    for text in ("a red cat", "a (red:1.0) cat"):
        assert apart(pictures(whole, text, prompt_syntax="weighted"), plain) <= 1


def test_weights_change_the_picture_and_brackets_alone_are_signs(whole: Any) -> None:
    plain, weighted = (
        pictures(whole, "a (red:4) cat", prompt_syntax=syntax) for syntax in ("plain", "weighted")
    )
    unweighted = pictures(whole, "a red cat")
    assert apart(plain, weighted) > 0
    assert apart(weighted, unweighted) > 0
    lighter, heavier = (
        pictures(whole, "a red cat", negative=negative, prompt_syntax="weighted")
        for negative in ("dull", "(dull:4)")
    )
    assert apart(lighter, heavier) > 0


def test_words_beyond_the_first_chunk_are_read_where_there_are_more(whole: Any) -> None:
    long = "a " * 90
    assert apart(pictures(whole, long + "red"), pictures(whole, long + "blue")) == 0
    two = [pictures(whole, long + end, max_sequence_length=150) for end in ("red", "blue")]
    assert apart(*two) > 0


def test_a_picture_does_not_depend_on_how_long_its_neighbours_prompt_is(whole: Any) -> None:
    changes: dict[str, Any] = {"prompt_syntax": "weighted", "max_sequence_length": 150}
    short, long = pictures(whole, "a (cat:1.2)", "a " * 120, **changes)
    again, other = pictures(whole, "a (cat:1.2)", "b", **changes)
    assert apart(short, again) == 0
    assert apart(long, other) > 0


def test_tokens_are_counted_as_they_are_read(whole: Any) -> None:
    for changes, limit, count in (
        ({}, 77, 9),
        ({"prompt_syntax": "weighted"}, 77, 3),
        ({"max_sequence_length": 150}, 152, 9),
    ):
        these = phased(whole, **changes)
        bench = these.bench()
        assert these.adapter.token_limit(bench) == limit
        assert these.adapter.count_tokens(bench, "(a:1.3)") == count


def test_the_summary_is_of_the_words_and_not_of_their_marks(whole: Any) -> None:
    with torch.no_grad():
        (weighted,) = phased(whole, prompt_syntax="weighted").encoded(["(a:2) b"], negative=False)
        (plain,) = phased(whole).encoded(["a b"], negative=False)
    assert weighted.keys() == plain.keys()
    assert not torch.equal(weighted["prompt_embeds"], plain["prompt_embeds"])
    if "pooled_prompt_embeds" in plain:
        assert torch.equal(weighted["pooled_prompt_embeds"], plain["pooled_prompt_embeds"])


def test_skipped_layers_are_skipped_in_chunks_too(whole: Any) -> None:
    with torch.no_grad():
        (chunked,) = phased(whole, max_sequence_length=150, clip_skip=1).encoded(
            ["a b"], negative=False
        )
        (plain,) = phased(whole, clip_skip=1).encoded(["a b"], negative=False)
    torch.testing.assert_close(chunked["prompt_embeds"][:77], plain["prompt_embeds"])
