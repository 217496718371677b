"""The ledger in words: one line for each figure, with the arithmetic that led to it. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from byheart.measure.ledger import DEPEND_ON_PRECISION, UUID_BITS, Ledger

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


def lines(ledger: Ledger) -> tuple[Line, ...]:
    """Line by line, each with its arithmetic; what was not measured has no line.

    ValueError: the ledger was read from a file and something is missing in it.
    """
    try:
        return (*_arithmetic(ledger), *_memory(ledger), *_collision(ledger))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the ledger cannot be read ({error})") from error


def _arithmetic(ledger: Ledger) -> list[Line]:
    precision = ledger.precision_bits
    return [
        _line("parameters", "parameters", ledger.parameters, "counted"),
        _line("precision_bits", "bits of one parameter", precision, "assumed"),
        _line("parameter_bits", "bits of the parameters", ledger.parameter_bits,
              "parameters × bits of one parameter", readable_bits),
        _line("n_images", "training images", ledger.n_images, "counted"),
        _line("dimensions", "dimensions of an image", ledger.dimensions,
              "height × width × 3 colours"),
        _line("raw_bits", "bits of the raw training images", ledger.raw_bits,
              "training images × dimensions × 8 bits", readable_bits),
        _line("ratio", "raw bits per parameter bit", ledger.ratio,
              "raw bits / parameter bits: the compression to store them all"),
        _line("orders_of_magnitude", "the same in orders of magnitude",
              ledger.orders_of_magnitude, "log10 of the line above"),
        _line("parameter_bits_per_image", "parameter bits per training image",
              ledger.parameter_bits_per_image, "parameter bits / training images", readable_bits),
        _line("values_per_parameter", "image values per parameter", ledger.values_per_parameter,
              "training images × dimensions / parameters"),
        _line("latent_dimensions", "dimensions of a latent", ledger.latent_dimensions,
              "what the diffusion model sees of an image"),
        _line("latents_per_parameter", "latent values per parameter",
              ledger.latents_per_parameter,
              "training images × dimensions of a latent / parameters"),
    ]  # fmt: skip


def _memory(ledger: Ledger) -> list[Line]:
    lines = []
    if ledger.given_back is not None:
        lines += [
            _line("given_back", "training images given back", ledger.given_back,
                  "those that at least one output copies"),
            _line("share_given_back", "share of the training images", ledger.share_given_back,
                  "given back / training images"),
        ]  # fmt: skip
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
              found["any_bits"], "bits - log2(training images), 0 at the least"),
        _line("chance_collision.dimension", "the exponent it rests on", found["dimension"],
              found["assumption"]),
    ]  # fmt: skip


def readable(value: float | None) -> str:
    """12,288 or 11.96 or n/a: whole above 1,000, else four digits."""
    if value is None:
        return "n/a"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def readable_bits(bits: float | None) -> str:
    """27.5 Gbit: 1 kbit is 1,000 bits."""
    if bits is None:
        return "n/a"
    prefixes = ["", "k", "M", "G", "T", "P", "E", "Z", "Y"]
    power = min(max(0, int(math.log10(bits) // 3)), len(prefixes) - 1) if bits else 0
    return f"{bits / 1000**power:.4g} {prefixes[power]}bit"


def _line(key: str, label: str, value: float | None, how: str, text: Any = readable) -> Line:
    return Line(key, label, value, text(value), how, key in DEPEND_ON_PRECISION)
