"""How wide is "the same picture"? The share of copies as the tolerance grows."""

from __future__ import annotations

import torch

from byheart.measure.copying import Verdicts

TOLERANCES = tuple(k / 20 for k in range(41))  # of the reference distance, 0 to 2


def tolerance_curve(
    verdicts: Verdicts, chance: Verdicts | None, reference: float
) -> list[dict[str, float | None]]:
    """Per tolerance tau on rho (rmse: the same as an RMSE in [0, 1]):

    copied, chance: shares that are within it and nearer to a training than to a held-out image,
        of the outputs and of real pictures the model never saw; at 1/3 the headline's criterion.
    within, chance_within: shares that are within it, whatever else they are near to.
    """
    return [
        {
            "tau": tau,
            "rmse": tau * reference,
            "copied": _share(verdicts, tau, True),
            "chance": _share(chance, tau, True),
            "within": _share(verdicts, tau, False),
            "chance_within": _share(chance, tau, False),
        }
        for tau in TOLERANCES
    ]


def _share(verdicts: Verdicts | None, tau: float, nearer: bool) -> float | None:
    if verdicts is None or len(verdicts.rho) == 0:
        return None
    accepted = verdicts.rho <= tau
    if nearer:
        accepted &= verdicts.rmse < verdicts.held_out_rmse
    return float(accepted.to(torch.float64).mean())
