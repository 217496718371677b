"""Variables that the libraries below read once, when they are imported. What is set stays."""

from __future__ import annotations

import os
import sys


def quiet_libraries() -> None:
    """To be called before torch and transformers are imported."""
    # A waiting OpenMP thread spins; when another program takes one of two cores, every parallel
    # section then waits out its time slice (measured: 30 times slower).
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # transformers warns of image processors that nobody here asks for.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # A model of some GB comes from the hub under a progress bar, where somebody sees it.
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
