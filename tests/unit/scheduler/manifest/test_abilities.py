"""Settings of texts that a family has or has not."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.manifest.abilities import MAX_CLIP_TOKENS, check_text
from scheduler.manifest.problems import FieldError
from storage.contract.families.plain import plain_family
from storage.contract.families.record import Family
from storage.contract.families.registry import FAMILIES

OTHER = plain_family("KandinskyPipeline", ("unet", "text_encoder"))


def fault(settings: dict[str, Any], family: Family) -> str:
    with pytest.raises(FieldError) as caught:
        check_text(settings, family)
    return f"{caught.value.field}: {caught.value.message}"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: str(family.name))
def test_words_are_weighed_where_all_texts_are_read_by_clip_in_chunks(family: Family) -> None:
    by_clip = family.denoiser == "unet"
    assert family.chunked_prompts == by_clip
    for settings in ({}, {"prompt_syntax": "plain"}, {"max_sequence_length": 150}):
        check_text(settings, family)
    if by_clip:
        check_text({"prompt_syntax": "weighted", "max_sequence_length": MAX_CLIP_TOKENS}, family)
        said = fault({"max_sequence_length": MAX_CLIP_TOKENS + 1}, family)
        assert said == f"max_sequence_length: must be at most 602 for {family.title}"
    else:
        said = fault({"prompt_syntax": "weighted"}, family)
        assert said.startswith("prompt_syntax: weighted is for models that read by CLIP alone, not")
        check_text({"max_sequence_length": MAX_CLIP_TOKENS + 1}, family)


def test_models_that_no_record_covers_are_read_as_they_do_it_themselves() -> None:
    check_text({}, OTHER)
    assert fault({"prompt_syntax": "weighted"}, OTHER).startswith("prompt_syntax: ")
    assert fault({"max_sequence_length": 150}, OTHER).startswith("max_sequence_length: cannot be")
