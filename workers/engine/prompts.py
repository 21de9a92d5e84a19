"""Prompts with weights, and prompts longer than a CLIP text encoder reads at once.

The arithmetic is compel's `EmbeddingsProvider`: what weighs more is moved away from the empty
prompt's embedding, what weighs less is blended with the prompt without it. Longer texts are cut
between words into chunks of 75 tokens, each with its own start and end, whose embeddings are
laid side by side.

How many chunks there are is the group's ``max_sequence_length`` and never the text's own length:
shorter texts are filled up with the empty prompt. So all rows of a batch have one shape, and a
picture does not depend on what is rendered beside it. The encoder is called for one chunk of one
text at a time, for the same reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from storage.contract.items import WEIGHTED, GroupSpec
from workers.engine.families.base import Tensor
from workers.engine.weights import Passage, passages_of, plain_text

States = Callable[[Tensor, Tensor | None], Tensor]
"""Hidden states of an encoder, shape (1, 77, width), of token ids and their attention mask."""

_WORD_END: Final = "</w>"


def chunks_of(spec: GroupSpec, chunk: int = 75) -> int:
    """Chunks of `chunk` tokens, start and end not counted, that a group's texts are read in."""
    return max(1, -(-((spec.max_sequence_length or 0) - 2) // chunk))


def is_chunked(spec: GroupSpec) -> bool:
    """Whether a group's texts are read here, and not as its pipeline would."""
    return spec.prompt_syntax == WEIGHTED or chunks_of(spec) > 1


def plain_texts(texts: Sequence[str], spec: GroupSpec) -> list[str]:
    """Texts without marks of weights, where the group's have such."""
    return [plain_text(text) for text in texts] if spec.prompt_syntax == WEIGHTED else list(texts)


@dataclass(frozen=True, slots=True)
class Reading:
    """A text as it is read."""

    passages: list[Passage]  #: of what is read
    tokens: int  #: of the whole text, start and end not counted
    read: int  #: of these


def read(tokenizer: Any, text: str, spec: GroupSpec) -> Reading:
    """What of a text fits into the group's chunks; marks of weights are no tokens."""
    weighted = spec.prompt_syntax == WEIGHTED
    passages: list[Passage] = []
    ends: list[list[int]] = []  # of each passage's tokens, in characters
    words: list[str] = []
    for passage in passages_of(text) if weighted else [Passage(text)]:
        tokens = tokenizer(
            passage.text,
            add_special_tokens=False,
            return_offsets_mapping=True,
            truncation=False,
            verbose=False,
        )
        if tokens.input_ids:
            passages.append(passage)
            ends.append([end for _, end in tokens.offset_mapping])
            words += tokenizer.convert_ids_to_tokens(tokens.input_ids)
    chunk = tokenizer.model_max_length - 2
    room = _room(words, chunks_of(spec, chunk), chunk)
    return Reading(_first(passages, ends, room), len(words), room)


def count_tokens(tokenizer: Any, text: str, spec: GroupSpec) -> int:
    """As many above `token_limit` as are not read; a chunk may have room left that no word fits."""
    reading = read(tokenizer, text, spec)
    if reading.read < reading.tokens:
        return token_limit(tokenizer, spec) + reading.tokens - reading.read
    return min(reading.tokens + 2, token_limit(tokenizer, spec))


def token_limit(tokenizer: Any, spec: GroupSpec) -> int:
    """Tokens that are read, with one start and one end."""
    chunk = int(tokenizer.model_max_length) - 2
    return chunks_of(spec, chunk) * chunk + 2


def chunked_states(
    tokenizer: Any, encoder: Any, texts: Sequence[str], spec: GroupSpec, states: States
) -> list[Tensor]:
    """Of each text its weighted embeddings, shape (77 * chunks, width), in the encoder's dtype.

    `states` is called with one chunk; what it gives is weighted in float32, where weights of 0
    do not overflow.
    """
    import torch
    from compel.embeddings_provider import EmbeddingsProvider, SplitLongTextMode

    provider = EmbeddingsProvider(
        tokenizer,
        _Encoder(encoder, states),
        truncate=False,
        split_long_text_mode=SplitLongTextMode.WORDS | SplitLongTextMode.COPY_FIRST_CLS_TOKEN,
    )
    chunks = chunks_of(spec, tokenizer.model_max_length - 2)
    length = chunks * tokenizer.model_max_length
    rows = []
    for text in texts:
        passages = read(tokenizer, text, spec).passages
        found = provider.get_embeddings_for_weighted_prompt_fragments(
            [[passage.text for passage in passages]],
            [[passage.weight for passage in passages]],
            device=encoder.device,
        )[0]
        empty = provider.empty_z[0].to(found)
        missing = chunks - len(found) // tokenizer.model_max_length
        rows.append(torch.cat([found, *[empty] * missing])[:length])
    return rows


class _Encoder:
    """A text encoder as compel calls it, whose hidden states the caller chooses."""

    def __init__(self, encoder: Any, states: States) -> None:
        self.device = encoder.device
        self.dtype = encoder.dtype
        self._states = states

    def __call__(self, tokens: Tensor, mask: Tensor | None, **_options: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutput

        return BaseModelOutput(last_hidden_state=self._states(tokens, mask).float())


def _room(words: Sequence[str], chunks: int, chunk: int) -> int:
    """Tokens that fit, each chunk ending with a word where it can (as compel cuts them)."""
    at = 0
    for _ in range(chunks):
        if len(words) - at <= chunk:
            return len(words)
        ends = (n for n in range(chunk, 0, -1) if words[at + n - 1].endswith(_WORD_END))
        at += next(ends, chunk)
    return at


def _first(passages: Sequence[Passage], ends: Sequence[Sequence[int]], room: int) -> list[Passage]:
    """The first `room` tokens of passages."""
    kept: list[Passage] = []
    for passage, its_ends in zip(passages, ends, strict=True):
        if room <= 0:
            break
        text = passage.text if len(its_ends) <= room else passage.text[: its_ends[room - 1]]
        kept.append(Passage(text, passage.weight))
        room -= len(its_ends)
    return kept or [Passage("")]
