"""Which runs one line may join: those that differ in nothing but its axis and the seed; and what
their settings are called."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from byheart.config import BYSTANDERS
from byheart.show.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, YELLOW, Line, plain
from byheart.show.runs import CURE, Finished
from byheart.show.words import CONDITIONS

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
    if is_number(value):
        return plain(value)
    return "".join(c if c.isprintable() else "?" for c in str(value))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# Of captions modes: what each is called, its colour, marker and line.
MODES: dict[str, tuple[str, str, str, Line]] = {
    "shared": ("one caption for all", ORANGE, "o", "-"),
    "own": ("own captions", BLUE, "s", "--"),
    "none": ("no captions", GREEN, "^", "-."),
    "random": ("random captions", PURPLE, "D", ":"),
}
# Of what is counted through: no two of the first thirty have the same colour and line.
COLOURS = (ORANGE, BLUE, GREEN, YELLOW, PURPLE, GREY)
LINES: tuple[Line, ...] = ("-", "--", "-.", ":", (0, (6, 2, 1, 2, 1, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", "h", ">", "d", "8")


def look(k: int) -> tuple[str, str, Line]:
    """Colour, marker and line of the k-th of several series."""
    return COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)], LINES[k % len(LINES)]


N = frozenset({"n_images"})
BUDGET = frozenset({"budget.steps", "budget.exposures"})
# What says where and how a run was made, not what it learned, or stands in a figure of its own.
ASIDE = {
    *BYSTANDERS, "seed", "run", "name", "captions.mode", "fit.non_finite", "evaluate", "trajectory",
}  # fmt: skip
HEADLINE = "evaluate.weights"  # which weights the numbers are of
YOUNGER = {"images.duplicates": 1, "split": "none"}  # than some runs, which did as with this value
# Chosen by one word that sets others too: where these follow from it, the word says all.
CHOICES = {
    "unet.preset": {
        "unet.widths", "unet.heads", "unet.groups", "unet.cross_attention_dim",
        "unet.linear_projection", "unet.zero_init", "unet.pretrained",
    },
    "images.source": {
        "images.seed", "images.held_out", "images.near_duplicate", "images.path", "images.repo",
        "images.unreadable",
    },
    "codec.kind": {"codec.path", "codec.patch"},
    "text.encoder": {"text.path", "text.tokens"},
    "schedule.kind": {
        f"schedule.{key}" for key in (
            "beta_schedule", "beta_start", "beta_end", "steps", "zero_terminal_snr",
            "set_alpha_to_one", "steps_offset", "spacing",
        )
    },
}  # fmt: skip
# Set by another setting where nobody types them (configs/overfit.yaml).
DERIVED = {"sample.steps": "n_images", "fit.optimizer": "fit.batch"}

# What makes a network larger or smaller, and nothing else of it.
SIZE = frozenset({"unet.preset", *CHOICES["unet.preset"]} - {"unet.pretrained"})


@dataclass(frozen=True)
class Group:
    """Runs that one line may join, and how they are called and drawn in every figure."""

    words: str
    variant: str  # the part of `words` that names settings; empty where the runs differ in none
    mode: str  # of captions; the first one, where the line runs through several
    colour: str
    marker: str
    line: Line
    runs: tuple[Finished, ...]

    @property
    def asked(self) -> str:
        return asked(self.mode)

    @property
    def under(self) -> str:
        """With what they are asked for."""
        return f"{self.words}, under {CONDITIONS[self.asked]}"


def asked(mode: str) -> str:
    """The condition that shows what training on such captions made of the network."""
    return "captions" if mode == "own" else "unseen"


def settings(run: Finished) -> dict[str, Any]:
    """What may part a run from others, in the order of config.yaml."""
    every = run.config | {"n_images": run.n}
    every |= {key: value for key, value in YOUNGER.items() if key not in every}
    return {
        key: "/".join(map(str, value)) if isinstance(value, list) else value
        for key, value in every.items()
        if key == HEADLINE or not {key, key.split(".")[0]} & ASIDE
    }


def varied(runs: Sequence[Finished], along: frozenset[str] = N) -> list[str]:
    """The settings in which the runs differ, but for `along` and what follows from another."""
    every = [settings(run) for run in runs]
    keys = [key for key in dict.fromkeys(k for one in every for k in one) if _differ(every, key)]
    return [
        key
        for key in keys
        if key not in along
        and not (key in DERIVED and _follows(every, key, DERIVED[key]))
        and not any(
            key in CHOICES[head] and head not in along and _follows(every, key, head)
            for head in CHOICES
        )
    ]


def _differ(every: Sequence[dict[str, Any]], key: str) -> bool:
    # A run of an older version has no say in what came later.
    return len({one[key] for one in every if key in one}) > 1


def _follows(every: Sequence[dict[str, Any]], key: str, head: str) -> bool:
    pairs = {(one.get(head), one.get(key)) for one in every}
    return len(pairs) == len({chosen for chosen, _ in pairs})


def groups(runs: Sequence[Finished], along: frozenset[str] = N) -> list[Group]:
    """The runs by captions mode and by the settings that vary, but for those `along` an axis.

    Colours tell settings apart, lines the captions modes (or the settings, in a single mode), and
    every group has its own marker. Where no setting varies, each mode has a look of its own.
    """
    for run in runs:
        if run.captions not in MODES:
            raise ValueError(f"{run.path} cannot be drawn (captions_mode {run.captions!r}): {CURE}")
    keys = varied(runs, along)
    if "n_images" not in {*along, *keys}:
        keys.insert(0, "n_images")  # where a line is at one n, it says which
    values = [tuple(settings(run).get(key) for key in keys) for run in runs]
    modes = [mode for mode in MODES if any(run.captions == mode for run in runs)]
    if "captions.mode" in along:
        modes = modes[:1]
    variants = in_order(keys, set(values), runs)
    found: list[Group] = []
    for mode in modes:
        for number, variant in enumerate(variants):
            mine = tuple(
                run
                for run, value in zip(runs, values, strict=True)
                if value == variant and (run.captions == mode or "captions.mode" in along)
            )
            if mine:
                words = _words(keys, variant, variants)
                name, colour, marker, line = MODES[mode]
                named = len(modes) > 1 or (len(variants) == 1 and "captions.mode" not in along)
                told = ", ".join(w for w in (name if named else "", words) if w)
                if len(variants) > 1:
                    colour, _, counted = look(number)
                    _, marker, _ = look(len(found))
                    line = line if len(modes) > 1 else counted
                found.append(Group(told, words, mode, colour, marker, line, mine))
    return found


def in_order(
    keys: Sequence[str], variants: set[tuple[Any, ...]], runs: Sequence[Finished]
) -> list[tuple[Any, ...]]:
    """Values of these settings: none first, numbers by size, names by the size of the network."""

    def rank(key: str, value: Any) -> tuple[int, float, str]:
        if value is None:
            return 0, 0, ""
        if isinstance(value, int | float):
            return 1, value, ""
        return 2, least[key, value], str(value)

    least: dict[tuple[str, Any], float] = {}
    for run in runs:
        size = float(run.measures.get("parameters") or 0)
        for key, value in settings(run).items():
            least[key, value] = min(size, least.get((key, value), size))
    return sorted(variants, key=lambda v: [rank(k, x) for k, x in zip(keys, v, strict=True)])


def _words(
    keys: Sequence[str], variant: tuple[Any, ...], variants: Sequence[tuple[Any, ...]]
) -> str:
    among = zip(*variants, strict=True)
    told = [said(*one) for one in zip(keys, variant, map(set, among), strict=True)]
    return ", ".join(words for words in told if words)
