"""What a run's numbers say, in plain sentences: none without its number, no number uncounted."""

from __future__ import annotations

from typing import Any

from byheart.measure.ledger import smallest_codec
from byheart.measure.trends import BROKEN

CONDITIONS = {
    "unseen": "unseen prompts",
    "empty": "the empty prompt",
    "captions": "the training captions",
}
OTHERS = {
    "blend": ("blend", "blends"),
    "broken": ("broken", "broken"),
    "novel": ("novel", "novel"),
}
WRITTEN_OUT = 40  # bits: up to here "1 in 1,099,511,627,776" can be read, beyond it a power


def sentences(measures: dict[str, Any]) -> list[str]:
    """What happened: copies, what the prompt changes, how close, by chance, in how many bits."""
    said = [
        _copies(measures["n_images"], measures["conditions"][key], name)
        for key, name in CONDITIONS.items()
        if measures["conditions"][key] is not None
    ]
    return [
        *said, *_new(measures), *_effects(measures), _closeness(measures), *_chance(measures),
        *_bits(measures),
    ]  # fmt: skip


def headline(measures: dict[str, Any]) -> str:
    """In a few words; where there are hardly any copies, what there is instead."""
    n, found = measures["n_images"], measures["conditions"]["unseen"]
    who, copied = "One image" if n == 1 else f"{n:,} images", percent(found["copied"]["rate"])
    if found["broken"] >= BROKEN:
        return f"{who}: not learned yet, {percent(found['broken'])} broken"
    if found["novel"] >= 0.5:
        return f"{who}: {percent(found['novel'])} new pictures, {copied} copies"
    return f"{who}, {copied} by heart"


def _new(measures: dict[str, Any]) -> list[str]:
    """Whether outputs are nearer to the training set than new pictures; what the network knows."""
    found = measures.get("generalization") or {}  # version 1 has none
    said = []
    if (near := found.get("nearest")) and near["z"] is not None:
        count, fresh = near["counts"]
        nearer = "nearer to" if near["z"] < -3 else "no nearer to"
        said.append(
            f"Outputs lie {nearer} the training set than pictures that were never shown: "
            f"{near['outputs']:.4f} and {near['fresh']:.4f} (medians of {count} and {fresh:,}; "
            f"data-copying test {number(near['z'], 1)}, copying below −3)."
        )
    if gap := found.get("gap"):
        said.append(f"Given noisy pictures, {gap['sentence']}.")
    return said


def _copies(n: int, condition: dict[str, Any], name: str) -> str:
    count, copied = condition["outputs"], condition["copied"]
    hits = round(copied["rate"] * count)
    some = {0: "None", count: "Every one"}.get(hits, f"{hits}")
    subject = f"{some} of the {count} outputs under {name}"
    verb, what = ("is", "a copy") if hits in {0, 1, count} else ("are", "copies")
    if count == 1:
        subject, verb = f"The 1 output under {name}", "is" if hits else "is not"
    which = "the training image" if n == 1 else f"{what} of one of the {n:,} training images"
    rest = [
        f"{found} {one if found == 1 else many}"
        for kind, (one, many) in OTHERS.items()
        if (found := round(condition[kind] * count))
    ]
    opening = "the others" if hits else ("they are" if count > 1 else "it is")
    others = f"; {opening}: {', '.join(rest)}" if rest else ""
    return (
        f"{subject} {verb} {which} "
        f"(95 % interval {percent(copied['low'])} to {percent(copied['high'])}){others}."
    )


def _effects(measures: dict[str, Any]) -> list[str]:
    said = []
    for key, name in CONDITIONS.items():
        by_prompt, by_noise = measures["prompt_effect"][key], measures["noise_effect"][key]
        if by_prompt is None or by_prompt["value"] is None:
            continue
        noise = ""
        if by_noise is not None and by_noise["value"] is not None:
            noise = f"; changing the noise by {percent(by_noise['value'])} ({_pairs(by_noise)})"
        said.append(
            f"Under {name}, changing the prompt changes the picture by "
            f"{percent(by_prompt['value'])} of the distance between two pictures "
            f"({_pairs(by_prompt)}){noise}."
        )
    led = measures["steering"]
    if led is not None and led["value"] is not None:
        outputs = "output" if led["pairs"] == 1 else "outputs"
        said.append(
            f"Of {led['pairs']} {outputs} under training captions {percent(led['value'])} are "
            f"nearest to the image whose caption was asked for; by chance "
            f"{percent(led['chance'])}."
        )
    return said


def _pairs(effect: dict[str, Any]) -> str:
    return f"{effect['pairs']:,} pair{'' if effect['pairs'] == 1 else 's'}"


def _closeness(measures: dict[str, Any]) -> str:
    unseen, reference = measures["conditions"]["unseen"], measures["reference"]
    count, rmse = unseen["outputs"], unseen["rmse"]
    which, middle = f"the worst of {count} outputs", f", the median by {rmse['median']:.4f}"
    if count == 1:
        which, middle = "the 1 output", ""
    return (
        f"Under unseen prompts {which} is off by {rmse['max']:.4f} "
        f"(RMSE, 1 = black against white){middle}; a held-out picture and its nearest other are "
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
        # Without an exponent there was nothing to extrapolate: such pairs were seen.
        how = "counted among" if found["dimension"] is None else "extrapolated from"
        bits = found["bits"]
        odds = f"{2**bits:,.0f}" if bits <= WRITTEN_OUT else f"2^{bits:.0f}"
        low, high = (None if found[end] is None else f"{found[end]:.0f}" for end in ("low", "high"))
        said.append(
            f"That an unrelated picture passes for a copy of a given one has, {how} "
            f"{found['all_pairs']:,} pairs of held-out pictures, a chance of 1 in "
            f"{odds} ({bits:.0f} bits, 95 % interval {low or 'n/a'} to {high or 'more'})."
        )
    return said


def _bits(measures: dict[str, Any]) -> list[str]:
    ledger = measures["ledger"]
    found = smallest_codec(ledger)
    if found is None or not found["bits"]:
        return []
    files, take = f"files as close to the {found['images']} images", "take"
    if found["images"] == 1:
        files, take = "file as close to the one image", "takes"
    codec, shrunk = found["codec"].upper(), found["compression"]
    # A codec may well take more than the pixels themselves: noise copied byte for byte.
    raw = f"{shrunk:.1f} times less than" if shrunk >= 1 else f"{1 / shrunk:.1f} times as much as"
    return [
        f"The smallest {files} given back as the model is {take} {found['bits']:,} bits as "
        f"{codec}, {raw} raw pixels: {found['bits_per_parameter']:.2g} bits for each of "
        f"{ledger['parameters']:,} parameters."
    ]


def percent(value: float | None) -> str:
    if value is None:
        return "n/a"
    size, sign = abs(value), "−" if value < 0 else ""
    # Almost all is not all, and almost none not none. A digit more would be made up.
    if 0 < size < 0.0005:
        return "> −0.1 %" if sign else "< 0.1 %"
    if 0.9995 <= size < 1:
        return "< −99.9 %" if sign else "> 99.9 %"
    digits = 1 if 0 < size < 0.01 or 0.99 < size < 1 else 0
    return f"{sign}{100 * size:.{digits}f} %"


def number(value: float | None, digits: int = 4) -> str:
    return "n/a" if value is None else f"{value:.{digits}f}".replace("-", "−")
