"""The measure against truth: pictures that were made to be copies, blends, broken or new, and how
often each must be called what it is."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from byheart.measure.alterations import Images, as_bytes, blurred, jpeg, noisy
from byheart.measure.controls import another, blanks, mean, mixed
from byheart.measure.copying import Reference
from byheart.measure.kinds import KINDS, examine, reference

COUNT = 100  # pictures of each making
COPIES = ("exact", "noise 0.05", "noise 0.1", "JPEG 75", "JPEG 50")
WRECKS = ("mean", "mean of unseen", "blank", "noise", "smear", "speckle 0.1")


@dataclass(frozen=True)
class Row:
    """What pictures of one making were called."""

    made: str
    pictures: int
    shares: dict[str, float]  # by kind
    must: str  # '' where nothing is asked
    met: bool


def truth(train: Images, held_out: Images, seed: int, count: int = COUNT) -> list[Row]:
    """Every making judged against `train`. The first held-out pictures, at most half of them, play
    the unseen ones, and the rest the held-out set."""
    unseen = held_out[: min(count, len(held_out) // 2)]
    against = reference(held_out[len(unseen) :], "")
    makings = _makings(train, unseen, against, seed, count)
    found = examine(torch.cat(list(makings.values())), train, against)
    kinds = found.kind.split([len(pictures) for pictures in makings.values()])
    shares = {
        name: {word: float((kind == k).double().mean()) for k, word in enumerate(KINDS)}
        for name, kind in zip(makings, kinds, strict=True)
    }
    passing = shares["unseen"]["copied"]
    return [
        Row(name, len(makings[name]), share, *_asked(name, share, passing, len(train)))
        for name, share in shares.items()
    ]


def _makings(
    train: Images, unseen: Images, against: Reference, seed: int, count: int
) -> dict[str, Images]:
    draws = torch.Generator().manual_seed(seed)
    one = torch.randint(len(train), (count,), generator=draws)
    copies = train[one]
    made = {
        "exact": copies,
        "noise 0.05": noisy(copies, 0.05, draws),
        "noise 0.1": noisy(copies, 0.1, draws),
        "JPEG 75": jpeg(copies, 75),
        "JPEG 50": jpeg(copies, 50),
        "blurred by 1.5 px": blurred(copies, 1.5),
        "unseen": unseen,
    }
    if len(train) > 1:
        other = another(one, len(train), draws)
        made["half and half"] = mixed(train, one, other)
        made["70 and 30"] = mixed(train, one, other, 0.7)
    return made | {
        "mean": mean(train),
        "mean of unseen": as_bytes(against.mean[None] / 255),
        "blank": blanks(train),
        "noise": torch.randint(256, copies.shape, generator=draws, dtype=torch.uint8),
        "smear": blurred(unseen, 3),
        "speckle 0.1": noisy(unseen, 0.1, draws),
    }


def _asked(name: str, share: dict[str, float], passing: float, n: int) -> tuple[str, bool]:
    """passing: share of the unseen that counts as copies; what is made of them may as well."""
    if name in COPIES:
        return "copied >= 98 %", share["copied"] >= 0.98
    if name == "unseen":
        met = share["copied"] <= 0.02 and share["novel"] >= 0.9
        return "copied <= 2 %, novel >= 90 %", met
    if name == "half and half":
        return "blend >= 80 %, novel <= 5 %", share["blend"] >= 0.8 and share["novel"] <= 0.05
    if name == "mean" and n == 1:
        return "copied: it is the image", share["copied"] == 1
    if name in WRECKS:
        met = share["novel"] == 0 and share["copied"] <= passing + 0.02
        return "never novel, copied <= 2 % above unseen", met
    return "", True
