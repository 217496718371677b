"""How long an audit of two folders takes, on made-up pictures: for `byheart bench`."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from byheart.auditing.audit import audit

COPIED = 10  # every tenth output is a training picture
GRAIN = 8  # pixels a side of the noise that a picture is enlarged from


def audit_seconds(
    outputs: int = 2000, images: int = 5000, side: int = 256, size: int = 64
) -> dict[str, float]:
    """Seconds of one whole audit, from the files to the page, without the time to make the files.

    side: pixels of the files; size: pixels they are compared at. `found`: the share of the copies
    put in that came out as copies, 1 where the audit does what it should.
    """
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for name in ("train", "held_out", "outputs"):
            (root / name).mkdir()
        draws = np.random.default_rng(0)
        for k in range(images):
            _save(root / "train" / f"{k:05d}.jpg", _picture(draws, side))
        for k in range(max(8, images // 20)):
            _save(root / "held_out" / f"{k:05d}.jpg", _picture(draws, side))
        copies = 0
        for k in range(outputs):
            picture = _picture(draws, side)
            if k % COPIED == 0:
                copies += 1
                picture = np.array(Image.open(root / "train" / f"{k % images:05d}.jpg"))
            _save(root / "outputs" / f"{k:05d}.jpg", picture)
        began = time.perf_counter()
        found = audit(
            root / "train", root / "outputs", root / "held_out", out=root / "audit", size=size
        )
        seconds = time.perf_counter() - began
        rate = found.measures["all"]["copied"]["rate"]
        return {"seconds": seconds, "outputs": outputs, "images": images, "side": side,
                "size": size, "found": rate * outputs / copies}  # fmt: skip


def _picture(draws: np.random.Generator, side: int) -> UInt8[np.ndarray, "side side 3"]:
    """Soft blobs of colour with a hard-edged square: neither flat nor noise."""
    coarse = Image.fromarray(draws.integers(0, 256, (GRAIN, GRAIN, 3), dtype=np.uint8))
    picture = np.array(coarse.resize((side, side), Image.Resampling.BICUBIC))
    left, upper = draws.integers(0, side // 2, 2)
    picture[upper : upper + side // 4, left : left + side // 4] = draws.integers(0, 256, 3)
    return picture


def _save(path: Path, picture: UInt8[np.ndarray, "side side 3"]) -> None:
    Image.fromarray(picture).save(path, quality=90)
