"""What the model is asked: prompts, and the initial noises under each."""

from __future__ import annotations

from dataclasses import dataclass

from byheart.config import Config
from byheart.data.text import unseen_prompts

CONDITIONS = ("unseen", "empty", "captions")


@dataclass(frozen=True)
class Question:
    """One output to be made."""

    condition: str
    prompt: str
    noise: int


def questions(config: Config, captions: tuple[str, ...]) -> list[Question]:
    """Prompts x noises for the three conditions; every prompt gets the same initial noises.

    A condition with a single prompt gets `noises_alone`. Where training knew no captions
    (modes none and random) there are none to ask for.
    """
    asked = {
        "unseen": unseen_prompts()[: config.evaluate.prompts],
        "empty": ("",),
        "captions": spread([c for c in dict.fromkeys(captions) if c], config.evaluate.captions),
    }
    noises = {"unseen": config.evaluate.noises, "captions": config.evaluate.caption_noises}
    return [
        Question(condition, prompt, noise)
        for condition, prompts in asked.items()
        for prompt in prompts
        for noise in range(noises[condition] if len(prompts) > 1 else config.evaluate.noises_alone)
    ]


def check_bank(config: Config) -> None:
    """ValueError: more unseen prompts asked for than the bank has."""
    if config.evaluate.prompts > len(unseen_prompts()):
        raise ValueError(
            f"evaluate.prompts={config.evaluate.prompts}: the bank has {len(unseen_prompts())}"
        )


def spread(items: list[str], most: int) -> tuple[str, ...]:
    """At most `most` of the items, evenly spread over the list."""
    if len(items) <= most:
        return tuple(items)
    return tuple(items[k * len(items) // most] for k in range(most))
