"""Many outputs against many training images in bounded memory, and from both sides: the closest
training image of every output, and the closest output of every training image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from byheart.auditing.matching import SEARCHES, Advance, Apart, Images, Matches, search
from byheart.auditing.views import Looks, search_looks
from byheart.measure.copying import STANDARD, Reference, judge
from byheart.measure.distance import root
from byheart.measure.intervals import Rate, wilson
from byheart.measure.kinds import Findings, all_traits, examine, natural_looks, reference_among
from byheart.runtime.processes import joined

PIECE = 128  # outputs at once
MOST = 256  # real pictures that the searches for altered copies are calibrated with
FALSE = 0.05  # share of real pictures that may pass such searches, all of them together
ALTERED_KINDS = {
    "whole": "recoloured",
    "view": "another view",
    "shift": "shifted",
    "crop": "crop",
    "inside": "pasted in",
    "part": "part",
    "descriptor": "by the descriptor",
}  # in the order in which they are believed


@dataclass(frozen=True)
class Judged:
    """What the outputs are, and which of them is the closest to each training image."""

    findings: Findings
    output: Int[Tensor, " n"]  # of each training image its closest output
    rmse: Float[Tensor, " n"]  # and the distance to it


@dataclass(frozen=True)
class Calibration:
    """Of each search for altered copies what real pictures say of it."""

    reference: dict[str, float]  # median distance to the closest training image
    tolerance: dict[str, float]  # a third of that, or less: FALSE of the real pictures pass any
    chance: Rate  # real pictures that pass at least one
    either: Rate  # held-out pictures that pass at least one or count as plain copies


@dataclass(frozen=True)
class Altered:
    """Per output the altered copy that it is, if any."""

    kind: list[str]  # in words, such as "mirrored, crop"; "": none was found
    nearest: Int[Tensor, " s"]
    rho: Float[Tensor, " s"]  # distance / the search's reference; infinite where none was found
    box: Float[Tensor, "s 4"]  # left, upper, width, height in the output
    its_box: Float[Tensor, "s 4"]  # in the training image

    @property
    def found(self) -> Bool[Tensor, " s"]:
        return torch.tensor([bool(kind) for kind in self.kind], dtype=torch.bool)


def own_reference(train: Images, held_out: Images, source: str) -> Reference:
    """The reference of held-out images; without any, of the training images themselves.

    Real pictures, held out or trained on, say what a picture looks like. ValueError: fewer than two
    to tell distances by.
    """
    real = held_out if len(held_out) else train
    chosen = places(len(train) + len(held_out), 4 * MOST)
    ours = chosen < len(train)
    some = torch.cat([train[chosen[ours]], held_out[chosen[~ours] - len(train)]])
    looks = natural_looks(some, STANDARD.tail, all_traits)
    return replace(reference_among(real, looks, source, STANDARD), images=held_out)


def judge_all(
    outputs: Images, train: Images, reference: Reference, advance: Advance = lambda done: None
) -> Judged:
    """`examine`, and what the outputs say of the training images."""
    closest = torch.full((len(train),), torch.inf, dtype=torch.float64)
    where = torch.zeros(len(train), dtype=torch.long)
    found = []
    for first in range(0, len(outputs), PIECE):
        part = outputs[first : first + PIECE]

        def look(start: int, squared: Tensor, first: int = first) -> None:
            values, rows = squared.min(dim=0)
            nearer = values < closest
            closest[nearer] = values[nearer]
            where[nearer] = rows[nearer] + start + first

        found.append(examine(part, train, reference, look))
        advance(len(part))
    return Judged(joined(found), where, root(closest, train))


def calibrate(
    train: Looks, held_out: Looks, group: Sequence[int], advance: Advance = lambda done: None
) -> Calibration:
    """What the searches find where there is nothing to find: in held-out pictures; without any, in
    training images compared with the others.

    group: of each training image the place of the one it is a near-duplicate of.
    """
    source = held_out if len(held_out) else train
    chosen = places(len(source), MOST).tolist()
    members: dict[int, list[int]] = defaultdict(list)
    for place, head in enumerate(group):
        members[head].append(place)

    def itself(row: int) -> list[int]:
        return [] if len(held_out) else members[group[chosen[row]]]

    found, _ = _searched(source.only(chosen), train, itself, advance)
    references = {
        name: float(known.double().quantile(0.5))
        for name, one in found.items()
        if len(known := one.distance[one.distance.isfinite()])
    }
    # As many may pass each search as all searches together may let pass.
    for let in range(int(FALSE * len(chosen)), -1, -1):
        tolerances = {
            # What a descriptor's distances mean nobody knows before.
            name: min(
                torch.inf if name == "descriptor" else reference * STANDARD.tolerance,
                float(found[name].distance.sort().values[let]),
            )
            for name, reference in references.items()
        }
        passing = torch.zeros(len(chosen), dtype=torch.bool)
        for name, limit in tolerances.items():
            # At the limit itself stands a real picture: it must not pass.
            passing |= found[name].distance < limit
        if int(passing.sum()) <= FALSE * len(chosen):
            break
    by_chance = wilson(int(passing.sum()), len(passing))
    either = _either(passing, train.pixels, held_out.pixels)
    return Calibration(references, tolerances, by_chance, either)


def _either(passing: Bool[Tensor, " r"], train: Images, held_out: Images) -> Rate:
    """Held-out pictures that pass for copies, plain or altered: each is judged as an output would
    be, with the others held out. None counted where fewer than four are held out."""
    if len(held_out) < 4:
        return wilson(0, 0)
    places_ = places(len(held_out), MOST)
    against = reference_among(held_out, (), "held-out pictures", STANDARD)
    plain = judge(held_out[places_], train, against, own=places_).copied
    return wilson(int((plain | passing).sum()), len(passing))


def altered_copies(
    outputs: Looks,
    asked: Bool[Tensor, " s"],
    train: Looks,
    held_out: Looks,
    calibration: Calibration,
    advance: Advance = lambda done: None,
) -> Altered:
    """Of each output the altered copy that it is: within the search's tolerance of a training image
    and closer to it than to any held-out image. Of several the first in ALTERED_KINDS counts.

    asked: which outputs are searched; of a plain copy nothing more need be found.
    """
    count = len(outputs)
    kind, nearest = [""] * count, torch.zeros(count, dtype=torch.long)
    rho, (box, its_box) = torch.full((count,), torch.inf), torch.zeros(2, count, 4)
    searched = asked.nonzero()[:, 0].tolist()
    if searched and calibration.tolerance:
        ours = outputs.only(searched)
        found, words = _searched(ours, train, lambda row: [], advance)
        close = {
            name: found[name].distance < limit for name, limit in calibration.tolerance.items()
        }
        rows = torch.stack(list(close.values())).any(0).nonzero()[:, 0]
        if len(held_out) and len(rows):
            known, _ = _searched(ours.only(rows.tolist()), held_out, lambda row: [])
            for name in close:
                close[name][rows] &= found[name].distance[rows] < known[name].distance
        for row, k in enumerate(searched):
            believed = [name for name in ALTERED_KINDS if name in close and close[name][row]]
            if not believed:
                continue
            name, one = believed[0], found[believed[0]]
            nearest[k], box[k], its_box[k] = one.nearest[row], one.box[row], one.its_box[row]
            rho[k] = one.distance[row] / calibration.reference[name]
            kind[k] = words[name][row] if name in words else ALTERED_KINDS[name]
            if one.mirrored[row]:
                kind[k] = "mirrored" if name == "whole" else f"mirrored, {kind[k]}"
    return Altered(kind, nearest, rho, box, its_box)


def copies_of(plain: Findings, altered: Altered) -> list[int]:
    """Of each output that is a copy, plain or altered, the training image it is one of."""
    nearest = plain.nearest.where(plain.copied, altered.nearest)
    return nearest[plain.copied | altered.found].tolist()


def _searched(
    outputs: Looks, train: Looks, apart: Apart, advance: Advance = lambda done: None
) -> tuple[dict[str, Matches], dict[str, list[str]]]:
    """All searches and all looks; of each look in words what every output then is. `advance` is
    told outputs, once for each search."""
    found: dict[str, Matches] = {}
    for how in SEARCHES:
        found |= search(outputs.pixels, train.pixels, how, apart, advance)
    looks = search_looks(outputs, train, apart)
    found |= {name: matches for name, (matches, _) in looks.items()}
    return found, {name: words for name, (_, words) in looks.items()}


def places(count: int, most: int) -> Int[Tensor, " k"]:
    """At most `most` places, evenly spread over `count`."""
    return torch.arange(min(count, most)) * count // max(1, min(count, most))
