"""Somebody's diffusers pipeline, asked from outside: one output per (prompt, noise seed).

Whatever `AutoPipelineForText2Image` or `DiffusionPipeline` opens, with or without a prompt. Weights
are safetensors unless the user says otherwise, and no code that comes with a model is run.
"""

from __future__ import annotations

import inspect
import logging
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import (
    AutoencoderKL,
    AutoPipelineForText2Image,
    DiffusionPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from huggingface_hub import constants
from jaxtyping import Float, UInt8
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from byheart.auditing.inside import Shown
from byheart.auditing.pictures import picture
from byheart.data.codec import to_8bit, to_signed
from byheart.data.pretrained import folder_or_hub, not_fetched, quiet_loading
from byheart.model.ideal import image_of
from byheart.model.rng import Stream, generator
from byheart.model.unet import PREDICTIONS
from byheart.runtime.errors import few, short


@dataclass(frozen=True)
class Generated:
    """One output, and what the network said at its first step.

    difference: length of the difference of the network's predictions with the prompt and with the
    empty one, at the first step from pure noise (Wen et al. 2024, "Detecting, explaining, and
    mitigating memorization in diffusion models", eq. 3), in the prediction's own units.
    one_step: the picture that this first prediction, with the prompt, says is under the noise
    (Webster 2023, "A reproducible extraction of training images from diffusion models").
    Both None where they are not defined.
    """

    image: Image.Image
    difference: float | None
    one_step: Image.Image | None


@dataclass(frozen=True)
class Options:
    """How a model is asked. None: as it comes."""

    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    side: int | None = None  # pixels of what is generated
    device: str = "cpu"
    half: bool = False
    allow_pickle: bool = False


def clean(
    x: Float[Tensor, "b c h w"], said: Float[Tensor, "b c h w"], alpha: float, kind: str
) -> Float[Tensor, "b c h w"] | None:
    """x_0 from a prediction at the noise level with alpha_bar = `alpha`. None: it says nothing of
    the picture (epsilon at alpha = 0), or is of a kind that nobody here knows."""
    if kind not in PREDICTIONS:
        return None
    return image_of(x, said, alpha**0.5, (1 - alpha) ** 0.5, kind)


def seen_in(
    x: Float[Tensor, "c h w"],
    empty: Float[Tensor, "c h w"],
    said: Float[Tensor, "c h w"],
    alpha: float,
    kind: str,
    decode: Callable[[Float[Tensor, "1 c h w"]], UInt8[Tensor, "1 3 s s"]] | None,
) -> tuple[float, Image.Image | None]:
    """`Generated.difference` and `Generated.one_step` of two predictions, with the empty prompt and
    with another. decode: None where latents are not pictures."""
    # Off the device first: mps knows no float64.
    difference = float((said - empty).float().cpu().double().norm())
    x0 = None if decode is None else clean(x[None], said[None], alpha, kind)
    return difference, None if decode is None or x0 is None else picture(decode(x0)[0])


def moved(network: Any, device: str) -> Any:
    """The network or pipeline on a device. ValueError: no such device, or it is too small."""
    try:
        return network.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {device}: {short(error)}: type --device cpu") from error


# model.bf16.safetensors, model.fp16-00001-of-00002.safetensors
VARIANT = re.compile(r"\.([A-Za-z]\w*)(?:-\d+-of-\d+)?\.safetensors$")
LIBRARIES = {"diffusers", "transformers"}
PICKLED = {".bin", ".pt", ".ckpt"}
TRUST = "or, if you trust who made it, add --allow-pickle"


def check_parts(config: dict[str, Any], where: str) -> None:
    """ValueError: model_index.json names a part outside diffusers and transformers. diffusers would
    import that module from anywhere, the folder that byheart is started in included."""
    if not isinstance(config.get("_class_name"), str):
        raise ValueError("its model_index.json names a pipeline of its own, and no code is run")
    for part, named in config.items():
        if part.startswith("_") or not isinstance(named, list | tuple) or not named:
            continue
        library = named[0]
        if library is None:
            continue
        known = isinstance(library, str) and library.isidentifier()
        if not known or not (library in LIBRARIES or hasattr(diffusers.pipelines, library)):
            raise ValueError(
                f"its model_index.json takes {part} from {library!r}: parts of diffusers and "
                "transformers are opened, and no other code is run"
            )
        if (code := Path(where) / part / f"{library}.py").exists():
            raise ValueError(f"it brings code ({code}), and none is run")


def variants(where: str) -> list[str | None]:
    """Which sets of weights are tried: some models are there in half precision alone."""
    if not Path(where).is_dir():
        return [None, "fp16", "bf16"]
    named = (VARIANT.search(file.name) for file in Path(where).rglob("*.safetensors"))
    return [None, *sorted({found[1] for found in named if found})]


def lora_file(lora: str, asking: Options) -> tuple[str, str | None]:
    """Folder (or hub id) and name of the one file that is meant; None: whatever the hub has.

    ValueError: a folder with none or several, or a pickle without --allow-pickle.
    """
    path = Path(lora)
    if path.is_file():
        if path.suffix != ".safetensors" and not asking.allow_pickle:
            raise ValueError(f"--lora {lora} is no safetensors file: convert it, {TRUST}")
        return str(path.parent), path.name
    where = folder_or_hub(lora, "--lora")
    if not path.is_dir():
        return where, None
    names = sorted(file.name for file in path.glob("*.safetensors"))
    if not names and asking.allow_pickle:
        names = sorted(file.name for file in path.iterdir() if file.suffix in PICKLED)
    if len(names) == 1:
        return where, names[0]
    if names:
        shown = few(names, 5)
        raise ValueError(f"--lora {lora} holds {len(names)} files ({shown}): type the path of one")
    pickled = any(file.suffix in PICKLED for file in path.iterdir())
    cure = f": convert what is there, {TRUST}" * pickled
    raise ValueError(f"--lora {lora} holds no safetensors file{cure}")


def why(error: BaseException, where: str, asking: Options) -> str:
    """What went wrong, and whether --allow-pickle is a way out of it."""
    if reason := not_fetched(error):
        return reason
    words = short(error)
    if asking.allow_pickle:
        return words
    named = any(end in words for end in PICKLED)
    if Path(where).is_dir():
        pickled = any(file.suffix in PICKLED for file in Path(where).rglob("*"))
        pickled &= named or "safetensors" in words
    elif constants.HF_HUB_OFFLINE:
        return f"{words}: HF_HUB_OFFLINE forbids to fetch what is missing: unset that"
    else:  # of a hub id only what diffusers says is known
        pickled = "safetensors" in words and (named or "find" in words or "found" in words)
    return f"{words}: only safetensors are read; convert it, {TRUST}" if pickled else words


GUIDED = 7.5  # guidance under which the first step is looked at: any above 1 asks both ways
FIRST_OF = 50  # steps, so that the first begins near pure noise whatever the user asked for


@dataclass(frozen=True)
class Pipeline:
    """A model that can be asked; another is own_run.OwnRun."""

    pipeline: Any
    asking: Options
    notes: list[str]  # what is to be said of the model

    @property
    def conditional(self) -> bool:
        """Whether it takes a prompt."""
        return "prompt" in self._takes

    @property
    def _takes(self) -> Any:
        return inspect.signature(self.pipeline.__call__).parameters

    @property
    def network(self) -> Any:
        """The denoising network."""
        parts = (getattr(self.pipeline, name, None) for name in ("unet", "transformer", "prior"))
        return next((part for part in parts if isinstance(part, torch.nn.Module)), None)

    @property
    def parameters(self) -> int:
        """Of the denoising network."""
        network = self.network
        return 0 if network is None else sum(p.numel() for p in network.parameters())

    def generate(self, prompt: str, noise: int) -> Generated:
        """One at a time, so that no output depends on its neighbours. ValueError: it cannot."""
        image = self._called(prompt, noise).images[0]
        difference, one_step = self._first_step(prompt, noise) if self.conditional else (None, None)
        return Generated(image.convert("RGB"), difference, one_step)

    @property
    def shown(self) -> Shown | None:
        """To show it pictures; None of what is no UNet with the usual noise schedule, in latents or
        in pixels."""
        pipeline, network = self.pipeline, self.network
        schedule = getattr(pipeline, "scheduler", None)
        if not hasattr(schedule, "alphas_cumprod") or not hasattr(schedule, "add_noise"):
            return None
        device = next(network.parameters()).device
        if isinstance(network, UNet2DModel):

            def plain(x: Tensor, t: Tensor, words: Tensor, return_dict: bool) -> Any:
                return network(x, t, return_dict=return_dict)

            return Shown(plain, schedule, int(network.config.sample_size), to_signed, to_8bit,
                         torch.zeros(1, 1), device)  # fmt: skip
        vae = getattr(pipeline, "vae", None)
        fits = (
            isinstance(network, UNet2DConditionModel)
            and network.config.addition_embed_type is None
            and isinstance(vae, AutoencoderKL)
            and network.config.in_channels == vae.config.latent_channels
            and hasattr(pipeline, "encode_prompt")
        )
        if not fits:
            return None
        side = self.asking.side or int(network.config.sample_size) * int(pipeline.vae_scale_factor)
        with torch.inference_mode():
            empty = pipeline.encode_prompt("", device, 1, False)[0][0]
        return Shown(
            network, schedule, side, lambda images: _encoded(vae, images),
            lambda latents: to_8bit(_decoded(vae, latents.to(device))), empty, device,
        )  # fmt: skip

    def _called(self, prompt: str, noise: int, **changed: Any) -> Any:
        asking, takes = self.asking, self._takes
        given = {
            "num_inference_steps": asking.steps,
            "guidance_scale": asking.guidance,
            "height": asking.side,
            "width": asking.side,
            "output_type": "pil",
        } | changed
        words = {name: v for name, v in given.items() if v is not None and name in takes}
        if self.conditional:
            words["prompt"] = prompt
        # Drawn on the CPU: the same on every device.
        draws = generator("cpu", asking.seed, Stream.OUTPUT, noise)
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(draws.initial_seed())  # for what ignores its generator
                made = self.pipeline(**words, generator=draws)
        except torch.OutOfMemoryError as error:
            raise ValueError(
                f"--device {asking.device}: out of memory: type --half, a smaller --side or "
                "--device cpu"
            ) from error
        except (
            ValueError, TypeError, AttributeError, LookupError, RuntimeError, ArithmeticError,
        ) as error:  # fmt: skip
            raise ValueError(
                f"{type(self.pipeline).__name__} cannot be asked for a picture "
                f"({short(error)}): it may need more than a prompt; type --outputs <a folder "
                "of its pictures> instead"
            ) from error
        if not hasattr(made, "images"):
            raise ValueError(f"{type(self.pipeline).__name__} makes no pictures")
        return made

    def _first_step(self, prompt: str, noise: int) -> tuple[float | None, Image.Image | None]:
        schedule = getattr(self.pipeline.scheduler, "alphas_cumprod", None)
        if not isinstance(self.network, UNet2DConditionModel) or schedule is None:
            return None, None
        begun = {"guidance_scale": GUIDED, "num_inference_steps": FIRST_OF}
        seen = _first_call(self.network, lambda: self._called(prompt, noise, **begun))
        if seen is None or len(seen[2]) != 2:
            return None, None
        (_, x), timestep, prediction = seen
        # Some networks foresee the variance as well, in as many channels more.
        empty, said = prediction[:, : len(x)].float()
        alpha = float(schedule[timestep])
        kind = getattr(self.pipeline.scheduler.config, "prediction_type", "")
        vae, decode = getattr(self.pipeline, "vae", None), None
        if vae is not None and said.shape == x.shape:
            decode = lambda latents: to_8bit(_decoded(vae, latents))  # noqa: E731
        return seen_in(x.float(), empty, said, alpha, kind, decode)


def _encoded(vae: Any, images: UInt8[Tensor, "k 3 s s"]) -> Float[Tensor, "k c h w"]:
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    with torch.inference_mode():
        latent = vae.encode(to_signed(images).to(vae.device, vae.dtype)).latent_dist.mode()
    return ((latent.float() - shift) * vae.config.scaling_factor).cpu()


def _decoded(vae: Any, x0: Tensor) -> Tensor:
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    own = vae.dtype
    # Some VAEs overflow in half precision, and say so.
    upcast = own == torch.float16 and getattr(vae.config, "force_upcast", False)
    with torch.inference_mode():
        if upcast:
            vae.to(torch.float32)
        latent = (x0 / vae.config.scaling_factor + shift).to(vae.dtype)
        decoded = vae.decode(latent, return_dict=False)[0].cpu()
        if upcast:
            vae.to(own)
    return decoded


class _EnoughError(Exception):
    """Ends a pipeline once the first prediction is there."""


def _first_call(
    network: torch.nn.Module, ask: Callable[[], object]
) -> tuple[Tensor, int, Tensor] | None:
    """The first call of the network while something is asked: the noisy latents that it was given,
    scaled so that their variance is 1, the timestep and its prediction. All after it is left out.
    """
    seen = []

    def look(module: Any, words: Any, named: Any, output: Any) -> None:
        x = words[0] if words else named.get("sample")
        t = words[1] if len(words) > 1 else named.get("timestep")
        said = output[0] if isinstance(output, tuple) else output.sample
        seen.append((x, round(float(torch.as_tensor(t).flatten()[0])), said))
        raise _EnoughError

    hook = network.register_forward_hook(look, with_kwargs=True)
    try:
        ask()
    except _EnoughError:
        pass
    finally:
        hook.remove()
    return seen[0] if seen else None


def open_pipeline(path: str, lora: str | None, asking: Options) -> Pipeline:
    """ValueError: nothing that can be opened there, no safetensors, or a LoRA that does not fit."""
    if Path(path).is_file():
        save = f"P.from_single_file({path!r}).save_pretrained('model')"
        raise ValueError(
            f"--pipeline {path} is a file, and a pipeline's folder is needed: type python -c "
            f'"from diffusers import StableDiffusionPipeline as P; {save}" where the hub can be '
            "reached (of SDXL StableDiffusionXLPipeline), then --pipeline model"
        )
    where = folder_or_hub(path, "--pipeline")
    try:
        opened = _opened(where, asking)
    except Exception as error:  # hub, network, file system and pipelines each have their own
        reason = why(error, where, asking)
        raise ValueError(f"--pipeline {path} cannot be opened: {reason}") from error
    check_tokenizers(opened, path)
    notes = _add_lora(opened, lora, asking) if lora else []
    opened.set_progress_bar_config(disable=True)
    return Pipeline(moved(opened, asking.device), asking, notes)


TWO = "red", "fox"  # prompts that every tokenizer tells apart, though they are of one length


def check_tokenizers(pipeline: Any, path: str) -> None:
    """ValueError: one has lost its files. transformers then makes up one of two entries, and every
    prompt comes to the same, or one that knows no longest prompt."""
    for name, part in pipeline.components.items():
        if not name.startswith("tokenizer") or not callable(part):
            continue
        one, other = (part(words).get("input_ids") for words in TWO)
        if one is not None and [*one] == [*other]:
            raise ValueError(
                f"--pipeline {path}: its {name} reads every prompt alike: put back the files of "
                f"its folder {name}, such as vocab.json and merges.txt or tokenizer.json"
            )
        settings = Path(path) / name / "tokenizer_config.json"
        if Path(path).is_dir() and not settings.is_file():
            raise ValueError(f"--pipeline {path}: {settings} is missing: put it back")


def _opened(where: str, asking: Options) -> Any:
    local = Path(where).is_dir()
    with quiet_loading():
        config = DiffusionPipeline.load_config(where, local_files_only=local)
    check_parts(config, where)
    # A further text encoder that was saved as missing (Stable Diffusion 3 without its largest) is
    # to be missing: diffusers takes that from the caller only, and refuses what none goes without.
    further = re.compile(r"(text_encoder|tokenizer)_\d")
    gone = [part for part, of in config.items() if further.fullmatch(part) and of == [None, None]]
    # A black picture in place of an objectionable one would hide a copy.
    optional = ["safety_checker"]
    optional += ["feature_extractor"] * (local and not (Path(where) / "feature_extractor").is_dir())
    gone += [part for part in optional if part in config]
    options: dict[str, Any] = dict.fromkeys(gone) | {
        "torch_dtype": torch.float16 if asking.half else torch.float32,
        "use_safetensors": None if asking.allow_pickle else True,
        "local_files_only": local,
    }
    if "requires_safety_checker" in config:
        options["requires_safety_checker"] = False
    refused: list[Exception] = []
    for variant in variants(where):
        options["variant"] = variant
        try:
            with quiet_loading(), warnings.catch_warnings():
                # That torch_dtype has a shorter name since, which the oldest diffusers that we
                # support does not know.
                warnings.simplefilter("ignore", FutureWarning)
                return _by_its_class(where, options)
        except Exception as error:
            refused.append(error)
    raise refused[0]  # the usual weights' own reason


def _by_its_class(where: str, options: dict[str, Any]) -> Any:
    try:
        return AutoPipelineForText2Image.from_pretrained(where, **options)
    except ValueError as error:
        if "AutoPipeline" not in str(error):
            raise
        return DiffusionPipeline.from_pretrained(where, **options)


def _add_lora(pipeline: Any, lora: str, asking: Options) -> list[str]:
    """What is to be said of it: layers that it brings and that are not in use. ValueError: none
    is."""
    if not hasattr(pipeline, "load_lora_weights"):
        raise ValueError(f"--lora {lora}: {type(pipeline).__name__} takes no LoRA")
    try:
        import peft  # noqa: F401  (diffusers needs it to put a LoRA into a network)
    except ImportError:
        raise ValueError("--lora needs the lora extra: pip install -e '.[lora]'") from None
    where, name = lora_file(lora, asking)
    options: dict[str, Any] = {"use_safetensors": None if asking.allow_pickle else True}
    if name is not None:
        options["weight_name"] = name
    muted = logging.root.manager.disable
    # What is not in use is counted below; of every layer of another width nobody need be told.
    logging.disable()
    try:
        with quiet_loading():
            pipeline.load_lora_weights(where, **options)
    except Exception as error:  # hub, network and every kind of LoRA have their own
        reason = why(error, where, asking)
        if "size mismatch" in reason:
            reason = "it is for a network of other widths than this pipeline's"
        raise ValueError(f"--lora {lora} cannot be loaded: {reason}") from error
    finally:
        logging.disable(muted)
    if not pipeline.get_active_adapters():
        raise ValueError(f"--lora {lora} holds nothing for this pipeline")
    file = Path(where) / (name or "")
    return _unused(pipeline, lora, file) if file.suffix == ".safetensors" else []


# What the name of a layer ends with in the files of diffusers, PEFT and kohya.
OF_LAYER = re.compile(r"\.lora_|_lora\.|\.alpha$|\.dora_scale$|\.hada_|\.lokr_|\.diff")


def _unused(pipeline: Any, lora: str, file: Path) -> list[str]:
    """Layers and scales that the file brings and that the pipeline has no use for: the outputs are
    not those of the whole LoRA."""
    with safe_open(file, "pt") as opened:
        names = [*opened.keys()]
    brought = {OF_LAYER.split(name)[0] for name in names}
    networks = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    layers = [layer for network in networks for layer in network.modules()]
    used = sum(bool(len(getattr(layer, "lora_A", ()))) for layer in layers)
    notes = []
    if used < len(brought):
        notes.append(
            f"--lora {lora} brings {len(brought):,} layers, of which {used:,} are in use: the "
            f"other {len(brought) - used:,} belong to another model. These are not the outputs of "
            "the whole LoRA."
        )
    scales = sum(name.endswith(".dora_scale") for name in names)
    if scales and not any(len(getattr(layer, "lora_magnitude_vector", ())) for layer in layers):
        notes.append(
            f"--lora {lora} is a DoRA, and its {scales:,} magnitudes (dora_scale) were not "
            "applied, since diffusers does not: these are not its outputs."
        )
    return notes
