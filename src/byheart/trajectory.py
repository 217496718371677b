"""trajectory.jsonl: the measure at log-spaced steps, while the network learns."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from jaxtyping import Int, UInt8
from torch import Tensor

from byheart.config import Config, exposures, total_steps
from byheart.data.codec import Codec
from byheart.measure.kinds import KINDS, examine
from byheart.measure.reference import Reference
from byheart.model.fit import State
from byheart.model.sample import Conditions, sample_shared
from byheart.runs import Run, append_jsonl, keep_rows_up_to


def looks(config: Config, outputs: int) -> list[int]:
    """The steps after which to look: log-spaced, the last one included, cheap enough.

    A training sample costs about three evaluations of the network, an output `sample.steps` (with
    guidance twice as many). Counted, not timed, so that the same command looks at the same steps.
    outputs: of one look. Empty where `trajectory.share` does not pay for two looks: the last step
    alone says nothing that the report does not.
    """
    steps, wanted = total_steps(config), config.trajectory.points
    each = outputs * config.sample.steps * (2 if config.sample.guidance > 1 else 1)
    allowed = int(config.trajectory.share * steps * config.fit.batch * 3 / each) if each else 0
    count = min(wanted, allowed, steps)
    if count < 2:
        return []
    # From a hundredth of the run on, before which no network of ours has copied anything.
    first = max(1.0, steps / 100)
    return sorted({round(first * (steps / first) ** (k / (count - 1))) for k in range(count)})


class Trajectory:
    """Looks at a few outputs under unseen prompts with the last weights. Training is untouched.

    A row: the step, exposures of each image, the number of outputs, the share of each kind, how
    many different training images were copied, and the RMSE in [0, 1] to the nearest of them.
    """

    def __init__(
        self,
        run: Run,
        config: Config,
        train: UInt8[Tensor, "n 3 s s"],
        reference: Reference,
        codec: Codec,
        given: Conditions,
        prompts: Int[Tensor, " s"],  # rows of the unseen prompts come first
    ) -> None:
        self.path, self.config, self.train = run.file("trajectory.jsonl"), config, train
        self.reference, self.codec, self.given = reference, codec, given
        distinct = list(dict.fromkeys(prompts.tolist()))[: config.evaluate.prompts]
        count = config.trajectory.outputs
        self.prompt_of = torch.tensor([distinct[k % len(distinct)] for k in range(count)])
        self.noise_of = torch.arange(count)
        self.steps = set(looks(config, count))

    def resume(self, step: int, main: bool) -> None:
        """Forget what lies past the step that training goes on from."""
        if main:
            keep_rows_up_to(self.path, step)

    def look(self, state: State, accelerator: Accelerator) -> None:
        """One row, if it is time. Every process makes its share of the outputs."""
        if state.step not in self.steps:
            return
        with state.using("raw") as network:
            latents = sample_shared(
                network, self.given, self.prompt_of, self.noise_of,
                self.config.seed, self.config.sample, accelerator,
            )  # fmt: skip
        state.unet.train()
        if not accelerator.is_main_process:
            return
        found = examine(self.codec.decode(latents), self.train, self.reference)
        kinds = {
            kind: float((found.kind == number).double().mean()) for number, kind in enumerate(KINDS)
        }
        row = {
            "step": state.step,
            "exposures": exposures(self.config, state.step),
            "outputs": len(found.kind),
            **kinds,
            "images": len(found.nearest[found.copied].unique()),
            "rmse_median": float(found.rmse.quantile(0.5)),
            "rmse_max": float(found.rmse.max()),
        }
        append_jsonl(self.path, row)
