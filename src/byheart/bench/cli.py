"""The arguments of `byheart bench`. torch is needed only once it runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

PARTS = ("startup", "training", "breakdown", "memory", "sampling", "measuring", "memorize",
         "audit", "baseline")  # fmt: skip


def add_parser(commands: Any) -> None:
    command = commands.add_parser(
        "bench",
        help="how fast this machine trains, samples and measures",
        description="Measure, print and write outputs/bench/<device>.json: training against the "
        "bare step and the machine's peak, sampling, measuring, and the time until one image is "
        "known by heart. Some minutes on two cores, and with the baseline ten times as long.",
        allow_abbrev=False,
    )
    command.add_argument("settings", nargs="*", help="as for train/overfit.py, such as unet=sd15")
    command.add_argument(
        "--only",
        nargs="+",
        choices=PARTS,
        default=["startup", "training", "breakdown", "sampling", "measuring", "memorize"],
        metavar="PART",
        help="startup | training | breakdown | memory, of GPUs | sampling | measuring | "
        "memorize | audit, of thousands of pictures | baseline, the recipe of the widely used "
        "trainers; all but memory and the last two where nothing is typed",
    )
    command.add_argument("--out", default="outputs/bench", help="folder to write to")
    command.set_defaults(do=_bench)


def _bench(typed: argparse.Namespace) -> None:
    from byheart.bench.run import run_bench

    print(run_bench(typed.settings, Path(typed.out), typed.only))
