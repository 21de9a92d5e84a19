"""How much of a prompt the transformer families read, and how it is counted."""

from __future__ import annotations

import msgspec
import pytest

from tests.models.phases import Phased
from tests.models.transformer_calls import opened
from tests.models.transformer_cases import CASES, Case, folder_of, make_spec
from workers.engine.families.base import Bench

READ = {
    "sd3": 77,
    "flux": 512,
    "flux2": 512,
    "klein": 512,
    "pixart": 300,
    "sana": 300,
    "sprint": 300,
    "qwen": 512,
    "z-image": 512,
}


def bench_of(case: Case, tmp_path_factory: pytest.TempPathFactory) -> tuple[Phased, Bench]:
    folder = folder_of(case, tmp_path_factory)
    spec = msgspec.structs.replace(make_spec(case, folder), max_sequence_length=None)
    run = Phased(opened(folder, case), spec)
    return run, run.bench("text_encoder")


@pytest.mark.parametrize("case", [case for case in CASES if case.name in READ], ids=str)
def test_as_much_is_read_as_by_diffusers_default(
    tmp_path_factory: pytest.TempPathFactory, case: Case
) -> None:
    run, bench = bench_of(case, tmp_path_factory)

    assert run.adapter.token_limit(bench) == READ[case.name]
    family_limit = run.family.token_limit
    assert run.adapter.token_limit(bench) == family_limit


@pytest.mark.parametrize("case", [case for case in CASES if case.name in READ], ids=str)
def test_each_letter_more_is_a_token_more(
    tmp_path_factory: pytest.TempPathFactory, case: Case
) -> None:
    run, bench = bench_of(case, tmp_path_factory)

    counts = [run.adapter.count_tokens(bench, text) for text in ("ab", "abcd", "abcd" * 300)]

    assert counts[1] - counts[0] == 2
    assert counts[2] - counts[1] == 4 * 299


def test_of_a_template_only_what_stays_is_counted(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    qwen = next(case for case in CASES if case.name == "qwen")
    run, bench = bench_of(qwen, tmp_path_factory)
    (row,) = run.adapter.encode(bench, "text_encoder", ["a prompt"], negative=False)

    assert run.adapter.count_tokens(bench, "a prompt") == len(row["prompt_embeds"])
