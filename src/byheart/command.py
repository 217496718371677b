"""From the command line to a checked configuration: one helpful line for every mistake."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from byheart.config import Config, declare, names, read

USER_MISTAKE = 2  # exit code


def run_command(task: Callable[[Config], None], configs: Path) -> int:
    """Compose the configuration from `configs` and sys.argv, then do the task. The exit code.

    A user's mistake is a ValueError: one line on standard error, exit code 2, no traceback.
    BYHEART_TRACEBACK=1 shows where it came from.
    """
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(help_text(configs))
        return 0
    # Hydra would print its own many lines and exit with 1: let it raise instead.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    declare()

    @hydra.main(config_path=str(configs), config_name="overfit", version_base="1.3")
    def composed(config: DictConfig) -> None:
        task(read(config))

    try:
        composed()
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if os.environ.get("BYHEART_TRACEBACK"):
            raise
        if os.environ.get("RANK", "0") == "0":
            print(f"byheart: {one_line(error)}", file=sys.stderr)
        return USER_MISTAKE
    return 0


def one_line(error: BaseException) -> str:
    """What came, what is allowed, what to type; from Hydra's and OmegaConf's many lines too."""
    text = str(error).strip()
    unknown = re.search(r"Key '(\w+)' (?:is not in struct|not in '(\w+)')", text)
    if unknown:
        return _unknown_key(unknown.group(1), text)
    group = re.search(
        r"Could not find '([^']+)'.*?Available options in '[^']+':\s*(.*)", text, re.S
    )
    if group:
        options = [line.strip() for line in group.group(2).splitlines()]
        options = [o for o in options if re.fullmatch(r"[\w.-]+", o)]
        name, _, choice = group.group(1).rpartition("/")
        return f"{name}={choice}: allowed is {' | '.join(options)}"
    absent = re.search(r"Could not override '([^']+)'.\s*No match in the defaults list", text)
    if absent:
        return _unknown_key(absent.group(1), text)
    where = re.search(r"full_key: (\S+)", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    cause = error.__cause__
    if first.startswith("Error merging override") and len(lines) > 1:
        first = lines[1]
    elif first.startswith("Error merging override") and cause is not None:
        first = str(cause).splitlines()[0]
    return f"{where.group(1)}: {first}" if where and where.group(1) not in first else first


def _unknown_key(key: str, text: str) -> str:
    """The mistyped key as it was typed, and the nearest right one."""
    typed = re.search(r"(?:Could not override|Error merging override) '?\+*([\w./]+)", text)
    full = typed.group(1) if typed else key
    match = difflib.get_close_matches(full, names(), n=1, cutoff=0.4)
    # A right last part in the wrong place: lr -> fit.lr.
    match = [k for k in names() if k.split(".")[-1] == full.split(".")[-1]][:1] or match
    hint = f"; did you mean {match[0]}?" if match else ""
    return f"{full}: there is no such setting{hint} (python train/overfit.py --help lists all)"


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
        explained = max((_settings(f.read_text("utf-8"), group.name + ".") for f in files), key=len)
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
            lines.append(f"{prefix}{section if indent else ''}{key}={value}".ljust(34) + comment)
    return lines
