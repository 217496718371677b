"""Chance collision: how probable it is that an unrelated image passes for a copy of a given one.

Two unrelated images hardly ever come so close, so the probability is extrapolated from the
distances of held-out pairs, and the assumption that this takes stands beside the result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from byheart.measure.copying import STANDARD
from byheart.measure.distance import rmse_matrix
from byheart.measure.intervals import finite
from byheart.measure.ledger import HASH_BITS, UUID_BITS
from byheart.measure.resampling import drawn

TAIL = 0.01  # share of the pairs that the power law is fitted to: the closest ones …
FEWEST_PAIRS = 30  # … but at least so many
SHARES = (0.005, 0.01, 0.02, 0.05, 0.1)  # what else it could have been fitted to
FEWEST_IMAGES = 20
MOST_IMAGES = 1000  # above, an even choice of them: a distance matrix of 8 MB
RESAMPLES = 1000

ASSUMPTION = (
    "the closest {pairs:,} of {all_pairs:,} held-out pairs follow F(r) = F(u) (r/u)^k below "
    "u = {threshold:.4g}, and so does everything down to the tolerance {tolerance:.4g}"
)
OBSERVED = "none: pairs within the tolerance {tolerance:.4g} were counted among {all_pairs:,}"


@dataclass(frozen=True)
class Collision:
    """bits = -log2 of the probability that one unrelated image of the source passes for a copy.

    All None but the counts where it is undefined: `reason` says why. `low` and `high` are the
    95 % interval of `bits` from resampled images: the fit's uncertainty, not the assumption's. For
    that there is `bits_by_share`: a power law gives the same bits whichever pairs it is fitted to.
    (Emoji at 64 × 64 do not: 16.6 bits from the closest 0.5 % of the pairs, 26.5 from 10 %.)
    """

    pairs: int  # that the power law is fitted to
    all_pairs: int
    images: int
    n_images: int
    tolerance: float
    bits: float | None = None
    low: float | None = None
    high: float | None = None
    uuid_matches: float | None = None  # bits / 122: as improbable as so many equal UUIDs
    hash_matches: float | None = None  # bits / log2(1000): as so many equal three-digit hashes
    any_bits: float | None = None  # for any of n_images: union bound, 0 at the least
    bits_by_share: dict[str, float] | None = None  # by the share of the pairs fitted to
    dimension: float | None = None  # k, the local intrinsic dimension; None: not extrapolated
    threshold: float | None = None  # u
    assumption: str | None = None
    reason: str | None = None


def chance_collision(
    held_out: UInt8[Tensor, "h c y x"], reference: float, n_images: int, draws: torch.Generator
) -> Collision:
    """The probability that an image lies within reference / 3 of one given image of its source.

    reference: the copy criterion's (RMSE in [0, 1]), above 0. draws: for the resampling. More than
    1,000 images: 1,000 of them, evenly spread.
    """
    if len(held_out) > MOST_IMAGES:
        held_out = held_out[torch.arange(MOST_IMAGES) * len(held_out) // MOST_IMAGES]
    distances = rmse_matrix(held_out, held_out)
    return from_distances(distances, reference * STANDARD.tolerance, n_images, draws)


def from_distances(
    distances: Float[Tensor, "h h"], tolerance: float, n_images: int, draws: torch.Generator
) -> Collision:
    """The same from a symmetric matrix of distances.

    Maximum likelihood for the exponent as in Hill 1975 (A simple general approach to inference
    about the tail of a distribution, eq. 2.1) and Levina & Bickel 2004 (eq. 8), on the pairs below
    a low quantile u. Distances within the tolerance count as censored there: what they are further
    down does not matter, and duplicates (distance 0) do no harm. The interval resamples images,
    not pairs, since the pairs of one image are not independent.
    """
    h = len(distances)
    upper = torch.triu_indices(h, h, offset=1)
    pairs = distances[upper[0], upper[1]].double()

    def undefined(reason: str) -> Collision:
        return Collision(0, len(pairs), h, n_images, tolerance, reason=reason)

    if h < FEWEST_IMAGES:
        return undefined(f"{h} held-out images, {FEWEST_IMAGES} are needed")
    order = pairs.sort().values
    wanted = max(FEWEST_PAIRS, int(TAIL * len(pairs)))
    threshold = max(float(order[wanted]), tolerance)
    # Where pairs within the tolerance are that frequent they are counted, not extrapolated.
    observed = threshold == tolerance

    def tail(
        weights: Float[Tensor, "b h"], threshold: float
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        below = pairs <= tolerance if threshold == tolerance else pairs < threshold
        return _tail(upper[:, below], pairs[below], weights, threshold, tolerance)

    once = torch.ones(1, h, dtype=torch.float64)
    bits, dimension = map(float, tail(once, threshold))
    if not math.isfinite(bits):
        return undefined(f"the {wanted} closest held-out pairs are equally far apart")
    # In parts, since a resample has a weight for every pair.
    parts = drawn(RESAMPLES, h, draws).split(50)
    spread = torch.cat([tail(part, threshold)[0] for part in parts]).sort().values
    out = int(0.025 * RESAMPLES)
    others = {
        f"{share:g}": float(tail(once, max(float(order[k]), tolerance))[0])
        for share in SHARES
        if (k := int(share * len(pairs))) >= FEWEST_PAIRS
    }
    fitted = int((pairs <= tolerance if observed else pairs < threshold).sum())
    return Collision(
        pairs=fitted,
        all_pairs=len(pairs),
        images=h,
        n_images=n_images,
        tolerance=tolerance,
        bits=bits,
        # Infinite where too many resamples drew no close pair.
        low=finite(spread[out]),
        high=finite(spread[-1 - out]),
        uuid_matches=bits / UUID_BITS,
        hash_matches=bits / HASH_BITS,
        any_bits=max(0.0, bits - math.log2(n_images)),
        bits_by_share={name: value for name, value in others.items() if math.isfinite(value)},
        dimension=None if observed else dimension,
        threshold=threshold,
        assumption=(OBSERVED if observed else ASSUMPTION).format(
            pairs=fitted, all_pairs=len(pairs), threshold=threshold, tolerance=tolerance
        ),
    )


def _tail(
    index: Int[Tensor, "2 p"],
    distance: Float[Tensor, " p"],
    weights: Float[Tensor, "b h"],
    threshold: float,
    tolerance: float,
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Bits, -log2 F(tolerance), and exponent of F(r) = share of the pairs below the threshold ×
    (r / threshold)^exponent, for images counted `weights` times; no image makes a pair with itself.
    """
    weight = weights[:, index[0]] * weights[:, index[1]]  # b p
    total = (weights.sum(1).square() - weights.square().sum(1)) / 2
    seen = weight[:, distance > tolerance].sum(1)
    # Exponential in log(u / r), cut off at the tolerance: events / time under observation.
    observed_for = weight @ torch.log(threshold / distance.clamp(min=tolerance))
    # 0 / 0 where nothing is left to extrapolate: threshold = tolerance, or no pair was drawn.
    dimension = (seen / observed_for).nan_to_num(0.0)
    bits = -torch.log2(weight.sum(1) / total) + dimension * math.log2(threshold / tolerance)
    return bits, dimension
