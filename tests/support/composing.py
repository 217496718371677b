"""Configurations as the command line makes them, each composed once: Hydra takes its time."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from byheart.config import Config, declare, read, validate

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@functools.cache
def tree(*typed: str) -> DictConfig:
    """What Hydra makes of the words; not to be changed."""
    declare()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("overfit", [*typed])


def composed(*typed: str, root: Path | str = "outputs", **changes: Any) -> Config:
    """A configuration of one's own, as if the words were typed.

    changes: set after that, `fit__lr=0.5` for fit.lr; what follows from them stays as it was.
    """
    config = copy.deepcopy(_read(*typed))
    config.root = str(root)
    config.threads = 1  # timed in a process that others share, what pays would be chance
    for name, value in changes.items():
        *sections, last = name.split("__")
        section = functools.reduce(getattr, sections, config)
        assert hasattr(section, last)
        setattr(section, last, value)
    validate(config)
    return config


@functools.cache
def _read(*typed: str) -> Config:
    return read(tree(*typed))
