"""Opening somebody's model folder or hub id: safetensors only, offline unless a hub id is given."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffusers.utils import logging as of_diffusers
from huggingface_hub import constants
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)
from safetensors import SafetensorError
from transformers.utils import logging as of_transformers

from byheart.runtime.errors import short

# Where a connection fails, by the first part of the module: huggingface_hub has changed its own.
NETWORK = {"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3"}


@contextmanager
def quiet_loading() -> Iterator[None]:
    """No bar for reading a file into memory; one for what comes from the hub stays. Afterwards the
    libraries show what they showed before."""
    loading = of_diffusers.is_progress_bar_enabled(), of_transformers.is_progress_bar_enabled()
    from_hub = not are_progress_bars_disabled()
    with warnings.catch_warnings():
        # Of bars that the user's environment has decided on.
        warnings.filterwarnings("ignore", "Cannot (dis|en)able progress bars")
        # diffusers passes on what huggingface_hub no longer reads; nobody here can mend it.
        warnings.filterwarnings("ignore", "The `local_dir_use_symlinks` argument")
        try:
            of_diffusers.disable_progress_bar()
            of_transformers.disable_progress_bar()  # those of huggingface_hub as well
            if from_hub:
                enable_progress_bars()
            yield
        finally:
            if loading[0]:
                of_diffusers.enable_progress_bar()
            if loading[1]:
                of_transformers.enable_progress_bar()
            (enable_progress_bars if from_hub else disable_progress_bars)()


def folder_or_hub(path: str, setting: str) -> str:
    """`path` if it is a folder or looks like a hub id `owner/name`. ValueError otherwise."""
    if path and Path(path).is_dir():
        return path
    if path and Path(path).exists():
        raise ValueError(f"{setting}={path} is a file; a model folder or hub id is needed")
    if path.count("/") != 1 or path.startswith(("/", ".", "~")):
        raise ValueError(
            f"{setting}={path}: no such folder, and not a hub id of the form owner/name"
        )
    return path


def from_pretrained(cls: Any, path: str, part: str, **options: Any) -> Any:
    """`cls.from_pretrained`, from a pipeline's `part` or from the part's own folder.

    ValueError: nothing readable there, no safetensors, or a hub id without a network.
    """
    if not Path(path).is_dir() or (Path(path) / part).is_dir():  # a hub id is a pipeline's
        options["subfolder"] = part
    try:
        with quiet_loading():
            return cls.from_pretrained(path, **options)
    except (OSError, HFValidationError, SafetensorError) as error:
        if reason := not_fetched(error):
            raise ValueError(f"{path}: its {part} is not on this machine, and {reason}") from error
        raise ValueError(f"{path}: cannot read its {part} ({short(error)})") from error


def not_fetched(error: BaseException) -> str:
    """Why nothing came from the hub, where that is what went wrong, else nothing."""
    links = _behind(error)
    failed = [
        link for link in links
        if isinstance(link, ConnectionError | TimeoutError)
        or type(link).__module__.split(".")[0] in NETWORK
    ]  # fmt: skip
    if not failed and not any(isinstance(link, LocalEntryNotFoundError) for link in links):
        return ""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE forbids to fetch it: unset that, or type the path of a folder"
    cause = short((failed or links)[-1])
    return f"the hub cannot be reached ({cause}): type the path of a folder"


def _behind(error: BaseException) -> list[BaseException]:
    """An error and all that it was raised from or while handling."""
    found: list[BaseException] = []
    waiting = [error]
    while waiting:
        link = waiting.pop()
        if link not in found:
            found.append(link)
            waiting += [one for one in (link.__context__, link.__cause__) if one is not None]
    return found


def weights_from_pretrained(cls: Any, path: str, part: str) -> Any:
    """As `from_pretrained`, for a model: safetensors only, nothing is ever unpickled."""
    return from_pretrained(cls, path, part, use_safetensors=True)
