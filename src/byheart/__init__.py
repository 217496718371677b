"""byheart: show, and measure, when a diffusion model knows its training images by heart."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # On demand: `byheart ledger` and the drawing of pages do without torch.
    if name == "audit":
        from byheart.auditing.audit import audit

        return audit
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
