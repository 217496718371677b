"""From the command line to a checked configuration: one helpful line for every mistake."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from byheart.checks import read
from byheart.config import Config, declare, in_range, settings
from byheart.elsewhere import check_launcher
from byheart.outcome import MISTAKES, USER_MISTAKE, Outcome, mistake
from byheart.ranks import settled, wait_for_all
from byheart.sweeping import sweep

SWEEP = {"-m", "--multirun"}
INTERRUPTED = 130  # exit code
# Of Hydra's own flags those for developers; whoever types one knows what the rest must look like.
INSPECT = ("-c", "--cfg", "-i", "--info", "-p", "--package", "--resolve", "--hydra-help")
KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "list[int]": "a list of whole numbers, such as [1,2]",
    "list[float]": "a list of numbers, such as [0.9,0.95]",
}


def run_command(task: Callable[[Config], str], configs: Path) -> int:
    """Compose the configuration from `configs` and sys.argv, then do the task. The exit code.

    A user's mistake is a ValueError: one line on standard error, exit code 2, no traceback.
    BYHEART_TRACEBACK=1 shows where it came from. In a sweep (-m) a run that fails, for whatever
    reason, is named at once, the others go on, and a table at the end says which is which; the
    exit code is then 2 after a user's mistake and 1 after any other failure.
    """
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(help_text(configs))
        return 0
    # Hydra would print its own many lines and exit with 1: let it raise instead.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    declare()
    # Hydra wants -m before the first setting; people type it anywhere.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: word not in SWEEP)
    words = [word for word in sys.argv[1:] if word not in SWEEP]
    several = len(words) < len(sys.argv[1:]) and not _inspects(words)
    first = os.environ.get("RANK", "0") == "0"
    outcomes: list[Outcome] = []
    codes = {0}

    def tell(said: str | None) -> None:
        if said:
            print(f"byheart: {said}", file=sys.stderr, flush=True)

    def mistaken(error: Exception) -> None:
        words = mistake(error)
        if words is None or os.environ.get("BYHEART_TRACEBACK"):
            raise error
        tell(settled(words, USER_MISTAKE))
        codes.add(USER_MISTAKE)

    @hydra.main(config_path=str(configs), config_name="overfit", version_base="1.3")
    def composed(config: DictConfig) -> None:
        try:
            task(read(config))
        except Exception as error:
            # Told here, since Hydra adds a line of its own to what it sees.
            mistaken(error)

    try:
        check(sys.argv[1:], configs)
        if several:
            outcomes = sweep(task, configs, words, tell)
        else:
            composed()
    except MISTAKES as error:
        mistaken(error)
    except KeyboardInterrupt as stop:
        tell((str(stop) or "stopped") if first else None)
        return getattr(stop, "code", INTERRUPTED)
    if outcomes and first:
        width = max(len(outcome.run) for outcome in outcomes)
        table = [f"{outcome.run:{width}}  {outcome.cell}" for outcome in outcomes]
        print("\n".join(table), flush=True)
    if outcomes:
        wait_for_all()  # a launcher ends whoever is still drawing when another has failed
    return max(codes | {outcome.code for outcome in outcomes})


def _inspects(words: list[str]) -> bool:
    return any(word.split("=")[0] in INSPECT for word in words)


def check(words: list[str], configs: Path) -> None:
    """Refuse what cannot be meant, before Hydra composes anything. ValueError: the first of it.

    Hydra ignores an unknown choice of an optional group, takes a new key with a plus, and words
    its other refusals for whoever wrote the configuration.
    """
    flags = [word for word in words if word.startswith("-")]
    if _inspects(flags):
        return
    for flag in flags:
        if flag not in SWEEP:
            bare = flag.lstrip("-")
            hint = f"type {bare}" if bare.partition("=")[0] in settings() else "try --help"
            raise ValueError(f"{flag}: there is no such flag; a setting has no dashes: {hint}")
    for word in words:
        if word not in flags:
            _check_word(word, configs, bool(flags))


def _check_word(word: str, configs: Path, sweep: bool) -> None:
    try:
        typed = OverridesParser.create().parse_override(word)
        key = typed.key_or_group
    except HydraException:
        key = ""
    if not key:
        raise ValueError(
            f"{word!r} cannot be read as setting=value; put text with signs in it between "
            "quotes, twice: \"captions.shared='a, b'\""
        )
    if key == "hydra/launcher":
        check_launcher(word, str(typed.value()), sweep)
    if key.startswith(("hydra.", "hydra/")):
        return
    groups = {folder.name: folder for folder in configs.iterdir() if folder.is_dir()}
    known = settings()
    if key not in known and key not in groups:
        raise ValueError(_unknown(key, [*known, *groups]))
    if word.startswith(("+", "~")) or typed.package is not None:
        raise ValueError(f"{word}: {key} is there already and stays: type {key}=<value>")
    if not typed.is_sweep_override():
        _check_value(key, typed.value(), groups)
        if key == "cluster" and typed.value() is not None:
            preset = (groups[key] / f"{typed.value()}.yaml").read_text("utf-8")
            check_launcher(word, re.findall(r"/hydra/launcher: (\w+)", preset)[0], sweep)
    elif key == "cluster":
        raise ValueError(f"{word}: a sweep runs in one place: type one of them")
    elif not sweep:
        raise ValueError(
            f"{word}: several values are a sweep: add -m; text with a comma in it needs quotes, "
            "twice: \"captions.shared='a, b'\""
        )
    elif isinstance(typed.value(), ChoiceSweep):
        for choice in typed.sweep_string_iterator():
            _check_word(f"{key}={choice}", configs, sweep)


def _check_value(key: str, value: Any, groups: dict[str, Path]) -> None:
    shown = "null" if value is None else value
    if key in groups:
        choices = sorted(file.stem for file in groups[key].glob("*.yaml"))
        # Of the others each decides settings that nothing else does.
        if value not in choices and (value is not None or key not in ("experiment", "cluster")):
            raise ValueError(f"{key}={shown}: allowed is {' | '.join(choices)}")
        return
    item = settings()[key]
    kind, _, null = str(item.type).partition(" | ")
    section, _, last = key.rpartition(".")
    try:
        node = OmegaConf.structured(get_type_hints(Config).get(section, Config))
        node[last] = value
        fits = OmegaConf.is_interpolation(node, last) or in_range(item, node[last])
    except OmegaConfBaseException:
        fits = False
    if not fits:
        limit = item.metadata.get("allowed")
        said = [KINDS[kind]] if kind != "str" or not limit else []
        said += ([limit] if limit else []) + (["or null"] if null else [])
        raise ValueError(f"{key}={shown}: allowed is {', '.join(said)}")


def _unknown(key: str, known: list[str]) -> str:
    """The mistyped key and the nearest right ones."""
    inner = [k for k in known if k.startswith(f"{key}.")]
    # A right last part in the wrong place: lr -> fit.lr.
    ends = [k for k in known if k.split(".")[-1] == key.split(".")[-1]]
    near = inner[:3] or ends or difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"{key}: there is no such setting{hint} (python train/overfit.py --help lists all)"


def help_text(configs: Path) -> str:
    """Every setting and every preset, from the comments of the YAML files that decide them."""
    out = [
        "Train a Stable-Diffusion-shaped UNet on a few images, ask it for unseen prompts, and",
        "measure whether it gives its training images back.",
        "",
        "  accelerate launch train/overfit.py n_images=1",
        "  accelerate launch train/overfit.py n_images=10 images=photos",
        "",
        "Settings (type key=value):",
    ]
    out += [f"  {line}" for line in _settings((configs / "overfit.yaml").read_text("utf-8"), "")]
    for group in sorted(p for p in configs.iterdir() if p.is_dir()):
        out += ["", f"{group.name}= (type {group.name}=<one of these>):"]
        files = sorted(group.glob("*.yaml"))
        for file in files:
            lines = file.read_text("utf-8").splitlines()
            summary = next(x for x in lines if x.startswith("#") and "@package" not in x)
            out.append(f"  {summary.removeprefix('# ')}")
        texts = [
            text for file in files if "/hydra/launcher" not in (text := file.read_text("utf-8"))
        ]
        explained = max((_settings(text, group.name + ".") for text in texts), key=len, default=[])
        out += [f"    {line}" for line in explained]
    return "\n".join(out)


def _settings(yaml: str, prefix: str) -> list[str]:
    """'key = value   comment' for every commented value of a YAML file."""
    lines, section = [], ""
    for line in yaml.splitlines():
        found = re.match(r"( *)(\w+): *(.*?)(?: +# (.*))?$", line)
        if not found or line.startswith(("#", "defaults")):
            continue
        indent, key, value, comment = found.groups()
        if not indent:
            section = "" if value else f"{key}."
        if comment:
            name = f"{prefix}{section if indent else ''}{key}"
            lines.append(f"{name}={value}".ljust(33) + " " + comment)
    return lines
