"""Somebody's diffusers pipeline, asked from outside: one output per (prompt, noise seed).

Whatever `AutoPipelineForText2Image` or `DiffusionPipeline` opens, with or without a prompt. Weights
are safetensors unless the user says otherwise, and no code that comes with a model is run.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoPipelineForText2Image, DiffusionPipeline, UNet2DConditionModel
from PIL import Image
from torch import Tensor

from byheart.data.codec import to_8bit
from byheart.data.hub import folder_or_hub, quiet_loading
from byheart.model.opening import absent, check_parts, lora_file, variants, why
from byheart.model.painting import (
    Asking,
    Made,
    clean,
    first_words,
    length_between,
    moved,
    picture,
)
from byheart.model.seeds import Stream, generator

GUIDED = 7.5  # guidance under which the first step is looked at: any above 1 asks both ways
FIRST_OF = 50  # steps, so that the first begins near pure noise whatever the user asked for


@dataclass(frozen=True)
class Stranger:
    pipeline: Any
    asking: Asking

    @property
    def conditional(self) -> bool:
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
        network = self.network
        return 0 if network is None else sum(p.numel() for p in network.parameters())

    def paint(self, prompt: str, noise: int) -> Made:
        """One at a time, so that no output depends on its neighbours. ValueError: it cannot."""
        image = self._called(prompt, noise).images[0]
        difference, one_step = self._first_step(prompt, noise) if self.conditional else (None, None)
        return Made(image.convert("RGB"), difference, one_step)

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
        except (ValueError, TypeError, AttributeError, LookupError, RuntimeError) as error:
            raise ValueError(
                f"{type(self.pipeline).__name__} cannot be asked for a picture "
                f"({first_words(error)}): it may need more than a prompt; type --outputs <a folder "
                "of its pictures> instead"
            ) from error
        if not hasattr(made, "images"):
            raise ValueError(f"{type(self.pipeline).__name__} makes no pictures")
        return made

    def _first_step(self, prompt: str, noise: int) -> tuple[float | None, Image.Image | None]:
        schedule = getattr(self.pipeline.scheduler, "alphas_cumprod", None)
        if not isinstance(self.network, UNet2DConditionModel) or schedule is None:
            return None, None
        seen = _first_call(
            self.network,
            lambda: self._called(
                prompt, noise, guidance_scale=GUIDED, num_inference_steps=FIRST_OF
            ),
        )
        if seen is None or len(seen.prediction) != 2:
            return None, None
        x = seen.x[1:].float()
        # Some networks foresee the variance as well, in as many channels more.
        empty, said = seen.prediction[:, : x.shape[1]].float()
        difference = length_between(said, empty)
        vae = getattr(self.pipeline, "vae", None)
        if vae is None or said.shape != x.shape[1:]:
            return difference, None
        kind = getattr(self.pipeline.scheduler.config, "prediction_type", "")
        x0 = clean(x, said[None], float(schedule[seen.timestep]), kind)
        return difference, None if x0 is None else picture(to_8bit(_decoded(vae, x0))[0])


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


@dataclass(frozen=True)
class _Call:
    x: Tensor  # what the network was given: the noisy latent, scaled so that its variance is 1
    timestep: int
    prediction: Tensor


class _EnoughError(Exception):
    """Ends a pipeline once the first prediction is there."""


def _first_call(network: torch.nn.Module, ask: Callable[[], object]) -> _Call | None:
    """The first call of the network while something is asked; all after it is left out."""
    seen: list[_Call] = []

    def look(module: Any, words: Any, named: Any, output: Any) -> None:
        x = words[0] if words else named.get("sample")
        t = words[1] if len(words) > 1 else named.get("timestep")
        said = output[0] if isinstance(output, tuple) else output.sample
        seen.append(_Call(x, round(float(torch.as_tensor(t).flatten()[0])), said))
        raise _EnoughError

    hook = network.register_forward_hook(look, with_kwargs=True)
    try:
        ask()
    except _EnoughError:
        pass
    finally:
        hook.remove()
    return seen[0] if seen else None


def open_pipeline(path: str, lora: str | None, asking: Asking) -> Stranger:
    """ValueError: nothing that can be opened there, no safetensors, or a LoRA that does not fit."""
    where = folder_or_hub(path, "--pipeline")
    try:
        opened = _opened(where, asking)
    except Exception as error:  # hub, network, file system and pipelines each have their own
        reason = why(error, where, asking)
        raise ValueError(f"--pipeline {path} cannot be opened: {reason}") from error
    if lora:
        _add_lora(opened, lora, asking)
    opened.set_progress_bar_config(disable=True)
    # A black picture in place of an objectionable one would hide a copy.
    if getattr(opened, "safety_checker", None) is not None:
        opened.safety_checker = None
    return Stranger(moved(opened, asking.device), asking)


def _opened(where: str, asking: Asking) -> Any:
    local = Path(where).is_dir()
    with quiet_loading():
        config = DiffusionPipeline.load_config(where, local_files_only=local)
    check_parts(config, where)
    # A part that was saved as missing (Stable Diffusion 3 without its largest text encoder) is to
    # be missing: diffusers takes that from the caller only.
    options: dict[str, Any] = dict.fromkeys(absent(config)) | {
        "torch_dtype": torch.float16 if asking.half else torch.float32,
        "use_safetensors": None if asking.allow_pickle else True,
        "local_files_only": local,
    }
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


def _add_lora(pipeline: Any, lora: str, asking: Asking) -> None:
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
    try:
        with quiet_loading():
            pipeline.load_lora_weights(where, **options)
    except Exception as error:  # hub, network and every kind of LoRA have their own
        raise ValueError(f"--lora {lora} cannot be loaded: {why(error, where, asking)}") from error
    if not pipeline.get_active_adapters():
        raise ValueError(f"--lora {lora} holds nothing for this pipeline")
