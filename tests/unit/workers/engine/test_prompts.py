"""Prompts with weights and prompts in chunks, by a tiny CLIP text encoder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.contract.items import GroupSpec
from tests.models import parts
from workers.engine import prompts

WORDS = "abcd "  #: the tiny tokenizer makes a token of each letter


def make_spec(syntax: str = "weighted", length: int | None = None) -> GroupSpec:
    return GroupSpec(
        model="tiny",
        width=64,
        height=64,
        num_inference_steps=1,
        guidance_scale=5,
        scheduler="ddim",
        prompt_syntax=syntax,
        max_sequence_length=length,
    )


WEIGHTED = make_spec()
LONG = make_spec(length=225)


class Encoder:
    """A tiny text encoder and its tokenizer, without gradients."""

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        self.tokenizer = parts.clip_tokenizer(folder)
        self.model = parts.clip_text_encoder().eval().requires_grad_(False)

    def ordinary(self, text: str) -> Any:
        tokens = self.tokenizer(
            text, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
        )
        return self.model(tokens.input_ids)[0][0]

    def chunked(self, *texts: str, spec: GroupSpec = WEIGHTED) -> list[Any]:
        return prompts.chunked_states(
            self.tokenizer,
            self.model,
            texts,
            spec,
            lambda tokens, mask: self.model(tokens, attention_mask=mask)[0],
        )

    def one(self, text: str, spec: GroupSpec = WEIGHTED) -> Any:
        (states,) = self.chunked(text, spec=spec)
        return states

    def counted(self, text: str, spec: GroupSpec) -> tuple[int, int]:
        """Tokens counted, and not read."""
        count = prompts.count_tokens(self.tokenizer, text, spec)
        return count, max(0, count - prompts.token_limit(self.tokenizer, spec))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Encoder(tmp_path_factory.mktemp("tokenizer"))
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("length", "chunks"),
    [(None, 1), (1, 1), (75, 1), (77, 1), (78, 2), (150, 2), (152, 2), (225, 3), (227, 3)],
)  # fmt: skip
def test_a_groups_length_says_how_many_chunks(length: int | None, chunks: int) -> None:
    spec = make_spec("plain", length)
    assert prompts.chunks_of(spec) == chunks
    assert prompts.is_chunked(spec) == (chunks > 1)
    assert prompts.is_chunked(make_spec("weighted", length))


def test_without_weights_states_are_those_of_an_ordinary_call(encoder: Encoder) -> None:
    assert torch.equal(encoder.one("a red cat"), encoder.ordinary("a red cat"))
    assert torch.equal(encoder.one("(a red:1.0) cat"), encoder.ordinary("a red cat"))
    assert torch.equal(encoder.one(r"\(a\)"), encoder.ordinary("(a)"))


def test_plain_prompts_keep_their_brackets(encoder: Encoder) -> None:
    states = encoder.one("(a:2)", make_spec("plain", 150))
    assert torch.equal(states[:77], encoder.ordinary("(a:2)"))


def test_a_weight_above_one_leads_away_from_the_empty_prompt(encoder: Encoder) -> None:
    weighted, plain, empty = (encoder.one(text) for text in ("a (b:1.5) c", "a b c", ""))
    assert torch.equal(weighted[1], plain[1])
    torch.testing.assert_close(weighted[2], empty[2] + 1.5 * (plain[2] - empty[2]))
    assert torch.equal(weighted[3:], plain[3:])


def test_the_less_a_word_weighs_the_farther_the_prompt_is_from_having_it(encoder: Encoder) -> None:
    plain = encoder.one("a b c")
    away = [float((encoder.one(f"a (b:{w}) c") - plain).norm()) for w in (1, 0.8, 0.5, 0.2, 0)]
    assert away[0] == 0
    assert away == sorted(away)
    assert away[-1] > away[1] > 0


def test_a_text_longer_than_a_chunk_goes_on_in_the_next(encoder: Encoder) -> None:
    text = "a " * 75 + "b " * 75 + "c"
    states = encoder.one(text, LONG)
    assert states.shape == (3 * 77, parts.CROSS)
    ends = slice(0, 76)  # compel gives all chunks the first one's end
    for place, part in enumerate(("a " * 75, "b " * 75, "c ")):
        ours, alone = states[77 * place :][:77], encoder.ordinary(part)
        cut = ends if len(part) > 2 else slice(0, 2)
        assert torch.equal(ours[cut], alone[cut])


def test_a_short_text_is_filled_up_with_the_empty_prompt(encoder: Encoder) -> None:
    states, empty = encoder.one("a b", LONG), encoder.ordinary("")
    assert torch.equal(states[:77], encoder.ordinary("a b"))
    assert torch.equal(states[77:154], empty)
    assert torch.equal(states[154:], empty)


def test_a_chunk_ends_with_a_word(encoder: Encoder) -> None:
    text = "a " * 74 + "bcd"
    states = encoder.one(text, make_spec(length=150))
    assert torch.equal(states[77 + 1 : 77 + 4], encoder.ordinary("bcd")[1:4])


def test_states_do_not_depend_on_what_is_encoded_beside(encoder: Encoder) -> None:
    texts = ["a (b:1.3)", "", "[a] " * 90, "d"]
    together = encoder.chunked(*texts, spec=LONG)
    for text, states in zip(texts, together, strict=True):
        assert torch.equal(states, encoder.one(text, LONG))
    assert {states.shape for states in together} == {(231, parts.CROSS)}


@pytest.mark.parametrize(
    ("text", "spec", "count", "unread"),
    [
        ("", WEIGHTED, 2, 0),
        ("(a:1.3) ((b)) [c]", WEIGHTED, 5, 0),
        ("(a:1.3)", make_spec("plain", 150), 9, 0),
        ("a " * 75, WEIGHTED, 77, 0),
        ("(a:1.2) " * 80, WEIGHTED, 82, 5),
        ("a " * 80, make_spec("plain", 150), 82, 0),
        ("a " * 150, make_spec(length=150), 152, 0),
        ("a " * 160, make_spec(length=150), 162, 10),
        ("a " * 74 + "bcd", WEIGHTED, 80, 3),  # the last word has no room: none of it is read
        ("a" * 80, WEIGHTED, 82, 5),
    ],
)
def test_tokens_are_counted_and_those_not_read_too(
    encoder: Encoder, text: str, spec: GroupSpec, count: int, unread: int
) -> None:
    assert encoder.counted(text, spec) == (count, unread)


def test_what_is_not_read_does_not_change_a_thing(encoder: Encoder) -> None:
    assert torch.equal(encoder.one("a " * 75 + "(b:0.5)"), encoder.one("a " * 75))
    assert torch.equal(encoder.one("a " * 74 + "(bcd:2)"), encoder.one("a " * 74))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.sampled_from(["a", "bb ", "(", ")", "[", "]", ":0.5)", ":1.4)", "!", "\\", "é\n"])
    ).map("".join)
)
def test_any_text_becomes_finite_states_of_the_groups_shape(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    encoder = _shared(tmp_path_factory)
    for spec in (WEIGHTED, LONG):
        states = encoder.one(text * 3, spec)
        assert states.shape == (77 * prompts.chunks_of(spec), parts.CROSS)
        assert states.isfinite().all()


_kept: list[Encoder] = []


def _shared(factory: pytest.TempPathFactory) -> Encoder:
    if not _kept:
        _kept.append(Encoder(factory.mktemp("shared")))
    return _kept[0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_words_of_no_weight_do_not_overflow(encoder: Encoder, dtype: Any) -> None:
    model = encoder.model.to(dtype)
    try:
        states = encoder.one("(a:0) b (c:0) d (e:0)")
    finally:
        model.to(torch.float32)
    assert states.dtype == dtype
    assert states.isfinite().all()
    assert states.abs().max() > 0.1


def test_a_pad_token_of_its_own_is_no_end(tmp_path: Path, encoder: Encoder) -> None:
    """SDXL's second tokenizer pads with ``!``."""
    bang = Encoder(tmp_path)
    bang.tokenizer = parts.clip_tokenizer(tmp_path, pad="!")
    bang.model = encoder.model
    assert torch.equal(bang.one("a ! (b:1.0)"), bang.ordinary("a ! b"))
    assert bang.one("! (! a:0.5) " * 40, LONG).isfinite().all()
