"""What a setting and its value are called in a figure: as a class would say it, else by its key."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from byheart.show.axes import plain

# Of settings that studies vary: what an axis of their values is called, and what one value is.
NAMES = {
    "n_images": ("training images", "n = {}"),
    "captions.mode": ("captions", "{} captions"),
    "captions.dropout": ("captions dropout", "captions dropout {}"),
    "captions.shared": ("the caption of all", "caption “{}”"),
    "unet.preset": ("unet", "unet {}"),
    "unet.widths": ("widths", "widths {}"),
    "unet.pretrained": ("unet.pretrained", "pretrained {}"),
    "images.source": ("images", "{}"),
    "images.size": ("pixels a side", "{} px"),
    "images.duplicates": ("times the first image is in the training set", "first image × {}"),
    "split": ("half of the source", "half {}"),
    "fit.prediction": ("what the network says", "prediction {}"),
    "fit.batch": ("batch", "batch {}"),
    "budget.steps": ("optimizer steps", "{} steps"),
    "budget.exposures": ("looks at each image", "{} looks at each image"),
    "sample.guidance": ("guidance", "guidance {}"),
    "sample.steps": ("evaluations for an output", "{} evaluations for an output"),
    "sample.sampler": ("sampler", "{}"),
}
WHOLE = {"split": "none"}  # values that mean: without
LONGEST = 32  # characters of a value


def axis_of(key: str) -> str:
    """The title of an axis along which this setting varies."""
    return NAMES[key][0] if key in NAMES else key


def said(key: str, value: Any, among: Iterable[Any]) -> str:
    """A setting with one of its values. Empty for the half of a budget that is not set.

    among: all values it has, so that shortening makes no two of them alike.
    """
    if value is None and key.startswith("budget."):
        return ""
    if value is None or value is False or WHOLE.get(key) == value:
        return f"without {key}"
    if value is True:
        return f"with {key}"
    words = NAMES[key][1] if key in NAMES else key.replace(".", " ") + " {}"
    return words.format(value_words(value, among))


def value_words(value: Any, among: Iterable[Any]) -> str:
    """A value alone; a long one from its end, which tells paths apart."""
    short, others = _shortened(value), [_shortened(v) for v in among if v != value]
    return _whole(value) if short in others else short


def _shortened(value: Any) -> str:
    words = _whole(value)
    return words if len(words) <= LONGEST else "…" + words[1 - LONGEST :]


def _whole(value: Any) -> str:
    if value is None:
        return "none"
    if _number(value):
        return plain(value)
    return "".join(c if c.isprintable() else "?" for c in str(value))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
