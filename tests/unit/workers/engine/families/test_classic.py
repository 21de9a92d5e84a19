"""Each kind of task of the CLIP and UNet families against diffusers' own call, on the CPU.

In float32 the phases give the very bytes of an ordinary call of the same batch: the same
computations on the same shapes. Where a component sees one picture at a time and in an ordinary
call the whole batch (depth), one level of 255 may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from storage.contract.items import (
    DEPTH_TO_IMAGE,
    IMAGE_TO_IMAGE,
    INPAINT,
    UPSCALE,
    BatchShape,
    ControlNet,
    GroupSpec,
    IpAdapter,
)
from storage.contract.samplers import find_sampler
from storage.testing.factories import make_item
from tests.models import classic
from tests.models.phases import Phased, drawing, generators, mask, open_whole, to_bytes
from workers.engine.families.base import Inputs
from workers.engine.ip_adapters import attach

WIDTH, HEIGHT = 64, 96  #: not square, so that no side is taken for the other
ITEMS = [
    make_item(n, prompt=f"a red thing {n}", negative_prompt=text, seed=11 + n)
    for n, text in enumerate(["dull", "bad", "grey and flat"])
]
WITHOUT_NEGATIVES = [
    make_item(n, prompt=f"a thing {n}", negative_prompt="", seed=n) for n in range(3)
]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Kind:
    """A model by its name and how it is built."""

    name: str
    build: Callable[[Path], Path]

    def __str__(self) -> str:
        return self.name


def built(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model, made once."""
    base = tmp_path_factory.getbasetemp() / "models"
    folder = base / kind.name
    if not folder.exists():
        base.mkdir(exist_ok=True)
        kind.build(folder)
    return folder


def make_spec(folder: Path, **changes: Any) -> GroupSpec:
    given: dict[str, Any] = {
        "model": str(folder),
        "width": WIDTH,
        "height": HEIGHT,
        "num_inference_steps": 4,
        "guidance_scale": 6.0,
        "scheduler": "ddim",
        "batch": BatchShape(encode=3, denoise=3, decode=3),
        **changes,
    }
    return GroupSpec(**given)


def inputs_of(spec: GroupSpec, count: int) -> list[Inputs]:
    scale = 4 if spec.kind == UPSCALE else 1
    size = (spec.width // scale, spec.height // scale)
    return [
        Inputs(
            image=drawing(n, *size) if spec.needs_picture else None,
            mask_image=mask(n, *size) if spec.kind == INPAINT else None,
            control_images=tuple(
                drawing(n + 5 + net, *size) for net in range(len(spec.controlnets))
            ),
            ip_adapter_image=drawing(n + 3, 40, 50) if spec.ip_adapter else None,
        )
        for n in range(count)
    ]


def ordinary(whole: Any, spec: GroupSpec, items: Any, inputs: list[Inputs], **options: Any) -> Any:
    """What diffusers makes of the same in one call, as bytes."""
    sampler = find_sampler(spec.scheduler)
    import diffusers

    whole.scheduler = getattr(diffusers, sampler.scheduler_class).from_config(
        whole.scheduler.config, **sampler.overrides
    )
    call: dict[str, Any] = {
        "prompt": [item.prompt for item in items],
        "negative_prompt": [item.negative_prompt for item in items],
        "num_inference_steps": spec.num_inference_steps,
        "guidance_scale": spec.guidance_scale,
        "generator": generators(items),
        "output_type": "np",
    }
    if spec.clip_skip is not None:
        call["clip_skip"] = spec.clip_skip
    if spec.kind not in {IMAGE_TO_IMAGE, DEPTH_TO_IMAGE, UPSCALE}:
        call |= {"width": spec.width, "height": spec.height}
    if spec.needs_picture:
        call["image"] = [slot.image for slot in inputs]
    if spec.kind == INPAINT:
        call["mask_image"] = [slot.mask_image for slot in inputs]
    if spec.strength is not None:
        call["strength"] = spec.strength
    if spec.noise_level is not None:
        call["noise_level"] = spec.noise_level
    call |= options
    return to_bytes(whole(**{k: v for k, v in call.items() if v is not ...}).images)


def type_of(pipeline: str) -> Any:
    import diffusers

    return getattr(diffusers, pipeline)


def furthest(ours: np.ndarray, theirs: np.ndarray) -> int:
    """The largest difference of two values, of 255."""
    assert ours.shape == theirs.shape
    return int(np.abs(ours.astype(int) - theirs.astype(int)).max())


def both(
    folder: Path, pipeline: str | None, spec: GroupSpec, items: Any = ITEMS, **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    """What the phases make, and what one ordinary call makes."""
    inputs = inputs_of(spec, len(items))
    ours = Phased(open_whole(folder), spec).pictures(items, inputs)
    theirs = ordinary(open_whole(folder, pipeline), spec, items, inputs, **options)
    assert ours.std() > 5  # not of one colour
    return ours, theirs


SD = Kind("sd", classic.stable_diffusion)
SD_MASKED = Kind("sd-masked", partial(classic.stable_diffusion, inpainting=True))
V_PREDICTION = Kind("v", partial(classic.stable_diffusion, prediction_type="v_prediction"))
XL = Kind("xl", classic.stable_diffusion_xl)
XL_MASKED = Kind("xl-masked", partial(classic.stable_diffusion_xl, inpainting=True))
REFINER = Kind("refiner", classic.refiner)
DEPTH = Kind("depth", classic.depth)
UPSCALER = Kind("upscaler", classic.upscaler)
LCM = Kind("lcm", classic.latent_consistency)
TURBO = Kind("turbo", classic.turbo)


SAMPLERS = ("ddim", "plms", "euler", "euler_a", "dpm++_2m_karras", "dpm++_2m_sde", "heun", "unipc")


@pytest.mark.parametrize(
    ("model", "scheduler"),
    [*((SD, name) for name in (*SAMPLERS, "lms")), *((XL, name) for name in SAMPLERS[:4])],
    ids=str,
)
def test_text_to_image_with_any_sampler(
    tmp_path_factory: pytest.TempPathFactory, model: Kind, scheduler: str
) -> None:
    folder = built(model, tmp_path_factory)

    ours, theirs = both(folder, None, make_spec(folder, scheduler=scheduler))

    assert furthest(ours, theirs) == 0


@pytest.mark.parametrize(
    ("strength", "scheduler"), [(0.5, "euler_a"), (0.5, "plms"), (1.0, "euler_a"), (0.75, "heun")]
)
@pytest.mark.parametrize(
    ("model", "kind", "pipeline"),
    [
        (SD, IMAGE_TO_IMAGE, "StableDiffusionImg2ImgPipeline"),
        (SD, INPAINT, "StableDiffusionInpaintPipeline"),
        (XL, IMAGE_TO_IMAGE, "StableDiffusionXLImg2ImgPipeline"),
        (XL, INPAINT, "StableDiffusionXLInpaintPipeline"),
    ],
    ids=["sd-image", "sd-inpaint", "sdxl-image", "sdxl-inpaint"],
)
def test_a_picture_to_start_from(
    tmp_path_factory: pytest.TempPathFactory,
    model: Kind,
    kind: str,
    pipeline: str,
    strength: float,
    scheduler: str,
) -> None:
    folder = built(model, tmp_path_factory)
    spec = make_spec(folder, kind=kind, strength=strength, scheduler=scheduler)

    ours, theirs = both(folder, pipeline, spec)

    assert furthest(ours, theirs) == 0


def test_an_empty_negative_prompt_is_encoded_by_stable_diffusion(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = built(SD, tmp_path_factory)

    ours, theirs = both(folder, None, make_spec(folder), WITHOUT_NEGATIVES, negative_prompt=None)

    assert furthest(ours, theirs) == 0


def test_an_empty_negative_prompt_is_all_zeros_to_sdxl(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = built(XL, tmp_path_factory)

    ours, theirs = both(folder, None, make_spec(folder), WITHOUT_NEGATIVES, negative_prompt=None)
    encoded = ordinary(open_whole(folder), make_spec(folder), WITHOUT_NEGATIVES, [])

    assert furthest(ours, theirs) == 0
    assert not np.array_equal(ours, encoded)


def test_the_refiner_encodes_an_empty_negative_prompt(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = built(REFINER, tmp_path_factory)
    spec = make_spec(folder, kind=IMAGE_TO_IMAGE, strength=0.5)

    ours, theirs = both(folder, None, spec, WITHOUT_NEGATIVES)

    assert furthest(ours, theirs) == 0


@pytest.mark.parametrize("kind", [IMAGE_TO_IMAGE, INPAINT])
def test_the_refiner_paints_details_anew(
    tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    folder = built(REFINER, tmp_path_factory)
    pipeline = f"StableDiffusionXL{'Inpaint' if kind == INPAINT else 'Img2Img'}Pipeline"
    spec = make_spec(folder, kind=kind, strength=0.5)

    ours, theirs = both(folder, pipeline, spec)

    assert furthest(ours, theirs) == 0


@pytest.mark.parametrize("model", [SD, XL], ids=["sd", "sdxl"])
def test_without_guidance_no_negative_is_computed(
    tmp_path_factory: pytest.TempPathFactory, model: Kind
) -> None:
    folder = built(model, tmp_path_factory)
    spec = make_spec(folder, guidance_scale=1.0)
    phased = Phased(open_whole(folder), spec)

    ours, theirs = both(folder, None, spec)

    assert not phased.adapter.needs_negatives(spec)
    assert furthest(ours, theirs) == 0


@pytest.mark.parametrize("clip_skip", [0, 1])
@pytest.mark.parametrize("model", [SD, XL], ids=["sd", "sdxl"])
def test_skipping_layers_of_the_text_encoder(
    tmp_path_factory: pytest.TempPathFactory, model: Kind, clip_skip: int
) -> None:
    folder = built(model, tmp_path_factory)
    spec = make_spec(folder, clip_skip=clip_skip)
    theirs_whole = open_whole(folder)
    # diffusers looks for the last norm where transformers 5 no longer has it.
    norm = theirs_whole.text_encoder.final_layer_norm
    inner = SimpleNamespace(final_layer_norm=norm)
    object.__setattr__(theirs_whole.text_encoder, "text_model", inner)

    ours = Phased(open_whole(folder), spec).pictures(ITEMS, inputs_of(spec, 3))
    theirs = ordinary(theirs_whole, spec, ITEMS, [])
    plain = Phased(open_whole(folder), make_spec(folder)).pictures(ITEMS, inputs_of(spec, 3))

    assert furthest(ours, theirs) == 0
    assert np.array_equal(ours, plain) == (model is SD and clip_skip == 0) or model is XL


def test_v_prediction(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = built(V_PREDICTION, tmp_path_factory)

    ours, theirs = both(folder, None, make_spec(folder, scheduler="euler"))

    assert furthest(ours, theirs) == 0


@pytest.mark.parametrize("strength", [0.6, 1.0])
@pytest.mark.parametrize(
    ("model", "pipeline"),
    [
        (SD_MASKED, "StableDiffusionInpaintPipeline"),
        (XL_MASKED, "StableDiffusionXLInpaintPipeline"),
    ],
    ids=["sd", "sdxl"],
)
def test_inpainting_by_a_model_that_sees_the_masked_picture(
    tmp_path_factory: pytest.TempPathFactory, model: Kind, pipeline: str, strength: float
) -> None:
    folder = built(model, tmp_path_factory)
    spec = make_spec(folder, kind=INPAINT, strength=strength, scheduler="euler_a")

    ours, theirs = both(folder, pipeline, spec)

    assert furthest(ours, theirs) == 0


@pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning")
def test_depth_to_image(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = built(DEPTH, tmp_path_factory)
    spec = make_spec(folder, kind=DEPTH_TO_IMAGE, strength=0.8)

    ours, theirs = both(folder, None, spec)

    # The estimator sees one picture at a time here, and all at once there.
    assert furthest(ours, theirs) <= 1


@pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning")
def test_depth_to_image_of_one_picture_is_the_very_same(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = built(DEPTH, tmp_path_factory)
    spec = make_spec(folder, kind=DEPTH_TO_IMAGE, strength=0.8)

    ours, theirs = both(folder, None, spec, ITEMS[:1])

    assert furthest(ours, theirs) == 0


def test_upscaling(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = built(UPSCALER, tmp_path_factory)
    spec = make_spec(folder, kind=UPSCALE, noise_level=30, width=128, height=192)

    ours, theirs = both(folder, None, spec)

    assert ours.shape == (3, 192, 128, 3)
    assert furthest(ours, theirs) == 0


@pytest.mark.parametrize("kind", ["text-to-image", IMAGE_TO_IMAGE])
def test_latent_consistency(tmp_path_factory: pytest.TempPathFactory, kind: str) -> None:
    folder = built(LCM, tmp_path_factory)
    changes = {"strength": 0.8} if kind == IMAGE_TO_IMAGE else {}
    spec = make_spec(folder, kind=kind, scheduler="LCMScheduler", guidance_scale=8.5, **changes)
    pipeline = f"LatentConsistencyModel{'Img2Img' if kind == IMAGE_TO_IMAGE else ''}Pipeline"

    ours, theirs = both(folder, pipeline, spec, negative_prompt=...)

    assert furthest(ours, theirs) == 0


@pytest.mark.parametrize("steps", [1, 2])
def test_turbo_models_take_one_step_without_guidance(
    tmp_path_factory: pytest.TempPathFactory, steps: int
) -> None:
    folder = built(TURBO, tmp_path_factory)
    spec = make_spec(folder, scheduler="euler_a", guidance_scale=0.0, num_inference_steps=steps)

    ours, theirs = both(folder, None, spec)

    assert furthest(ours, theirs) == 0


@pytest.mark.parametrize("nets", [1, 2])
@pytest.mark.parametrize(
    ("model", "kind", "pipeline"),
    [
        (SD, "text-to-image", "StableDiffusionControlNetPipeline"),
        (SD, IMAGE_TO_IMAGE, "StableDiffusionControlNetImg2ImgPipeline"),
        (SD, INPAINT, "StableDiffusionControlNetInpaintPipeline"),
        (XL, "text-to-image", "StableDiffusionXLControlNetPipeline"),
        (XL, IMAGE_TO_IMAGE, "StableDiffusionXLControlNetImg2ImgPipeline"),
        (XL, INPAINT, "StableDiffusionXLControlNetInpaintPipeline"),
    ],
)
def test_controlnets_guide(
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    model: Kind,
    kind: str,
    pipeline: str,
    nets: int,
) -> None:
    from diffusers import ControlNetModel

    folder = built(model, tmp_path_factory)
    made = [classic.controlnet(tmp_path / str(n), folder, seed=70 + n) for n in range(nets)]
    opened = [ControlNetModel.from_pretrained(path) for path in made]
    given = [
        ControlNet(model=str(path), scale=0.7 + n / 10, start=0.0, end=1.0 - n / 2)
        for n, path in enumerate(made)
    ]
    changes: dict[str, Any] = {} if kind == "text-to-image" else {"strength": 0.75}
    spec = make_spec(folder, kind=kind, controlnets=tuple(given), scheduler="euler_a", **changes)
    inputs = inputs_of(spec, len(ITEMS))
    pictures: list[Any] = [[slot.control_images[n] for slot in inputs] for n in range(nets)]
    if nets > 1:  # of several nets' pictures diffusers takes arrays alone
        pictures = [np.stack([np.array(p) for p in net]) / np.float32(255) for net in pictures]
    extras = {f"controlnet.{n}": net for n, net in enumerate(opened)}

    ours = Phased(open_whole(folder), spec, extras).pictures(ITEMS, inputs)
    controls = pictures if nets > 1 else pictures[0]
    whole = open_whole(folder, pipeline, controlnet=opened if nets > 1 else opened[0])
    theirs = ordinary(
        whole,
        spec,
        ITEMS,
        inputs,
        **{"image" if kind == "text-to-image" else "control_image": controls},
        controlnet_conditioning_scale=[net.scale for net in given] if nets > 1 else 0.7,
        control_guidance_end=[net.end for net in given] if nets > 1 else 1.0,
    )

    assert furthest(ours, theirs) == 0
    changes["controlnets"] = ()
    without = Phased(
        open_whole(folder), make_spec(folder, kind=kind, scheduler="euler_a", **changes)
    ).pictures(ITEMS, inputs)
    assert not np.array_equal(ours, without)


@pytest.mark.parametrize(
    ("kind", "guidance_scale", "plus"),
    [
        ("text-to-image", 6.0, False),
        ("text-to-image", 6.0, True),
        ("text-to-image", 1.0, True),
        (IMAGE_TO_IMAGE, 1.0, False),
    ],
)
@pytest.mark.parametrize("model", [SD, XL], ids=["sd", "sdxl"])
def test_an_ip_adapter_takes_after_a_picture(
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    model: Kind,
    kind: str,
    guidance_scale: float,
    plus: bool,
) -> None:
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    folder = built(model, tmp_path_factory)
    place = classic.ip_adapter(tmp_path / "ip", folder, plus=plus)
    adapter = IpAdapter(model=str(place), scale=0.6)
    changes = {} if kind == "text-to-image" else {"strength": 0.75}
    spec = make_spec(
        folder, kind=kind, ip_adapter=adapter, guidance_scale=guidance_scale, **changes
    )
    inputs = inputs_of(spec, len(ITEMS))
    encoder = CLIPVisionModelWithProjection.from_pretrained(place / "models" / "image_encoder")
    extras = {
        "image_encoder": encoder,
        "feature_extractor": CLIPImageProcessor.from_pretrained(place / "models" / "image_encoder"),
    }

    def dress(name: str, component: Any) -> None:
        if name == "unet":
            attach(component, adapter)

    ours = Phased(open_whole(folder), spec, extras, dress).pictures(ITEMS, inputs)
    stem = "StableDiffusionXL" if model is XL else "StableDiffusion"
    middle = "" if kind == "text-to-image" else "Img2Img"
    for n, item in enumerate(ITEMS):  # diffusers gives one picture to a whole batch
        whole = open_whole(folder, f"{stem}{middle}Pipeline")
        whole.load_ip_adapter(str(place), subfolder="models", weight_name=adapter.weight_name)
        whole.set_ip_adapter_scale(0.6)
        look = inputs[n].ip_adapter_image
        theirs = ordinary(whole, spec, [item], inputs[n : n + 1], ip_adapter_image=look)
        # Another batch shape: one picture here, three there.
        assert furthest(ours[n], theirs[0]) <= 1
        alone = Phased(open_whole(folder), spec, extras, dress)
        assert np.array_equal(alone.pictures([item], inputs[n : n + 1]), theirs)


def test_each_step_is_told(tmp_path_factory: pytest.TempPathFactory) -> None:
    for kind, told in ((SD, "text-to-image"), (UPSCALER, UPSCALE)):
        folder = built(kind, tmp_path_factory)
        spec = make_spec(folder, kind=told, width=128, height=128)
        phased = Phased(open_whole(folder), spec)

        phased.pictures(ITEMS[:1], inputs_of(spec, 1))

        assert phased.steps == [1, 2, 3, 4]


def test_what_is_made_of_pictures_does_not_depend_on_seeds_and_neighbours(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = built(SD, tmp_path_factory)
    spec = make_spec(folder, kind=INPAINT, strength=0.5)
    inputs = inputs_of(spec, 3)
    phased = Phased(open_whole(folder), spec)
    noise = generators(ITEMS)
    before = [generator.get_state() for generator in noise]

    with torch.no_grad():
        together = phased.adapter.condition(phased.bench("vae"), inputs, noise)
        alone = phased.adapter.condition(phased.bench("vae"), inputs[1:2], noise[:1])

    assert all(torch.equal(alone[0][name], together[1][name]) for name in together[1])
    assert all(
        torch.equal(a, generator.get_state()) for a, generator in zip(before, noise, strict=True)
    )


@pytest.mark.filterwarnings("ignore:`upcast_vae` is deprecated:FutureWarning")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    ("model", "kind", "pipeline"),
    [
        (SD, "text-to-image", "StableDiffusionPipeline"),
        (SD, IMAGE_TO_IMAGE, "StableDiffusionImg2ImgPipeline"),
        (SD, INPAINT, "StableDiffusionInpaintPipeline"),
        (DEPTH, DEPTH_TO_IMAGE, "StableDiffusionDepth2ImgPipeline"),
        (UPSCALER, UPSCALE, "StableDiffusionUpscalePipeline"),
        (XL, "text-to-image", "StableDiffusionXLPipeline"),
        (XL, IMAGE_TO_IMAGE, "StableDiffusionXLImg2ImgPipeline"),
        (XL, INPAINT, "StableDiffusionXLInpaintPipeline"),
    ],
)
def test_half_precision_is_what_diffusers_makes_of_it(
    tmp_path_factory: pytest.TempPathFactory,
    model: Kind,
    kind: str,
    pipeline: str,
    dtype: torch.dtype,
) -> None:
    """SDXL's VAE computes in float32 where its config says that it overflows."""
    folder = built(model, tmp_path_factory)
    side = {"width": 128, "height": 128} if kind == UPSCALE else {}
    strong = {"strength": 0.75} if kind in {IMAGE_TO_IMAGE, INPAINT, DEPTH_TO_IMAGE} else {}
    spec = make_spec(folder, kind=kind, **side, **strong)
    inputs = inputs_of(spec, 1)

    whole = open_whole(folder, dtype=dtype)
    ours = Phased(whole, spec, dtype=dtype).pictures(ITEMS[:1], inputs)
    own = open_whole(folder, dtype=dtype)
    if type(own).__name__ != pipeline:
        own = type_of(pipeline).from_pipe(own, dtype=dtype)
        own.set_progress_bar_config(disable=True)
    theirs = ordinary(own, spec, ITEMS[:1], inputs)

    assert whole.vae.dtype == dtype
    # Diffusers brings pixels from -1..1 to 0..1 in the VAE's precision, and this in float32.
    assert furthest(ours, theirs) <= (0 if model is XL and dtype == torch.float16 else 1)
