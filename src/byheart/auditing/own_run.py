"""A finished run of ours, asked as a stranger's pipeline is: with its own sampler and settings."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from byheart.auditing.inside import Shown
from byheart.auditing.pipeline import Generated, Options, clean, length_between, moved, picture
from byheart.config import Config, Sample
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
    notes: list[str] = field(default_factory=list)
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
        x0 = clean(x, said[1:], alpha, kind)
        one_step = None if x0 is None else picture(self.codec.decode(x0.cpu())[0])
        difference = length_between(said[1], said[0])
        return Generated(picture(self.codec.decode(latent)[0]), difference, one_step)


def has_whole_pipeline(path: str) -> bool:
    """Whether it is a run whose model/ is a whole pipeline, which is asked as a stranger's is."""
    return (Path(path) / "model" / "model_index.json").is_file()


def sampled_by(path: str) -> Sample | None:
    """How a run of ours sampled its own outputs; None of what is no run.

    ValueError: its config.yaml is damaged, or another program's.
    """
    if not is_own_run(path) and not has_whole_pipeline(path):
        return None
    if not (Path(path) / "config.yaml").is_file():  # somebody's pipeline in a folder called model
        return None
    try:
        return read_config(Path(path)).sample
    except ValueError as error:
        if not has_whole_pipeline(path):
            raise
        raise ValueError(f"{error}: type --pipeline {path}/model to ask it as it comes") from error


def open_run(path: str, prompts: list[str], asking: Options, cache: Path) -> OwnRun:
    """asking: with the steps and guidance that are asked for, typed or the run's own.

    ValueError: the run is not finished, or was left by another version.
    """
    assert asking.steps is not None and asking.guidance is not None
    folder = Path(path)
    if not (folder / "model").is_dir():
        raise ValueError(f"--pipeline {path} is a run without model/: it is not finished")
    config = read_config(folder)
    asked = replace(config.sample, steps=asking.steps, guidance=asking.guidance)
    texts = tuple(dict.fromkeys(["", *prompts]))
    codec, unet, conditions = reopen_network(folder, config, texts, cache, "cpu")
    unet = moved(unet, asking.device)
    return OwnRun(unet, codec, conditions, texts, replace(config, sample=asked), asking)
