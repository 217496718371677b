"""What is said and kept while a run learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from support.composing import composed

from byheart.config import Config
from byheart.experiment.log import RunLog
from byheart.model import checkpoint
from byheart.model.fit import State, start
from byheart.model.unet import build_unet
from byheart.runtime.files import locate

NARROW = ["unet.widths=[8,8,8,8]", "unet.heads=[1,1,1,1]", "unet.groups=4", "budget.steps=4"]


def fresh(config: Config) -> State:
    return start(build_unet(config.unet, 12, 8, 16, config.seed), config)


@pytest.mark.parametrize(("asked", "used"), [("auto", 3), (2, 2)])
def test_a_run_goes_on_with_the_threads_it_began_with_unless_others_are_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: int | str, used: int
) -> None:
    """Another number would round otherwise, and the run end with other bytes."""
    config = composed(*NARROW, root=tmp_path, threads=asked)
    run, before = locate(config), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        checkpoint.save(run.file("checkpoints"), fresh(config), keep=1, final=False)
        torch.set_num_threads(2)
        log = RunLog(run, config, Accelerator(cpu=True), None)
        log.resume(fresh(config))
        assert torch.get_num_threads() == used
    finally:
        torch.set_num_threads(before)
