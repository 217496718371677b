"""Two more traits of real pictures, for an audit: there may be few of them to tell broken ones by.

What an untrained network makes has contrast, gradients and grain as some photograph may have, but
its colours vary each for itself, and it has little on a large scale.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from byheart.measure.distance import CHUNK

BLOCKS = 8  # a side


def layout(images: UInt8[Tensor, "s c h w"]) -> dict[str, Float[Tensor, " s"]]:
    """Per image, both from 0 to 1, and 0 where it is even:

    chroma: share of the contrast (variance about each colour's mean) that the three colours do not
        have in common. Untrained networks: 0.7 to 0.8 (tests/test_audit_pipeline.py); the 18
        embedded photographs: at most 0.31.
    coarse: share of the contrast that is left of an image's 8 x 8 block means.
    """
    found: dict[str, list[Tensor]] = {"chroma": [], "coarse": []}
    for part in images.split(CHUNK) if len(images) else [images]:
        values = part.double()
        values = values - values.mean((2, 3), keepdim=True)
        whole = values.square().mean((1, 2, 3))
        apart = (values - values.mean(1, keepdim=True)).square().mean((1, 2, 3))
        blocks = adaptive_avg_pool2d(values, BLOCKS).square().mean((1, 2, 3))
        for name, share in (("chroma", apart), ("coarse", blocks)):
            found[name].append(torch.where(whole > 0, share / whole.clamp(min=1e-12), 0.0))
    return {name: torch.cat(parts) for name, parts in found.items()}
