"""A run of seconds, typed as a user types it: real processes, real files."""

from __future__ import annotations

import importlib.util
import io
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[2]
STORY = ROOT / "train" / "overfit.py"
SMALL = [
    "images=photos", "images.size=16", "codec.patch=2", "text=hash", "text.tokens=4",
    "unet.widths=[8,8,16,16]", "unet.heads=[1,1,1,1]", "unet.groups=4", "fit.batch=4",
    "budget.steps=12", "checkpoint.every=4", "evaluate.prompts=3", "evaluate.noises=2",
    "evaluate.noises_alone=2", "sample.steps=3", "live.every=0", "trajectory.outputs=2",
    "trajectory.points=3", "trajectory.share=1", "evaluate.weights=both", "threads=1",
]  # fmt: skip


def story() -> Any:
    """train/overfit.py as a module, to be called in this process."""
    spec = importlib.util.spec_from_file_location("overfit_story", STORY)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def type_here(task: Callable[..., Any], *words: object, **environment: str) -> tuple[int, str]:
    """As if the words were typed behind train/overfit.py, but in this process and with this task:
    the exit code and what stands on standard error."""
    from byheart.runtime.command import CONFIGS, run_command

    typed = patch.object(sys, "argv", ["train/overfit.py", *map(str, words)])
    there = {"RANK": "0", "BYHEART_TRACEBACK": "", **environment}
    with typed, patch.dict(os.environ, there), redirect_stderr(io.StringIO()) as error:
        code = run_command(task, CONFIGS)
    return code, error.getvalue()


def typed(program: Sequence[object], *overrides: str) -> subprocess.CompletedProcess[str]:
    """The small run with these settings, to its end."""
    command = [*map(str, program), *SMALL, *overrides]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
