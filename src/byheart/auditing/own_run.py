"""The model that was typed: a stranger's pipeline, or a finished run of ours, asked as one is, with
its own sampler and settings."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from byheart.auditing.arguments import flag
from byheart.auditing.inside import Shown
from byheart.auditing.pictures import picture
from byheart.auditing.pipeline import (
    Generated,
    Options,
    Pipeline,
    moved,
    open_pipeline,
    seen_in,
)
from byheart.config import Config
from byheart.data.codec import Codec
from byheart.experiment.prepare import read_config, reopen_network
from byheart.model.sample import Conditions, initial_noise, sample
from byheart.model.unet import parameters


def is_own_run(path: str) -> bool:
    """Whether it is a run whose model/ is no whole pipeline, so that only we know how to ask it.
    Others' pipelines have their config.yaml as well."""
    folder = Path(path)
    whole = [folder / "model_index.json", folder / "model" / "model_index.json"]
    return (folder / "config.yaml").is_file() and not any(file.exists() for file in whole)


@dataclass(frozen=True)
class OwnRun:
    unet: Any
    codec: Codec
    given: Conditions
    texts: tuple[str, ...]  # of the rows of given.prompts; the first is the empty one
    config: Config
    asking: Options
    notes = ()
    conditional = True

    @property
    def parameters(self) -> int:
        return parameters(self.unet)

    @property
    def shown(self) -> Shown:
        given = self.given
        return Shown(
            self.unet, given.schedule, self.config.images.size, self.codec.encode,
            lambda latents: self.codec.decode(latents.cpu()), given.prompts[0],
            torch.device(self.asking.device),
        )  # fmt: skip

    def generate(self, prompt: str, noise: int) -> Generated:
        row, seed = self.texts.index(prompt), self.asking.seed
        device = torch.device(self.asking.device)
        latent = sample(
            self.unet, self.given, torch.tensor([row]), torch.tensor([noise]), seed,
            self.config.sample, device,
        )  # fmt: skip
        schedule = self.given.schedule
        last = int(schedule.config.num_train_timesteps) - 1
        x = initial_noise(seed, noise, self.given.shape)[None].to(device)
        prompts = self.given.prompts[[0, row]].to(device)
        with torch.inference_mode():
            said = self.unet(x.expand(2, -1, -1, -1), last, prompts, return_dict=False)[0].float()
        alpha, kind = float(schedule.alphas_cumprod[last]), schedule.config.prediction_type
        decode = self.codec.decode
        difference, one_step = seen_in(
            x[0], said[0], said[1], alpha, kind, lambda x0: decode(x0.cpu())
        )
        return Generated(picture(decode(latent)[0]), difference, one_step)


ImageModel = Pipeline | OwnRun  # that can be asked


def has_whole_pipeline(path: str) -> bool:
    """Whether it is a run whose model/ is a whole pipeline, which is asked as a stranger's is."""
    return (Path(path) / "model" / "model_index.json").is_file()


def as_sampled(typed: Namespace) -> list[str]:
    """Fills in the steps and the guidance that a run of ours sampled its own outputs with, where
    none were typed; else its copies would be counted under another guidance than its own page
    counts them. What is to be said of that.

    ValueError: its config.yaml is damaged, or another program's.
    """
    path, whole = typed.pipeline, has_whole_pipeline(typed.pipeline)
    # Without config.yaml it is somebody's pipeline in a folder called model.
    if not (whole or is_own_run(path)) or not (Path(path) / "config.yaml").is_file():
        return []
    try:
        sampled = read_config(Path(path)).sample
    except ValueError as error:
        if not whole:
            raise
        raise ValueError(f"{error}: type --pipeline {path}/model to ask it as it comes") from error
    said = []
    if typed.steps is None:
        typed.steps = sampled.steps
        said.append(f"{typed.steps} step{'s' * (typed.steps != 1)}")
    if typed.guidance is None:
        typed.guidance = sampled.guidance
        said.append(f"guidance {typed.guidance:g}")
    words = f"{path} is a run of byheart: asked with {' and '.join(said)}, as its config.yaml says."
    return [words] if said else []


def open_model(typed: Namespace, prompts: list[str], cache: Path) -> ImageModel:
    """typed: after `as_sampled`. ValueError: what cannot be opened, or a run that is not finished,
    was left by another version, or is asked what it has not."""
    device = typed.device or ("cuda" if torch.cuda.is_available() else "cpu")
    asking = Options(
        typed.seed, typed.steps, typed.guidance, typed.side, device, typed.half, typed.allow_pickle
    )
    path, folder = typed.pipeline, Path(typed.pipeline)
    if not is_own_run(path):
        whole = str(folder / "model") if has_whole_pipeline(path) else path
        return open_pipeline(whole, typed.lora, asking)
    for name in ("lora", "side", "half", "allow_pickle"):
        if getattr(typed, name):
            raise ValueError(f"{flag(name)}: {path} is a run of byheart, which takes none")
    if not (folder / "model").is_dir():
        raise ValueError(f"--pipeline {path} is a run without model/: it is not finished")
    config = read_config(folder)
    asked = replace(config.sample, steps=typed.steps, guidance=typed.guidance)
    texts = tuple(dict.fromkeys(["", *prompts]))
    codec, unet, conditions = reopen_network(folder, config, texts, cache, "cpu")
    unet = moved(unet, device)
    return OwnRun(unet, codec, conditions, texts, replace(config, sample=asked), asking)
