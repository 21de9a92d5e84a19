"""What is read from the pictures of each program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.service.importing import a1111, comfyui, programs
from scheduler.service.importing.described import Described, sampler_of, whole
from scheduler.service.importing.reading import described
from storage.contract.errors import InputError
from storage.contract.output import ImageFormat
from storage.contract.samplers import SAMPLERS
from tests.unit.scheduler.service.importing.peers import (
    A1111,
    COMFY,
    COMFY_FLUX,
    DGENERATE,
    INVOKE,
    SWARM,
    jpeg,
    png,
    webp,
    workflow,
)
from tests.unit.workers.output.test_encode import encoded
from workers.output.metadata import _A1111_SAMPLERS

NOWHERE = Path("picture.png")


def read(data: bytes, file: Path = NOWHERE) -> Described:
    found = described(data, file)
    assert found is not None
    return found


@pytest.mark.parametrize("data", [png(parameters=A1111), jpeg(A1111), webp(A1111)])
def test_automatic1111(data: bytes) -> None:
    assert read(data) == Described(
        program="Automatic1111",
        prompt="a red fox, (sharp:1.2)\nin the snow",
        negative_prompt="blurry, {grey}",
        model="my, model: v2",
        seed=1234567890,
        steps=20,
        cfg=7.5,
        sampler="dpm++_2m_karras",
        tags={"model_hash": "abcd123456"},
    )


def test_automatic1111_without_a_negative_prompt() -> None:
    found = read(png(parameters="a fox\nSteps: 5, Sampler: Euler a, CFG scale: 7, Seed: 1"))
    assert (found.prompt, found.negative_prompt, found.sampler) == ("a fox", "", "euler_a")


def test_a_text_of_something_else_is_not_taken_for_settings() -> None:
    assert described(png(parameters="a fox, steps: 20, in the snow"), NOWHERE) is None


def test_invokeai() -> None:
    assert read(png(invokeai_metadata=json.dumps(INVOKE))) == Described(
        program="InvokeAI",
        prompt="a red fox",
        negative_prompt="blurry",
        model="juggernaut xl",
        seed=42,
        steps=30,
        cfg=5.5,
        sampler="dpm++_2m_sde_karras",
        tags={"model_hash": "blake3:77aa", "app_version": "5.4.2", "loras": "pixel art"},
    )


@pytest.mark.parametrize("data", [png(parameters=json.dumps(SWARM)), jpeg(json.dumps(SWARM))])
def test_swarmui(data: bytes) -> None:
    assert read(data) == Described(
        program="SwarmUI",
        prompt="a red fox",
        negative_prompt="blurry",
        model="Flux/flux1-dev-fp8",
        seed=305223794,
        steps=25,
        cfg=1.5,
        sampler="euler",
        tags={"model_hash": "0x" + "ab" * 32, "swarm_version": "0.9.6.2"},
    )


@pytest.mark.parametrize("data", [png(DgenerateConfig=DGENERATE), jpeg(DGENERATE)])
def test_dgenerate(data: bytes) -> None:
    assert read(data) == Described(
        program="dgenerate",
        prompt="a red fox",
        negative_prompt="blurry",
        model="stabilityai/stable-diffusion-2",
        seed=92149,
        steps=40,
        cfg=10.0,
        sampler="EulerAncestralDiscreteScheduler",
    )


COMFY_SAID = Described(
    program="ComfyUI",
    prompt="a red fox",
    negative_prompt="blurry",
    model="v1-5.safetensors",
    seed=156680208700286,
    steps=20,
    cfg=8.0,
    sampler="dpm++_2m_karras",
)


def test_comfyui_with_and_without_its_workflow() -> None:
    graph = json.dumps(COMFY)
    assert read(png(prompt=graph, workflow=json.dumps(workflow(COMFY)))) == COMFY_SAID
    assert read(png(prompt=graph)) == COMFY_SAID


def test_comfyui_with_its_sampler_in_parts() -> None:
    found = read(png(prompt=json.dumps(COMFY_FLUX)))
    assert (found.prompt, found.seed, found.steps) == ("a red fox", 7, 28)
    assert (found.sampler, found.model) == ("euler", "flux1-dev.safetensors")


def test_comfyui_is_read_as_sd_parsers_reads_it() -> None:
    from sd_parsers.parsers import ComfyUIParser

    # It takes the LoRA loader's link for a model's name, so that there is none here.
    graph = json.loads(json.dumps(COMFY).replace('["10", 0]', '["4", 0]'))
    theirs = ComfyUIParser().parse(
        {"prompt": json.dumps(graph), "workflow": json.dumps(workflow(graph))}
    )
    ours = comfyui.described(json.dumps(graph))
    assert ours is not None
    (sampler,) = theirs.samplers
    assert theirs.full_prompt == ours.prompt
    assert theirs.full_negative_prompt == ours.negative_prompt
    assert sampler.parameters["seed"] == ours.seed
    assert str(sampler.model) == ours.model


def test_a_seed_that_no_database_holds_is_kept_as_a_tag() -> None:
    graph = json.loads(json.dumps(COMFY))
    graph["3"]["inputs"]["seed"] = 2**64 - 1
    found = comfyui.described(json.dumps(graph))
    assert found is not None
    assert (found.seed, found.tags) == (None, {"seed": str(2**64 - 1)})


def test_a_graph_that_leads_in_circles_ends() -> None:
    graph = {
        "1": {"inputs": {"sampler_name": "euler", "steps": 1, "positive": ["2", 0]}},
        "2": {"inputs": {"conditioning": ["3", 0]}},
        "3": {"inputs": {"conditioning": ["2", 0], "text": "a fox"}},
    }
    found = comfyui.described(json.dumps(graph))
    assert found is not None
    assert found.prompt == "a fox"


@pytest.fixture
def part(tmp_path: Path) -> Path:
    folder = tmp_path / "images" / "part-000002"
    folder.mkdir(parents=True)
    return folder


DIFFUSIONDB = Described(
    program="DiffusionDB", prompt="a red fox", seed=42, steps=50, cfg=7.0, sampler="lms"
)


def test_diffusiondb_by_its_json(part: Path) -> None:
    said = {"x.png": {"p": "a red fox", "se": 42, "c": 7.0, "st": 50, "sa": "k_lms"}}
    (part / "part-000002.json").write_text(json.dumps(said))
    assert read(png(), part / "x.png") == DIFFUSIONDB
    assert described(png(), part / "y.png") is None


def test_diffusiondb_by_its_parquet(part: Path) -> None:
    columns: dict[str, Any] = {
        "image_name": ["x.png", "x.png"],
        "prompt": ["another", "a red fox"],
        "part_id": pa.array([1, 2], pa.uint16()),
        "seed": pa.array([1, 42], pa.uint32()),
        "step": pa.array([1, 50], pa.uint16()),
        "cfg": pa.array([1.0, 7.0], pa.float32()),
        "sampler": pa.array([1, 8], pa.uint8()),
        "width": pa.array([64, 64], pa.uint16()),
        "height": pa.array([48, 48], pa.uint16()),
    }
    pq.write_table(pa.table(columns), part.parent.parent / "metadata.parquet")
    assert read(png(), part / "x.png") == DIFFUSIONDB


def test_invokeai_of_2023_is_read_by_sd_parsers() -> None:
    dream = '"a red fox [blurry]" -s 50 -S 42 -W 64 -H 48 -C 7.5 -A k_lms'
    found = read(png(Dream=dream))
    assert (found.program, found.prompt, found.negative_prompt) == (
        "InvokeAI",
        "a red fox",
        "blurry",
    )
    assert (found.seed, found.steps, found.cfg, found.sampler) == (42, 50, 7.5, "lms")


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(InputError, match="no picture"):
        described(b"GIF89a", NOWHERE)


@pytest.mark.parametrize(("name", "shown"), list(_A1111_SAMPLERS.items()))
def test_samplers_as_automatic1111_spells_them(name: str, shown: str) -> None:
    assert sampler_of(shown) == name


@pytest.mark.parametrize(
    ("said", "schedule", "name"),
    [
        ("dpmpp_2m", "karras", "dpm++_2m_karras"),
        ("euler_ancestral", "normal", "euler_a"),
        ("euler_k", None, "euler_karras"),
        ("uni_pc", "simple", "unipc"),
        ("ddim", "ddim_uniform", "ddim"),
        ("res_multistep", "beta", "res_multistep"),
        ("", None, ""),
        (None, None, ""),
    ],
)
def test_samplers_as_others_spell_them(said: str | None, schedule: str | None, name: str) -> None:
    assert sampler_of(said, schedule) == name
    assert name in SAMPLERS or name in ("res_multistep", "")


@pytest.mark.parametrize(
    ("value", "number"),
    [
        *((5, 5), ("5", 5), (5.0, 5), ("5.5", None), (None, None), (True, None), ("x", None)),
        *((2**63, None), (str(2**63 - 1), 2**63 - 1), ("1e400", None), ("9" * 50, None)),
    ],
)
def test_whole_numbers(value: object, number: int | None) -> None:
    assert whole(value) == number


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*INVOKE, *SWARM, "inputs", "steps", "sampler_name", "positive", "1"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_no_json_brings_a_reader_down(value: Any) -> None:
    text = json.dumps(value)
    for reader in (programs.invokeai, programs.swarmui, comfyui.described, a1111.described):
        reader(text)
    if isinstance(value, dict):
        programs.ours({"item": value, "rendering": value})
        programs.swarmui(json.dumps({"sui_image_params": value}))


@given(st.text())
def test_no_text_brings_a_reader_down(text: str) -> None:
    for reader in (programs.dgenerate, a1111.described, comfyui.described, programs.swarmui):
        reader(text)
        reader(f"dgenerate {text}\n--prompts {text}")
        reader(f"{text}\nSteps: 1, Seed: {text}, CFG scale: 2, Size: 3")


@pytest.mark.parametrize("form", ImageFormat, ids=str)
def test_our_own_pictures_of_every_format(form: ImageFormat) -> None:
    data, _ = encoded(form, "a fox 星, in the snow")
    found = read(data)
    assert (found.program, found.prompt, found.sampler) == (
        "rendermill",
        "a fox 星, in the snow",
        "euler_a",
    )
    assert (found.seed, found.steps, found.cfg, found.model) == (0, 2, 4.0, "starter")
    assert found.render_key == "the key"
    assert found.rendering is not None


@pytest.mark.parametrize("form", ImageFormat, ids=str)
def test_our_text_alone_says_as_much_to_a_reader_of_automatic1111s(form: ImageFormat) -> None:
    _, texts = encoded(form, "a fox, in the snow")
    found = a1111.described(str(texts.parameters))
    assert found is not None
    assert (found.program, found.prompt) == ("rendermill", "a fox, in the snow")
    assert (found.sampler, found.seed, found.model) == ("euler_a", 0, "starter")
