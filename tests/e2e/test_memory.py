"""Small cards, simulated: what is sized for a large one comes out the same, or says why not."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from storage.contract.classes import GIB
from tests.models import classic, parts
from tests.models.flux import flux
from tests.models.stable_diffusion_3 import stable_diffusion_3
from tests.services.brokers import Server
from tests.services.farm import Farm, farm_of
from tests.services.s3 import ENVIRONMENT

pytestmark = pytest.mark.slow

LARGE = ("--vram-limit", "24", "--threads", "1")
SHORT = ("--set", "num_inference_steps=2", "--set", "width=64", "--set", "height=64")

FAMILIES: dict[str, Callable[[Path], Path]] = {
    "sd": classic.stable_diffusion,
    "sdxl": classic.stable_diffusion_xl,
    "sd3": stable_diffusion_3,
    "flux": flux,
}


def rows_of(program: Any, name: str, rows: list[dict[str, Any]]) -> str:
    (program.folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def ask(home: Path, statement: str) -> list[Any]:
    connection = sqlite3.connect(home / "catalog.db")
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


class Image(NamedTuple):
    """What is recorded of one."""

    model: str
    pixels: str
    rendering: dict[str, Any]


def images_of(home: Path, job: str) -> list[Image]:
    found = ask(
        home,
        "SELECT images.model, pixels_sha256, rendering FROM images JOIN jobs"
        f" ON jobs.id = images.job_id WHERE jobs.name = '{job}' ORDER BY item",
    )
    return [Image(Path(model).name, pixels, json.loads(how)) for model, pixels, how in found]


def needs_by_model(home: Path) -> dict[str, dict[str, int]]:
    """Bytes each mode needs at the group's own shape, by model."""
    found = ask(home, "SELECT model, requirements FROM groups")
    return {
        Path(model).name: {
            need["mode"]: need["memory_bytes"]
            for need in json.loads(requirements)["modes"]
            if not need.get("batch") and not need.get("tiled")
        }
        for model, requirements in found
    }


def test_each_family_renders_bit_for_bit_the_same_on_a_card_too_small_for_all_of_it(
    program: Any, tmp_path: Path
) -> None:
    for name, build in FAMILIES.items():
        build(tmp_path / name)
    rows = [{"prompt": "a red thing", "seed": 5, "model": f"./{name}"} for name in FAMILIES]
    program.run("render", rows_of(program, "all.jsonl", rows), *SHORT, *LARGE)
    large = {one.model: one for one in images_of(program.home, "all")}
    assert {one.rendering["mode"] for one in large.values()} == {"resident"}
    needs = needs_by_model(program.home)

    for row in rows:
        name = Path(str(row["model"])).name
        assert needs[name]["phased"] < needs[name]["resident"]
        limit = (needs[name]["phased"] + 1) / GIB
        home = program.folder / f"small-{name}"  # knows nothing of what was measured before
        manifest = rows_of(program, f"{name}.jsonl", [row])
        small_card = ("--vram-limit", repr(limit), "--threads", "1")
        program.run("render", manifest, *SHORT, *small_card, "--home", home)
        (small,) = images_of(home, name)
        assert small.rendering["mode"] in ("phased", "lean")
        assert small.pixels == large[name].pixels


def heavy(folder: Path) -> Path:
    """A model of 480 MB in float32; half of that, in 16 bit, would fit where it does not."""
    import torch
    from diffusers import StableDiffusionPipeline
    from torch import nn

    torch.manual_seed(0)
    text_encoder = parts.clip_text_encoder().half()
    words = torch.zeros(2_600_000, parts.CROSS, dtype=torch.float16)
    words[: len(parts.VOCABULARY)] = text_encoder.get_input_embeddings().weight.detach()
    embedding = nn.Embedding.from_pretrained(words)  # type: ignore[no-untyped-call]
    text_encoder.set_input_embeddings(embedding)
    text_encoder.config.vocab_size = len(words)
    StableDiffusionPipeline(
        text_encoder=text_encoder,
        tokenizer=parts.clip_tokenizer(folder / "words"),
        unet=parts.unet(block_out_channels=(32, 448)).half(),
        vae=parts.kl_vae().half(),
        scheduler=parts.ddim(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def test_a_card_that_runs_out_of_memory_goes_on_and_the_next_job_begins_where_it_got_to(
    program: Any, tmp_path: Path
) -> None:
    heavy(tmp_path / "heavy")
    rows = [{"prompt": f"thing {n}", "seed": n, "model": "./heavy"} for n in range(2)]
    first, second = (rows_of(program, f"{name}.jsonl", rows) for name in ("first", "second"))
    program.run("render", first, *SHORT, *LARGE, "--home", "large")
    large = images_of(program.folder / "large", "first")
    needs = needs_by_model(program.folder / "large")["heavy"]
    # Between what the formula thinks a card takes, in 16 bit, and what this one does.
    small = ("--vram-limit", repr((needs["resident"] + 1) / GIB), "--threads", "1")

    program.run("render", first, *SHORT, *small)
    program.run("render", second, *SHORT, *small, "--no-reuse")

    stepped, learned = (images_of(program.home, job) for job in ("first", "second"))
    assert [one.rendering["steps_down"] for one in stepped] == [["mode lean"]] * 2
    assert ["steps_down" in one.rendering for one in learned] == [False] * 2
    assert {one.rendering["mode"] for one in learned} == {"lean"}
    for others in (stepped, learned):
        assert [one.pixels for one in others] == [one.pixels for one in large]
    assert program.query("SELECT sum(failed) FROM jobs") == [(0,)]
    log = "".join(path.read_text() for path in (program.home / "logs").glob("worker-*.log"))
    assert log.count('"action": "step_down"') == 1


def test_a_job_that_fits_nowhere_ends_with_what_it_would_need(program: Any, tmp_path: Path) -> None:
    classic.stable_diffusion(tmp_path / "sd")
    manifest = rows_of(program, "one.jsonl", [{"prompt": "a thing", "model": "./sd"}])

    done = program.run("render", manifest, *SHORT, "--vram-limit", "0.05", code=1)

    assert "nothing here can render what is left" in done.stderr
    assert "GiB of VRAM" in done.stderr
    assert "rendermill resume one" in done.stderr
    program.run("resume", "one", "--threads", "1")
    program.check("one", items=1)


@pytest.fixture
def farm(tmp_path: Path, postgres_url: str, s3_url: str, redis_server: Server) -> Iterator[Farm]:
    environment = dict(ENVIRONMENT) | {
        "RENDERMILL_DATABASE_URL": postgres_url,
        "RENDERMILL_BROKER_URL": redis_server.url,
        "RENDERMILL_STORAGE_URL": s3_url,
    }
    with farm_of(tmp_path / "farm", environment) as made:
        yield made


def test_of_a_mixed_fleet_the_larger_card_takes_what_does_not_fit_the_smaller(
    farm: Farm, tmp_path: Path
) -> None:
    model = classic.stable_diffusion(tmp_path / "sd")
    row = {"model": str(model), "num_inference_steps": 2, "prompt": "a thing"}
    sides = (64, 512)
    (farm.folder / "both.jsonl").write_text(
        "".join(json.dumps(row | {"width": side, "height": side}) + "\n" for side in sides)
    )
    farm.start("scheduler", "scheduler")
    common = ("--device", "cpu", "--threads", "1", "--grace", "5")
    farm.start("small", "worker", "--name", "small", "--vram-limit", "0.25", *common)
    farm.run("submit", "both.jsonl", "--cpu", "never")
    farm.wait_until(lambda: farm.outcomes("both") == 1, "what fits the small card")
    farm.wait_until(lambda: "of VRAM" in farm.run("why", "both"), "the reason")
    assert "the largest live worker has 0.2 GiB" in farm.run("why", "both")

    farm.start("large", "worker", "--name", "large", "--vram-limit", "8", *common)
    farm.wait_until(lambda: farm.outcomes("both") == 2, "the rest")

    farm.check("both", items=2)
    took = farm.query(
        "SELECT images.width, workers.name FROM images JOIN workers"
        " ON workers.id = images.worker_id ORDER BY images.width"
    )
    assert [tuple(row) for row in took] == [(64, "small/cpu"), (512, "large/cpu")]
