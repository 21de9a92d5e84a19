"""ControlNets of the transformer families against diffusers' own call.

An ordinary call encodes all control pictures at once, the phases one by one, so latents are equal
but for rounding. SD3's pipeline draws from the encoding without a seed; it is made to take the
most probable latents, as the phases do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from storage.contract.errors import ModelUnusable
from storage.contract.items import ControlNet
from tests.models.phases import Phased, drawing, generators, to_bytes
from tests.models.transformer_calls import largest_difference, opened, own_sampler
from tests.models.transformer_cases import CASES, ITEMS, Case, folder_of, make_spec
from tests.models.transformer_controlnets import flux_controlnet, sd3_controlnet
from workers.engine.families.base import Inputs

# Diffusers warns of itself: its ControlNet for FLUX uses a class it has moved.
pytestmark = pytest.mark.filterwarnings("ignore:.*FluxPosEmbed:FutureWarning")

BY_NAME = {case.name: case for case in CASES}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def most_probable(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    drawn = DiagonalGaussianDistribution.sample

    def sample(self: Any, generator: Any = None) -> Any:
        return self.mode() if generator is None else drawn(self, generator)

    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", sample)


@pytest.mark.usefixtures("most_probable")
@pytest.mark.parametrize("count", [1, 2], ids=["one", "two"])
@pytest.mark.parametrize(
    ("case", "build", "pipeline"),
    [
        (BY_NAME["sd3"], sd3_controlnet, "StableDiffusion3ControlNetPipeline"),
        (BY_NAME["flux"], flux_controlnet, "FluxControlNetPipeline"),
    ],
    ids=["sd3", "flux"],
)
def test_controlnets_guide_as_in_an_ordinary_call(
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    case: Case,
    build: Callable[..., Path],
    pipeline: str,
    count: int,
) -> None:
    import diffusers

    folder = folder_of(case, tmp_path_factory)
    net_class = getattr(diffusers, pipeline.removesuffix("Pipeline") + "Model", None)
    net_class = net_class or diffusers.SD3ControlNetModel
    folders = [build(tmp_path / f"net{n}", folder, seed=n + 1) for n in range(count)]
    nets = [net_class.from_pretrained(one) for one in folders]
    scales, ends = [0.8, 0.5][:count], [1.0, 0.5][:count]
    spec = msgspec.structs.replace(
        make_spec(case, folder),
        controlnets=tuple(
            ControlNet(model=str(one), scale=scale, end=end)
            for one, scale, end in zip(folders, scales, ends, strict=True)
        ),
    )
    controls = [[drawing(n + net, 64, 96) for n in range(len(ITEMS))] for net in range(count)]
    inputs = [Inputs(control_images=tuple(one)) for one in zip(*controls, strict=True)]

    run = Phased(opened(folder, case), spec, {f"controlnet.{n}": net for n, net in enumerate(nets)})
    pictures = run.pictures(ITEMS, inputs)
    one = count == 1
    whole = getattr(diffusers, pipeline).from_pipe(
        opened(folder, case), controlnet=nets[0] if one else nets
    )
    whole.set_progress_bar_config(disable=True)
    own_sampler(whole, spec)
    negatives = {"negative_prompt": [item.negative_prompt for item in ITEMS]}
    own = whole(
        prompt=[item.prompt for item in ITEMS],
        control_image=controls[0] if one else controls,
        controlnet_conditioning_scale=scales[0] if one else scales,
        control_guidance_end=ends[0] if one else ends,
        width=64,
        height=96,
        num_inference_steps=4,
        guidance_scale=spec.guidance_scale,
        generator=generators(ITEMS),
        output_type="np",
        **(negatives if case.negatives else {}),
    ).images
    plain = msgspec.structs.replace(spec, controlnets=())
    without = Phased(opened(folder, case), plain).pictures(ITEMS, [Inputs() for _ in ITEMS])

    assert largest_difference(pictures, to_bytes(own)) <= 1
    assert largest_difference(pictures, without) > 20


def test_a_controlnet_that_looks_at_pixels_is_refused(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    import diffusers

    case = BY_NAME["flux"]
    folder = folder_of(case, tmp_path_factory)
    net = diffusers.FluxControlNetModel.from_pretrained(flux_controlnet(tmp_path / "net", folder))
    net.input_hint_block = torch.nn.Identity()
    spec = msgspec.structs.replace(
        make_spec(case, folder), controlnets=(ControlNet(model=str(tmp_path / "net")),)
    )
    run = Phased(opened(folder, case), spec, {"controlnet.0": net})

    with pytest.raises(ModelUnusable, match="looks at pixels"):
        run.pictures(ITEMS[:1], [Inputs(control_images=(drawing(0, 64, 96),))])
