"""One released model of each family, by its parameters: what tables and estimates are shown with.

Counted on modules without weights; the configurations were written from general knowledge.
Those of the language models that encode text are published figures. A model's own card is read
from its files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

CLIP_L: Final = 123_060_480
CLIP_H: Final = 340_387_840
CLIP_BIG_G: Final = 694_659_840
T5_XXL: Final = 4_762_310_656
VAE: Final = 83_653_863
VAE_16: Final = 83_819_683


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """A released model."""

    family: str  #: name of its record
    title: str  #: for people
    parameters: Mapping[str, int]  #: per component
    streamed: int  #: parameters of the denoiser on the device at once where it is streamed
    side: int = 1024  #: its own width and height
    force_upcast: bool = False


SD_15: Final = Reference(
    family="stable-diffusion",
    title="Stable Diffusion 1.5",
    parameters={"text_encoder": CLIP_L, "unet": 859_520_964, "vae": VAE},
    streamed=519_684_804,
    side=512,
)
SD_21: Final = Reference(
    family="stable-diffusion",
    title="Stable Diffusion 2.1",
    parameters={"text_encoder": CLIP_H, "unet": 865_910_724, "vae": VAE},
    streamed=522_306_244,
    side=768,
)
SDXL: Final = Reference(
    family="stable-diffusion-xl",
    title="SDXL base",
    parameters={
        "text_encoder": CLIP_L,
        "text_encoder_2": CLIP_BIG_G,
        "unet": 2_567_463_684,
        "vae": VAE,
    },
    streamed=2_384_410_564,
    force_upcast=True,
)
SD_35_MEDIUM: Final = Reference(
    family="stable-diffusion-3",
    title="SD 3.5 medium",
    parameters={
        "text_encoder": 123_650_304,
        "text_encoder_2": CLIP_BIG_G,
        "text_encoder_3": T5_XXL,
        "transformer": 2_243_171_520,
        "vae": VAE_16,
    },
    streamed=222_490_432,
)
FLUX_1_DEV: Final = Reference(
    family="flux",
    title="FLUX.1 dev",
    parameters={
        "text_encoder": CLIP_L,
        "text_encoder_2": T5_XXL,
        "transformer": 11_901_408_320,
        "vae": VAE_16,
    },
    streamed=743_787_584,
)

REFERENCES: Final[tuple[Reference, ...]] = (
    SD_15,
    SD_21,
    Reference(
        family="stable-diffusion-inpainting",
        title="SD 1.5 inpainting",
        parameters=SD_15.parameters,
        streamed=SD_15.streamed,
        side=512,
    ),
    Reference(
        family="stable-diffusion-depth",
        title="SD 2 depth",
        parameters={**SD_21.parameters, "depth_estimator": 120_092_033},
        streamed=SD_21.streamed,
        side=512,
    ),
    Reference(
        family="stable-diffusion-upscaler",
        title="SD x4 upscaler",
        parameters={"text_encoder": CLIP_H, "unet": 473_398_020, "vae": 55_325_927},
        streamed=315_026_948,
        side=2048,
        force_upcast=True,
    ),
    Reference(
        family="latent-consistency",
        title="LCM of SD 1.5",
        parameters=SD_15.parameters,
        streamed=SD_15.streamed,
        side=512,
    ),
    SDXL,
    Reference(
        family="stable-diffusion-xl-inpainting",
        title="SDXL inpainting",
        parameters=SDXL.parameters,
        streamed=SDXL.streamed,
        force_upcast=True,
    ),
    Reference(
        family="stable-diffusion-xl-refiner",
        title="SDXL refiner",
        parameters={"text_encoder_2": CLIP_BIG_G, "unet": 2_259_526_660, "vae": VAE},
        streamed=1_564_805_764,
        force_upcast=True,
    ),
    SD_35_MEDIUM,
    FLUX_1_DEV,
    Reference(
        family="flux-2",
        title="FLUX.2 dev",
        parameters={
            "text_encoder": 24_011_361_280,
            "transformer": 32_223_281_152,
            "vae": 84_046_115,
        },
        streamed=2_779_251_712,
    ),
    Reference(
        family="flux-2-klein",
        title="FLUX.2 Klein 9B",
        parameters={
            "text_encoder": 8_190_735_360,
            "transformer": 9_096_407_040,
            "vae": 84_046_115,
        },
        streamed=1_244_660_736,
    ),
    Reference(
        family="pixart-alpha",
        title="PixArt-α XL 1024",
        parameters={"text_encoder": T5_XXL, "transformer": 605_301_152, "vae": VAE},
        streamed=52_656_800,
    ),
    Reference(
        family="pixart-sigma",
        title="PixArt-Σ XL 1024",
        parameters={"text_encoder": T5_XXL, "transformer": 605_301_152, "vae": VAE},
        streamed=52_656_800,
    ),
    Reference(
        family="sana",
        title="Sana 1.6B",
        parameters={
            "text_encoder": 2_614_341_888,
            "transformer": 1_604_462_752,
            "vae": 362_893_923,
        },
        streamed=201_891_232,
    ),
    Reference(
        family="sana-sprint",
        title="Sana-Sprint 1.6B",
        parameters={
            "text_encoder": 2_614_341_888,
            "transformer": 1_604_462_752,
            "vae": 362_893_923,
        },
        streamed=201_891_232,
    ),
    Reference(
        family="qwen-image",
        title="Qwen-Image",
        parameters={
            "text_encoder": 8_292_166_656,
            "transformer": 20_430_401_088,
            "vae": 126_892_531,
        },
        streamed=720_185_920,
    ),
    Reference(
        family="z-image",
        title="Z-Image",
        parameters={
            "text_encoder": 4_022_468_096,
            "transformer": 6_154_908_736,
            "vae": VAE_16,
        },
        streamed=363_836_224,
    ),
)
