"""The ledger: bits of training images against bits of parameters, and each figure in words.

Plain numbers in, plain numbers out, no torch: a run, a page and `byheart ledger` use the same
arithmetic. What must be measured first (memorized bits, chance collision) comes in as the plain
dictionaries of `compression.py` and `collision.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

BITS_PER_VALUE = 8  # of a raw image: one colour of one pixel
UUID_BITS = 122  # random bits of a version-4 UUID (RFC 9562)
HASH_BITS = math.log2(1000)  # of a hash of three decimal digits

# Half the precision halves or doubles these; every other figure stays.
DEPEND_ON_PRECISION = (
    "precision_bits",
    "parameter_bits",
    "ratio",
    "orders_of_magnitude",
    "parameter_bits_per_image",
)

FIGURES = (
    "parameters", "n_images", "dimensions", "precision_bits", "parameter_bits", "raw_bits",
    "ratio", "orders_of_magnitude", "parameter_bits_per_image", "values_per_parameter",
    "latent_dimensions", "latents_per_parameter", "given_back", "share_given_back",
)  # fmt: skip


@dataclass(frozen=True)
class Ledger:
    """What goes in; all else follows from it.

    memorized: by codec the dictionary of `compression.Memorized`. chance_collision: that of
    `collision.Collision`. ValueError: a number that is no whole number of 1 or more, or more
    images given back than there are.
    """

    parameters: int
    n_images: int
    dimensions: int  # 8-bit values in one training image: height × width × 3
    precision_bits: int = 32  # assumed for each parameter
    latent_dimensions: int | None = None  # numbers that the diffusion model sees of an image
    given_back: int | None = None  # training images that some output copies
    memorized: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by codec
    chance_collision: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        counts = ["parameters", "n_images", "dimensions", "precision_bits"]
        for name in counts + ["latent_dimensions"] * (self.latent_dimensions is not None):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value}: a whole number of 1 or more is needed")
        if self.given_back is not None and self.given_back not in range(self.n_images + 1):
            raise ValueError(f"given_back={self.given_back} of {self.n_images} training images")
        kept = {name: _with_rates(one, self.parameters) for name, one in self.memorized.items()}
        object.__setattr__(self, "memorized", kept)

    @property
    def parameter_bits(self) -> int:
        return self.parameters * self.precision_bits

    @property
    def raw_bits(self) -> int:
        return self.n_images * self.dimensions * BITS_PER_VALUE

    @property
    def ratio(self) -> float:
        """Raw bits / parameter bits: the compression that storing every image would take."""
        return self.raw_bits / self.parameter_bits

    @property
    def orders_of_magnitude(self) -> float:
        return math.log10(self.ratio)

    @property
    def parameter_bits_per_image(self) -> float:
        return self.parameter_bits / self.n_images

    @property
    def values_per_parameter(self) -> float:
        """8-bit values of all training images for each parameter, whatever its precision."""
        return self.n_images * self.dimensions / self.parameters

    @property
    def latents_per_parameter(self) -> float | None:
        """Like against like: a latent's numbers and the parameters have the same precision."""
        if self.latent_dimensions is None:
            return None
        return self.n_images * self.latent_dimensions / self.parameters

    @property
    def share_given_back(self) -> float | None:
        return None if self.given_back is None else self.given_back / self.n_images

    def to_json(self) -> dict[str, Any]:
        """The key `ledger` of measures.json, Stable Diffusion's column beside it."""
        column = {f"precision_{bits}": _plain(stable_diffusion(bits)) for bits in (32, 16)}
        return _plain(self) | {"stable_diffusion": column}


def from_json(record: Mapping[str, Any]) -> Ledger:
    """The Ledger that `to_json` wrote. ValueError: a number is missing or impossible."""
    try:
        found = Ledger(**{item.name: record[item.name] for item in fields(Ledger)})
        lines(found)  # which asks for all that it holds
        return found
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the ledger cannot be read ({error})") from error


def stable_diffusion(precision_bits: int = 32) -> Ledger:
    """Stable Diffusion 1.x: its UNet, LAION-2B's images as 512 × 512, latents of 4 × 64 × 64.

    Parameters counted on diffusers' UNet2DConditionModel with cross_attention_dim=768.
    """
    return Ledger(
        859_520_964, 2_300_000_000, 512 * 512 * 3, precision_bits, latent_dimensions=4 * 64 * 64
    )


def _plain(ledger: Ledger) -> dict[str, Any]:
    return {name: getattr(ledger, name) for name in FIGURES} | {
        "memorized": ledger.memorized,
        "chance_collision": ledger.chance_collision,
        "depends_on_precision": list(DEPEND_ON_PRECISION),
    }


def _with_rates(found: Mapping[str, Any], parameters: int) -> dict[str, Any]:
    """Add what follows: bits per parameter, and by how much the codec shrinks these images."""
    bits = found["bits"]
    return dict(found) | {
        "bits_per_parameter": None if bits is None else bits / parameters,
        "compression": found["raw_bits"] / bits if bits else None,
    }


def smallest_codec(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Of `to_json`'s record the entry of the codec that needs the fewest bits for all images given
    back, with its name as `codec`.

    0 bits where none was. None: no codec comes close enough to all of them.
    """
    whole = [
        found | {"codec": codec}
        for codec, found in record["memorized"].items()
        if found and found["bits"] is not None and not found["out_of_reach"]
    ]
    return min(whole, key=lambda found: found["bits"], default=None)


RAISED = str.maketrans("−0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def readable(value: float | None) -> str:
    """12,288 or 11.96 or n/a: whole above 1,000, else four digits."""
    if value is None:
        return "n/a"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    digits, _, power = f"{value:.4g}".replace("-", "−").partition("e")
    return f"{digits} × 10{power.replace('−0', '−').translate(RAISED)}" if power else digits


def readable_bits(bits: float | None) -> str:
    """27.5 Gbit: 1 kbit is 1,000 bits."""
    if bits is None:
        return "n/a"
    prefixes = ["", "k", "M", "G", "T", "P", "E", "Z", "Y"]
    power = min(max(0, int(math.log10(bits) // 3)), len(prefixes) - 1) if bits else 0
    return f"{bits / 1000**power:.4g} {prefixes[power]}bit"


NAMES = {"jpeg": "JPEG", "webp": "WebP", "avif": "AVIF"}


@dataclass(frozen=True)
class Line:
    """One line of the ledger. `text` is the value as people read it."""

    key: str  # as in measures.json, inner keys after a dot
    label: str
    value: float | None  # None where undefined
    text: str
    how: str  # the arithmetic in words
    depends_on_precision: bool


# Line by line the figure, its label, its arithmetic in words, and how it is written if not plainly.
ARITHMETIC: tuple[tuple[Any, ...], ...] = (
    ("parameters", "parameters", "counted"),
    ("precision_bits", "bits of one parameter", "assumed"),
    ("parameter_bits", "bits of the parameters", "parameters × bits of one parameter",
     readable_bits),
    ("n_images", "training images", "counted"),
    ("dimensions", "dimensions of an image", "height × width × 3 colours"),
    ("raw_bits", "bits of the raw training images", "training images × dimensions × 8 bits",
     readable_bits),
    ("ratio", "raw bits per parameter bit",
     "raw bits / parameter bits: the compression to store them all"),
    ("orders_of_magnitude", "the same in orders of magnitude", "log10 of the line above"),
    ("parameter_bits_per_image", "parameter bits per training image",
     "parameter bits / training images", readable_bits),
    ("values_per_parameter", "image values per parameter",
     "training images × dimensions / parameters"),
    ("latent_dimensions", "dimensions of a latent", "what the diffusion model sees of an image"),
    ("latents_per_parameter", "latent values per parameter",
     "training images × dimensions of a latent / parameters"),
)  # fmt: skip
GIVEN_BACK = (
    ("given_back", "training images given back", "those that at least one output copies"),
    ("share_given_back", "share of the training images", "given back / training images"),
)


def lines(ledger: Ledger) -> tuple[Line, ...]:
    """Line by line, each with its arithmetic; what was not measured has no line."""
    told = ARITHMETIC if ledger.given_back is None else (*ARITHMETIC, *GIVEN_BACK)
    figures = [_line(key, label, getattr(ledger, key), *rest) for key, label, *rest in told]
    return (*figures, *_memory(ledger), *_collision(ledger))


def _memory(ledger: Ledger) -> list[Line]:
    lines = []
    for codec, found in ledger.memorized.items():
        name, key = NAMES.get(codec, codec), f"memorized.{codec}"
        beyond = found["out_of_reach"]
        header = readable_bits(found["header_bits"])
        left_out = f"; {beyond} left out: no {name} is as close" if beyond else ""
        lines += [
            _line(f"{key}.bits", f"memorized bits, {name}", found["bits"],
                  f"smallest {name} files as close as the model: {found['images']} images, "
                  f"{header} of it headers{left_out}", readable_bits),
            _line(f"{key}.bits_per_parameter", f"memorized bits per parameter, {name}",
                  found["bits_per_parameter"], "memorized bits / parameters"),
            _line(f"{key}.compression", f"compression by {name}", found["compression"],
                  f"raw bits of these {found['images']} images / bits of their files"),
        ]  # fmt: skip
    return lines


def _collision(ledger: Ledger) -> list[Line]:
    found = ledger.chance_collision
    if found is None:
        return []
    if found["bits"] is None:
        return [_line("chance_collision.bits", "chance collision, bits", None, found["reason"])]
    span = f"95 % interval {readable(found['low'])} to {readable(found['high'])}"
    others = found["bits_by_share"] or {}
    least, most = min(others.values(), default=None), max(others.values(), default=None)
    return [
        _line("chance_collision.bits", "chance collision, bits", found["bits"],
              f"-log2 of the chance that another image is a copy of a given one; {span}"),
        _line("chance_collision.bits_by_share", "the least by another fit", least,
              f"fitted to other shares of the closest pairs; the most: {readable(most)}"),
        _line("chance_collision.uuid_matches", "bits in UUID matches",
              found["uuid_matches"], f"bits / {UUID_BITS}"),
        _line("chance_collision.hash_matches", "bits in three-digit-hash matches",
              found["hash_matches"], "bits / log2(1000)"),
        _line("chance_collision.any_bits", f"bits for any of {found['n_images']:,} images",
              found["any_bits"], "bits − log2(training images), 0 at the least"),
        _line("chance_collision.dimension", "the exponent it rests on", found["dimension"],
              found["assumption"]),
    ]  # fmt: skip


def _line(key: str, label: str, value: float | None, how: str, text: Any = readable) -> Line:
    return Line(key, label, value, text(value), how, key in DEPEND_ON_PRECISION)
