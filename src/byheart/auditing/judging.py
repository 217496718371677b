"""Many outputs against many training images in bounded memory, and from both sides: the closest
training image of every output, and the closest output of every training image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from byheart.auditing.matching import SEARCHES, Apart, Images, Matches, at_once, search
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

Advance = Callable[[int], object]


def silent(done: int) -> None:
    """Progress that nobody looks at."""


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
    distance: Float[Tensor, " s"]  # sqrt(1 - correlation)
    rho: Float[Tensor, " s"]  # over the search's reference distance; infinite where none was found
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
    outputs: Images, train: Images, reference: Reference, advance: Advance = silent
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
    train: Images,
    held_out: Images,
    group: list[int],
    seen: Looks,
    unseen: Looks,
    advance: Advance = silent,
) -> Calibration:
    """What the searches find where there is nothing to find: in held-out pictures; without any, in
    training images compared with the others.

    group: of each training image the place of the one it is a near-duplicate of. seen, unseen: the
    training images and the held-out ones as wholes.
    """
    apart: Apart = lambda row: []  # noqa: E731
    chosen = places(len(held_out), MOST).tolist()
    real, others = held_out[chosen], unseen.only(chosen)
    if not len(held_out):
        chosen = places(len(train), MOST).tolist()
        real, others = train[chosen], seen.only(chosen)
        members: dict[int, list[int]] = {}
        for place, head in enumerate(group):
            members.setdefault(head, []).append(place)
        apart = lambda row: members[group[chosen[row]]]  # noqa: E731
    found, _ = _searched(real, train, others, seen, apart, advance)
    references = {
        name: float(known.double().quantile(0.5))
        for name, one in found.items()
        if len(known := one.distance[one.distance.isfinite()])
    }
    distances = {name: found[name].distance for name in references}
    # As many may pass each search as all searches together may let pass.
    for places_ in range(int(FALSE * len(real)), -1, -1):
        tolerances = _limits(distances, references, places_)
        passing = _passing(distances, tolerances, len(real))
        if int(passing.sum()) <= FALSE * len(real):
            break
    by_chance = wilson(int(passing.sum()), len(passing))
    return Calibration(references, tolerances, by_chance, _either(passing, train, held_out))


def _limits(
    distances: dict[str, Tensor], references: dict[str, float], passing: int
) -> dict[str, float]:
    """Of each search a third of its reference, and at most what so many real pictures reach. A
    descriptor is calibrated by the latter alone: what its distances mean nobody knows before."""
    return {
        name: min(
            torch.inf if name == "descriptor" else reference * STANDARD.tolerance,
            float(distances[name].sort().values[passing]),
        )
        for name, reference in references.items()
    }


def _passing(
    distances: dict[str, Tensor], limits: dict[str, float], count: int
) -> Bool[Tensor, " r"]:
    passing = torch.zeros(count, dtype=torch.bool)
    for name, limit in limits.items():
        # At the limit itself stands a real picture: it must not pass.
        passing |= distances[name] < limit
    return passing


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
    outputs: Images,
    asked: Bool[Tensor, " s"],
    train: Images,
    held_out: Images,
    calibration: Calibration,
    looks: tuple[Looks, Looks, Looks],
    advance: Advance = silent,
) -> Altered:
    """Of each output the altered copy that it is: within the search's tolerance of a training image
    and closer to it than to any held-out image. Of several the first in ALTERED_KINDS counts.

    asked: which outputs are searched; of a plain copy nothing more need be found. looks: the
    outputs, the training images and the held-out ones as wholes.
    """
    count = len(outputs)
    kind = [""] * count
    best = Matches(
        torch.zeros(count, dtype=torch.long), torch.full((count,), torch.inf),
        torch.zeros(count, dtype=torch.bool), torch.zeros(count, 4), torch.zeros(count, 4),
    )  # fmt: skip
    rho = torch.full((count,), torch.inf)
    places_ = asked.nonzero()[:, 0]
    if len(places_) and calibration.tolerance:
        ours, seen, unseen = looks[0].only(places_.tolist()), *looks[1:]
        found, words = _searched(outputs[places_], train, ours, seen, lambda row: [], advance)
        close = {
            name: found[name].distance < limit for name, limit in calibration.tolerance.items()
        }
        rows = torch.stack(list(close.values())).any(0).nonzero()[:, 0]
        if len(held_out) and len(rows):
            some, others = outputs[places_[rows]], ours.only(rows.tolist())
            known, _ = _searched(some, held_out, others, unseen, lambda row: [], silent)
            for name in close:
                close[name][rows] &= found[name].distance[rows] < known[name].distance
        for name in ALTERED_KINDS:
            if name not in close:
                continue
            new = (close[name] & rho[places_].isinf()).nonzero()[:, 0]
            where = places_[new]
            for column, value in vars(found[name]).items():
                getattr(best, column)[where] = value[new]
            rho[where] = best.distance[where] / calibration.reference[name]
            for row, k in zip(new.tolist(), where.tolist(), strict=True):
                said = words[name][row] if name in words else ALTERED_KINDS[name]
                if best.mirrored[k]:
                    said = "mirrored" if name == "whole" else f"mirrored, {said}"
                kind[k] = said
    return Altered(kind, best.nearest, best.distance, rho, best.box, best.its_box)


def _searched(
    outputs: Images, train: Images, ours: Looks, theirs: Looks, apart: Apart, advance: Advance
) -> tuple[dict[str, Matches], dict[str, list[str]]]:
    """All searches, in pieces of the outputs, and all looks; of each look in words what every
    output then is. `advance` is told outputs, once for each search.

    ours, theirs: the outputs and the training images as wholes.
    """
    found: dict[str, Matches] = {}
    for how in SEARCHES:
        pieces: dict[str, list[Matches]] = {}
        for first in range(0, len(outputs), rows := at_once(how)):
            part = outputs[first : first + rows]

            def here(row: int, first: int = first) -> list[int]:
                return apart(first + row)

            for name, one in search(part, train, how, here).items():
                pieces.setdefault(name, []).append(one)
            advance(len(part))
        found |= {name: joined(parts) for name, parts in pieces.items()}
    looks = search_looks(ours, theirs, len(outputs), apart)
    found |= {name: matches for name, (matches, _) in looks.items()}
    return found, {name: words for name, (_, words) in looks.items()}


def places(count: int, most: int) -> Int[Tensor, " k"]:
    """At most `most` places, evenly spread over `count`."""
    return torch.arange(min(count, most)) * count // max(1, min(count, most))
