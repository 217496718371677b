"""From the command line to a checked configuration: one helpful line for every mistake."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import make_dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from byheart.config import Config, declare, in_range, read, settings
from byheart.runtime.errors import INTERRUPTED, USER_MISTAKE, mistake, one_line, say
from byheart.runtime.files import done_already, locate
from byheart.runtime.launchers import check_launcher
from byheart.runtime.lock import finished
from byheart.runtime.sweep import Outcome, Task, sweep

CONFIGS = Path(__file__).resolve().parents[3] / "configs"  # of an installation from source

SWEEP = {"-m", "--multirun"}
# Of Hydra's own flags those for developers; whoever types one knows what the rest must look like.
INSPECT = ("-c", "--cfg", "-i", "--info", "-p", "--package", "--resolve", "--hydra-help")
TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "list[int]": "a list of whole numbers, such as [1,2]",
    "list[float]": "a list of numbers, such as [0.9,0.95]",
}


def early_answer(configs: Path) -> int | None:
    """What needs no network is answered before anything is imported that trains: --help, a mistake,
    a run that is done. The exit code; None where `run_command` has work to do."""
    typed = as_typed(sys.argv[1:])
    if {"-h", "--help"} & {*typed}:
        print(help_text(configs))
        return 0
    try:
        check(typed, configs)
        if not SWEEP & {*typed} and not _inspects(typed):
            config = composed(typed, configs)
            # Of several processes the first one looks, for all of them, and that takes torch.
            # Somebody's own pictures may have changed since; to know takes them.
            ours = config.images.source not in {"folder", "hub"}
            alone = os.environ.get("WORLD_SIZE", "1") == "1"
            if ours and alone and finished(locate(config), config):
                print(done_already(locate(config)))
                return 0
    except Exception as error:
        line = mistake(error)
        if line is None:
            return None  # to come again where it is told
        if os.environ.get("RANK", "0") == "0":
            say(line)
        return USER_MISTAKE
    return None


def run_command(
    task: Task,
    configs: Path,
    afterwards: Callable[[Sequence[Outcome]], None] = lambda outcomes: None,
) -> int:
    """Compose the configuration from `configs` and sys.argv, then do the task. The exit code.

    A user's mistake is a ValueError: one line on standard error, exit code 2, no traceback.
    BYHEART_TRACEBACK=1 shows where it came from. In a sweep (-m, typed anywhere) a run that fails,
    for whatever reason, is named at once, the others go on, and a table at the end says which is
    which; the exit code is then 2 after a user's mistake and 1 after any other failure.

    afterwards: is given all outcomes of a sweep, in the first process, before the table.
    """
    from byheart.runtime.processes import report_failure, wait_for_all  # torch

    typed = as_typed(sys.argv[1:])
    words = [word for word in typed if word not in SWEEP]
    if _inspects(words):
        declare()
        hydra.main(str(configs), "overfit", "1.3")(lambda config: None)()
        return 0
    first = os.environ.get("RANK", "0") == "0"
    try:
        check(typed, configs)
        if len(words) == len(typed):
            task(composed(words, configs))
            return 0
        outcomes = sweep(task, configs, words)
        if first:
            afterwards(outcomes)
            width = max(len(outcome.run) for outcome in outcomes)
            for outcome in outcomes:
                failed = "failed: " if outcome.code else ""
                print(f"{outcome.run:{width}}  {failed}{outcome.words}", flush=True)
        wait_for_all()  # a launcher ends whoever is still drawing when another has failed
        return max(outcome.code for outcome in outcomes)
    except KeyboardInterrupt as stop:
        if first:
            say(str(stop) or "stopped")
        return getattr(stop, "code", INTERRUPTED)
    except Exception as error:
        line = mistake(error)
        if line is None:
            raise
        report_failure(line, USER_MISTAKE)
        return USER_MISTAKE


def typed(words: Sequence[str]) -> Config:
    """The settings of another command than train/overfit.py, checked as there.

    ValueError: settings that cannot be, or a package that was installed without its configurations.
    """
    if not CONFIGS.is_dir():
        raise ValueError("settings need the source tree: install it with pip install -e .")
    words = as_typed(words)
    try:
        check(words, CONFIGS)
        return composed(words, CONFIGS)
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(one_line(error)) from error


# What Hydra reads as a number or as true and false.
NO_TEXT = re.compile(r"[+-]?(\d[\d_]*\.?[\d_]*|\.\d+)(e[+-]?\d+)?|[+-]?inf|nan|true|false", re.I)


def as_typed(words: Sequence[str]) -> list[str]:
    """Settings that are text stay as they were typed, `name=1e3` too, and `~` is the home folder,
    as it is for a shell."""
    text = {name for name, item in settings().items() if str(item.type).split(" ")[0] == "str"}
    found = []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key in text:
            value = ",".join(_quoted(part) for part in value.split(","))
        found.append(f"{key}{equals}{value}")
    return found


def _quoted(part: str) -> str:
    if part == "~" or part.startswith("~/"):
        part = os.path.expanduser(part).replace("'", r"\'")
        return f"'{part}'"
    return f"'{part}'" if NO_TEXT.fullmatch(part) else part


def composed(words: Sequence[str], configs: Path) -> Config:
    """The checked configuration of one run. ValueError, HydraException: the first thing wrong."""
    declare()
    with initialize_config_dir(str(configs), version_base="1.3"):
        return read(compose("overfit", [*words]))


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
    kind, *others = str(item.type).split(" | ")
    try:
        node = OmegaConf.structured(make_dataclass("One", [("it", item.type)]))
        node.it = value
        fits = OmegaConf.is_interpolation(node, "it") or in_range(item, node.it)
    except OmegaConfBaseException:
        fits = False
    if not fits:
        limit = item.metadata.get("allowed")
        said = [] if limit and "str" in (kind, *others) else [TYPES[kind]]
        said += ([limit] if limit else []) + (["or null"] if "None" in others else [])
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
        explained: list[str] = []
        for file in sorted(group.glob("*.yaml")):
            text = file.read_text("utf-8")
            lines = text.splitlines()
            summary = next(x for x in lines if x.startswith("#") and "@package" not in x)
            out.append(f"  {summary.removeprefix('# ')}")
            explained = max(explained, _settings(text, f"{group.name}."), key=len)
        out += [f"    {line}" for line in explained]
    return "\n".join(out)


def _settings(yaml: str, prefix: str) -> list[str]:
    """'key=value   comment' for every commented setting of a YAML file."""
    sections: list[str] = []
    lines, known = [], settings()
    for indent, key, value, comment in re.findall(r"^( *)(\w+): *(.*?)(?: +# (.*))?$", yaml, re.M):
        sections[len(indent) // 2 :] = [key]
        name = prefix + ".".join(sections)
        if comment and name in known:
            lines.append(f"{name}={value}".ljust(33) + " " + comment)
    return lines
