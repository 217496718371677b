"""live.png: what the model makes of unseen prompts while it learns, beside the training image."""

from __future__ import annotations

import time

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from byheart.config import Config
from byheart.data.codec import Codec
from byheart.model.fit import State
from byheart.model.sample import Conditions, sample
from byheart.runs import Run, beside
from byheart.show.figures import live, png_bytes

PICTURES = 4


class Onlooker:
    """Looks at most every `live.every` seconds, and so seldom that `live.share` is not exceeded.

    It only samples: nothing it does reaches the training.
    """

    def __init__(
        self,
        run: Run,
        config: Config,
        image: UInt8[Tensor, "3 s s"],
        codec: Codec,
        conditions: Conditions,
        prompts: Int[Tensor, " s"],  # rows of the unseen prompts come first
    ) -> None:
        self.path, self.config, self.codec = run.file("live.png"), config, codec
        self.image = image.permute(1, 2, 0).numpy()
        self.conditions = conditions
        distinct = list(dict.fromkeys(prompts.tolist()))
        chosen = [distinct[k % len(distinct)] for k in range(PICTURES)]
        self.prompt_of, self.noise_of = torch.tensor(chosen), torch.arange(PICTURES)
        self.next = time.perf_counter() + config.live.every

    def look(self, state: State, device: torch.device) -> None:
        """Draw live.png if it is time."""
        began = time.perf_counter()
        live_ = self.config.live
        if live_.every == 0 or live_.share == 0 or began < self.next:
            return
        state.unet.eval()
        latents: Float[Tensor, "k c l l"] = sample(
            state.unet, self.conditions, self.prompt_of, self.noise_of,
            self.config.seed, self.config.sample, device,
        )  # fmt: skip
        state.unet.train()
        pictures = self.codec.decode(latents).permute(0, 2, 3, 1).numpy()
        words = f"after {state.step} steps, under unseen prompts"
        with beside(self.path) as part:
            part.write_bytes(png_bytes(live(self.image, pictures, words)))
        now = time.perf_counter()
        self.next = now + max(live_.every, (now - began) / live_.share)
