"""What a run's numbers say, in plain sentences: none without its number, no number uncounted."""

from __future__ import annotations

from typing import Any

CONDITIONS = {
    "unseen": "unseen prompts",
    "empty": "the empty prompt",
    "captions": "the training captions",
}
OTHERS = {"blend": "blends", "broken": "broken", "novel": "novel"}


def sentences(measures: dict[str, Any]) -> list[str]:
    """What happened: copies, what the prompt changes, how close, by chance, in how many bits."""
    said = [
        _copies(measures["n_images"], measures["conditions"][key], name)
        for key, name in CONDITIONS.items()
        if measures["conditions"][key] is not None
    ]
    return [*said, *_effects(measures), _closeness(measures), *_chance(measures), *_bits(measures)]


def _copies(n: int, condition: dict[str, Any], name: str) -> str:
    count, copied = condition["outputs"], condition["copied"]
    hits = round(copied["rate"] * count)
    some = "Every one" if hits == count else ("None" if hits == 0 else f"{hits}")
    verb, what = ("is", "a copy") if hits in {0, 1, count} else ("are", "copies")
    which = "the training image" if n == 1 else f"{what} of one of the {n} training images"
    rest = [
        f"{round(condition[kind] * count)} {word}"
        for kind, word in OTHERS.items()
        if condition[kind]
    ]
    others = f"; the others: {', '.join(rest)}" if rest and hits else ""
    others = f"; they are: {', '.join(rest)}" if rest and not hits else others
    return (
        f"{some} of the {count} outputs under {name} {verb} {which} "
        f"(95 % interval {percent(copied['low'])} to {percent(copied['high'])}){others}."
    )


def _effects(measures: dict[str, Any]) -> list[str]:
    said = []
    for key, name in CONDITIONS.items():
        by_prompt, by_noise = measures["prompt_effect"][key], measures["noise_effect"][key]
        if by_prompt is None or by_prompt["value"] is None:
            continue
        said.append(
            f"Under {name}, changing the prompt changes the picture by "
            f"{percent(by_prompt['value'])} of the distance between two pictures "
            f"({by_prompt['pairs']} pairs); changing the noise by {percent(by_noise['value'])} "
            f"({by_noise['pairs']} pairs)."
        )
    led = measures["steering"]
    if led is not None:
        said.append(
            f"Of {led['pairs']} outputs under training captions {percent(led['value'])} are "
            f"nearest to the image whose caption was asked for; by chance "
            f"{percent(led['chance'])}."
        )
    return said


def _closeness(measures: dict[str, Any]) -> str:
    unseen, reference = measures["conditions"]["unseen"], measures["reference"]
    return (
        f"Under unseen prompts the worst of {unseen['outputs']} outputs is off by "
        f"{unseen['rmse']['max']:.4f} (RMSE, 1 = black against white), the median by "
        f"{unseen['rmse']['median']:.4f}; a held-out picture and its nearest other are "
        f"{reference['distance']:.3f} apart (median of {reference['images']})."
    )


def _chance(measures: dict[str, Any]) -> list[str]:
    chance, found = measures["chance"], measures["ledger"]["chance_collision"]
    said = []
    if chance["rate"] is not None:
        said.append(
            f"Of {chance['count']} real pictures the model never saw, {percent(chance['rate'])} "
            "pass the same test by chance."
        )
    if found and found["bits"] is not None:
        end = "more" if found["high"] is None else f"{found['high']:.0f}"
        said.append(
            f"That an unrelated picture passes for a copy of a given one has, extrapolated from "
            f"{found['all_pairs']:,} pairs of held-out pictures, a chance of 1 in "
            f"{2 ** found['bits']:,.0f} ({found['bits']:.0f} bits, 95 % interval "
            f"{found['low']:.0f} to {end})."
        )
    return said


def _bits(measures: dict[str, Any]) -> list[str]:
    ledger = measures["ledger"]
    sizes = {
        codec: found
        for codec, found in ledger["memorized"].items()
        if found["bits"] and not found["out_of_reach"]
    }
    if not sizes:
        return []
    codec = min(sizes, key=lambda c: sizes[c]["bits"])
    found = sizes[codec]
    images = "the one image" if found["images"] == 1 else f"the {found['images']} images"
    return [
        f"The smallest files as close to {images} given back as the model is take "
        f"{found['bits']:,} bits as {codec.upper()}, {found['compression']:.1f} times less than "
        f"raw pixels: {found['bits_per_parameter']:.2g} bits for each of "
        f"{ledger['parameters']:,} parameters."
    ]


def percent(value: float | None) -> str:
    if value is None:
        return "n/a"
    if value in {0, 1}:
        return f"{100 * value:.0f} %"
    # Almost all is not all, and almost none not none.
    if value < 0.0005:
        return "< 0.1 %"
    if 0.9995 <= value < 1:
        return "> 99.9 %"
    return f"{100 * value:.1f} %"


def number(value: float | None, digits: int = 4) -> str:
    return "n/a" if value is None else f"{value:.{digits}f}"
