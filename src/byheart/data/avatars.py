"""Avatars that DiceBear draws from parts: families of a hundred thousand pictures and more, of
which every picture's parts are known, and any other member can be drawn as well."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from functools import cache as once
from functools import cached_property
from importlib.metadata import version
from importlib.resources import files
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from tqdm import tqdm

from byheart.data.cache import stored
from byheart.data.decode import draw
from byheart.data.sources import SMALL, Pictures

BLOCK = 500  # pictures of one file under the cache
RULE = "2"  # part of the cache's key: raise it when drawing, captions or parts change
MANY = 100_000  # members by parts alone from which two pictures of the same parts count as one
BARREN = 20  # blocks in a row without a new picture after which a family is used up
PIXEL_CANVAS = 32  # units a side up to which a style is drawn in whole pixels

Parts = dict[str, str]  # such as {"eyes": "wink", "face colour": "#fcd34d", "cheeks": "none"}

# What a picture of the style is, and the part that is its shape. Other styles are "an avatar".
NOUNS = {
    "moods": ("face", "face"), "critters": ("critter", "body"), "clay": ("clay figure", "body"),
    "sprouts": ("plant", "plant"), "thumbs": ("thumb", ""), "pixel-art": ("person", ""),
    "cutouts": ("paper face", "head"), "cameo": ("portrait", "shape"), "gaze": ("pair of eyes", ""),
}  # fmt: skip
# A part's name in the definition, where it is no plain English beside "eyes" or "mouth".
WORDS = {
    "circle": "round", "squircle": "squarish", "bean": "bean-shaped", "pebble": "pebble-shaped",
    "blob": "blob-shaped", "wedge inv": "upside-down wedge-shaped", "pupils": "round",
    "big pupils": "big round", "tall pupils": "tall round", "closed line": "closed",
    "dots": "dotted", "close": "close-set", "blush big": "rosy", "look side": "sideways-looking",
    "look down": "down-looking", "look up": "up-looking", "wink": "winking",
    "squint": "squinting", "cat": "cat's", "sparkle": "sparkling", "sideeye": "sideways-looking",
    "inward": "inward-looking", "three row": "three lined-up", "trio": "three",
    "mono": "single eye", "mono sleepy": "single sleepy eye", "smile open": "open smile",
    "hexagon": "hexagonal", "tilt": "tilted", "steps": "stepped", "dome": "domed",
    "peak": "peaked", "bell": "bell-shaped", "chimney": "chimney-shaped", "tower": "tower-shaped",
    "wedge": "wedge-shaped", "horns": "horned", "horns small": "small horned",
    "horns in": "inward-horned", "spikes": "spiked", "ears droop": "droopy-eared",
    "ears pointy": "pointy-eared", "ears round": "round-eared", "stripes": "striped",
    "speckles": "speckled", "bars": "barred", "dot row": "dotted-row", "buds": "budding",
    "flower": "flowering", "ball": "ball-shaped", "taper": "tapered", "rim": "rimmed",
    "bag": "bag-shaped", "bowl": "bowl-shaped",
}  # fmt: skip
ALONE = frozenset({
    "smile", "big smile", "tiny smile", "grin", "smirk", "gasp", "frown", "laugh", "blush",
    "freckles", "teeth", "tongue", "open smile", "single eye", "single sleepy eye",
})  # fmt: skip
COLOURS = {
    "white": "ffffff", "pale grey": "dfe4ea", "grey": "808080", "dark grey": "33404f",
    "black": "000000", "red": "e02020", "dark red": "8f1010", "pink": "f9a0b8", "magenta": "c020a0",
    "purple": "6b2fc0", "lavender": "b8b0fa", "blue": "2563d8", "dark blue": "123a70",
    "light blue": "85d0fa", "turquoise": "5fe5d0", "teal": "0f766e", "green": "22b455",
    "light green": "80e5b0", "dark green": "06603f", "lime": "bdee64", "yellow": "fcd34d",
    "orange": "f58a2c", "peach": "fdba8c", "brown": "7a4a20", "rust": "b4530c", "tan": "c8a070",
    "beige": "f6ecd4",
}  # fmt: skip


class Family:
    """All avatars of one style.

    choices: of each part what it may be; colours as #rrggbb. Small shifts, where a style has them,
    follow from the seed alone.
    """

    def __init__(self, style: str) -> None:
        """ValueError: no such style, or one that may not be passed on freely."""
        from dicebear import Style

        free = free_styles()
        if style not in free:
            raise ValueError(
                f"images.style={style}: type a style under CC0: {', '.join(sorted(free))}"
            )
        definition = free[style]
        # Built once: the definition is checked against its schema, which takes a second.
        self.style, self._style = style, Style(definition)
        self.attribution: str = definition["meta"]["license"]["text"]
        self.canvas: int = definition["canvas"]["width"]
        self._may_lack = {
            name for name, part in definition["components"].items()
            if part.get("probability", 100) < 100
        }  # fmt: skip
        self.choices: dict[str, tuple[str, ...]] = {}
        for name, part in definition["components"].items():
            kinds = (*part.get("variants", {}), *(["none"] if name in self._may_lack else []))
            if len(kinds) > 1 and name != "animation":
                self.choices[name] = kinds
        for name, palette in definition.get("colors", {}).items():
            if len(values := tuple(dict.fromkeys(palette.get("values", [])))) > 1:
                self.choices[f"{name} colour"] = values

    @cached_property
    def shifted(self) -> bool:
        """Whether seeds move, turn or resize the parts a little."""
        parts = self.parts("a")
        return not torch.equal(self.draw("a", 64, parts)[0], self.draw("b", 64, parts)[0])

    @property
    def members(self) -> int:
        """Pictures by parts and colours, an upper bound: not every style shows every colour."""
        return math.prod(map(len, self.choices.values()))

    def parts(self, seed: str) -> Parts:
        """What the picture of a seed is made of."""
        return self._known(self._avatar({"seed": seed}).to_json()["options"])

    def draw(
        self, seed: str, size: int, parts: Parts | None = None
    ) -> tuple[UInt8[Tensor, "3 z z"], Parts]:
        """The picture of a seed, with some or all of its parts exchanged, on white; and what it is
        made of: parts that do not show, such as the colour of no pattern, are not among them.

        ValueError: a style of pixels at a size that is no multiple of its own.
        """
        if self.canvas <= PIXEL_CANVAS and size % self.canvas:
            below = max(1, size // self.canvas) * self.canvas
            raise ValueError(
                f"images.size={size}: images.style={self.style} is drawn in squares of "
                f"{self.canvas} pixels: type images.size={below} or another multiple"
            )
        avatar = self._avatar({"seed": seed, **self._options(parts or {})}).to_json()
        pixels = torch.from_numpy(draw(avatar["svg"], size)).permute(2, 0, 1)
        return pixels, self._known(avatar["options"])

    def caption(self, parts: Parts) -> str:
        """Plain words, such as "a round yellow face with winking eyes and a smile on blue"."""
        noun, shape = NOUNS.get(self.style, ("avatar", ""))
        look = [_words(parts[shape])] if shape in parts else []
        for name in (shape, "skin", "shape"):
            if f"{name} colour" in parts:
                look.append(_colour(parts[f"{name} colour"]))
                break
        seen = []
        for name in self.choices:
            if name.endswith(" colour") or name == shape or parts.get(name, "none") == "none":
                continue
            tint = parts.get(f"{name} colour")
            seen.append(_part(name, parts[name], _colour(tint) if tint else ""))
        words = _one(" ".join([*look, noun]))
        if seen:
            words += " with " + " and ".join(filter(None, [", ".join(seen[:-1]), seen[-1]]))
        if "background colour" in parts:
            words += f" on {_colour(parts['background colour'])}"
        return words

    def _avatar(self, options: dict[str, Any]) -> Any:
        from dicebear import Avatar

        return Avatar(self._style, options)

    def _options(self, parts: Parts) -> dict[str, Any]:
        chosen: dict[str, Any] = {}
        for name, value in parts.items():
            if name.endswith(" colour"):
                chosen[f"{name.removesuffix(' colour')}Color"] = [value]
                continue
            if name in self._may_lack:
                chosen[f"{name}Probability"] = 0 if value == "none" else 100
            if value != "none":
                chosen[f"{name}Variant"] = value
        return chosen

    def _known(self, options: dict[str, Any]) -> Parts:
        found = {}
        for name in self.choices:
            if name.endswith(" colour"):
                if colours := options.get(f"{name.removesuffix(' colour')}Color"):
                    found[name] = colours[0]
            else:
                found[name] = options.get(f"{name}Variant", "none")
        return found


family = once(Family)


@once
def free_styles() -> dict[str, dict[str, Any]]:
    """The definitions of all styles whose own licence says CC0 1.0, by name."""
    found = {}
    for file in files("dicebear_styles").iterdir():
        if file.name.endswith(".json"):
            definition = json.loads(file.read_text("utf-8"))
            if definition.get("meta", {}).get("license", {}).get("name") == "CC0 1.0":
                found[file.name.removesuffix(".json")] = definition
    return found


def avatars(style: str, size: int, seed: int, train: int, held_out: int, cache: Path) -> Pictures:
    """`train` to learn, then `held_out` that are never learned. `small` is empty, since no
    near-duplicates are looked for.

    A picture's name is the seed that DiceBear draws it from. No two are equal, and in a family of
    many no two have the same parts. The held-out ones are chosen first, whatever `train` is, and
    the first k to learn are the same for every `train`. Drawn once and kept under `cache`.

    ValueError: no such style, or it has not so many pictures.
    """
    made = family(style)
    seen: set[bytes] = set()
    unseen = list(_distinct(made, size, f"{seed}-held-out-", held_out, cache, seen))
    known = list(_distinct(made, size, f"{seed}-", train, cache, seen))
    names, captions, pictures = zip(*known, *unseen, strict=True)
    whole = torch.stack(pictures).permute(0, 2, 3, 1).numpy()
    none = np.zeros((0, SMALL, SMALL, 3), dtype=np.uint8)
    return Pictures(names, captions, none, whole.__getitem__, made.attribution)


def _distinct(
    made: Family, size: int, prefix: str, wanted: int, cache: Path, seen: set[bytes]
) -> Iterator[tuple[str, str, UInt8[Tensor, "3 z z"]]]:
    found = barren = 0
    with tqdm(total=wanted, desc="draw", unit="picture", leave=False, disable=None) as bar:
        for start in count(0, BLOCK):
            before = found
            if found == wanted:
                return
            for name, (parts, caption), picture in _block(made, size, prefix, start, cache, bar):
                marks = {hashlib.sha256(picture.numpy().tobytes()).digest()}
                if made.members >= MANY:
                    marks.add(hashlib.sha256(json.dumps(parts).encode()).digest())
                if found < wanted and not marks & seen:
                    seen |= marks
                    found += 1
                    yield name, caption, picture
            barren = 0 if found > before else barren + 1
            if barren == BARREN:
                raise ValueError(
                    f"images.style={made.style} has no more than {len(seen)} different pictures: "
                    f"type a smaller n_images, or another style"
                )


def _block(
    made: Family, size: int, prefix: str, start: int, cache: Path, bar: Any
) -> Iterator[tuple[str, tuple[Parts, str], UInt8[Tensor, "3 z z"]]]:
    """BLOCK pictures of consecutive seeds."""
    names = [f"{prefix}{k}" for k in range(start, start + BLOCK)]

    def compute() -> dict[str, Tensor]:
        pictures, words = [], []
        for name in names:
            picture, parts = made.draw(name, size)
            pictures.append(picture)
            words.append((parts, made.caption(parts)))
            bar.update(bar.n < bar.total)
        text = torch.frombuffer(bytearray(json.dumps(words).encode()), dtype=torch.uint8)
        return {"pixels": torch.stack(pictures), "words": text}

    made_by = [version(name) for name in ("dicebear-core", "dicebear-styles", "resvg-py")]
    key = ("avatars", made.style, str(size), *made_by, RULE, str(BLOCK), names[0])
    found = stored(cache, key, compute)
    words = json.loads(found["words"].numpy().tobytes())
    yield from zip(names, words, found["pixels"], strict=True)


def _words(name: str) -> str:
    """`bigSmile` -> "big smile", `variant07` -> "7"."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower().removeprefix("variant")
    number = re.search(r"\d+$", spaced)
    if number:
        spaced = f"{spaced[: number.start()]} {int(number[0])}".strip()
    return WORDS.get(spaced, spaced)


def _part(name: str, value: str, tint: str) -> str:
    """Such as "winking eyes", "a smile", "long red hair 11"."""
    look, thing = _words(value), _words(name)
    if look in ALONE:
        many = look.endswith(("s", "teeth")) or look in {"blush", "freckles"}
        return look if many else _one(look)
    number = re.search(r"\d+$", look)
    kind = look[: number.start()].strip() if number else look
    # "dark dark grey glasses", "a cat mouth mouth": a word is said once.
    parts = [*kind.split(), *tint.split(), *thing.split(), *([number[0]] if number else [])]
    words = " ".join(dict.fromkeys(parts))
    many = thing.endswith("s") or thing in {"hair"}
    return words if many else _one(words)


def _one(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


@once
def _colour(value: str) -> str:
    """The plain word closest to #rrggbb, as the eye has it (CIE Lab)."""
    from skimage.color import rgb2lab

    codes = [value[1:7], *COLOURS.values()]
    rgb = np.array([[int(code[k : k + 2], 16) / 255 for k in (0, 2, 4)] for code in codes])
    lab = rgb2lab(rgb)
    return list(COLOURS)[int(((lab[1:] - lab[0]) ** 2).sum(1).argmin())]
