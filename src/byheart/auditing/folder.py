"""The folder of an audit: whose it is, and that outputs of two commands are not mixed in it."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub.constants import HF_HUB_CACHE

from byheart.auditing.arguments import flag
from byheart.runtime.files import check_writable, write_json
from byheart.runtime.lock import locked

RECORD, LOCK = "settings.json", ".audit.lock"
# Not in the record: the outputs do not follow from them, and may be judged by others later. By
# which they were stands in measures.json, in `command`.
JUDGED_BY = {
    "held_out", "size", "whole", "gap", "cycles", "descriptor", "device", "fail_above", "out",
}  # fmt: skip
WEIGHTS = (".safetensors", ".bin", ".pt", ".ckpt")
SETTINGS = ("model_index.json", "scheduler_config.json", "config.json", "config.yaml")


@contextmanager
def claimed(folder: Path, typed: Namespace) -> Iterator[Callable[[str], None]]:
    """The folder is ours while this lasts. What is given back is called with the fingerprint of the
    questions once all is known to be in order; only then anything is written.

    ValueError: a folder that cannot be written to, lies inside one that is read, holds other
    outputs or something else, or that another process works in.
    """
    try:
        check_writable(folder)
    except ValueError as error:
        reason = str(error).split(": type")[0]
        raise ValueError(f"--out {folder}: {reason}: type --out <another folder>") from None
    here = folder.resolve()
    for name in ("train", "outputs", "held_out"):
        path = getattr(typed, name)
        if path and (there := Path(path).resolve()) in (here, *here.parents):
            raise ValueError(
                f"--out {folder} lies inside {flag(name)} {there}: the next audit "
                "would read its pictures; type --out <another folder>"
            )
    if folder.is_dir() and not (folder / RECORD).exists():
        strange = sorted({file.name for file in folder.iterdir()} - {".cache", LOCK})
        if strange:
            raise ValueError(
                f"--out {folder} holds {strange[0]} and no audit: type --out <a new folder>"
            )
    with ExitStack() as stack:

        def record(questions: str) -> None:
            made_by = {name: v for name, v in vars(typed).items() if name not in JUDGED_BY}
            settings = made_by | {"questions": questions, "model": _stamp(typed)}
            _check_same(folder, settings)
            try:
                stack.enter_context(locked(folder / LOCK, "type --out <a folder on a local disk>"))
            except TimeoutError:
                raise ValueError(f"another audit works in {folder}: wait, or type --out") from None
            write_json(folder / RECORD, settings)

        yield record


def _check_same(folder: Path, settings: dict[str, Any]) -> None:
    file = folder / RECORD
    if not file.exists():
        return
    try:
        old = dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, OSError, TypeError) as error:
        raise ValueError(f"{file} cannot be read; type --out <a new folder>") from error
    words = {"model": "the model's files", "questions": "the prompts and noises"}
    differing = [
        f"{words[name]} have changed" if name in words
        else f"{name} is {old.get(name)!r} there, {value!r} here"
        for name, value in settings.items()
        if old.get(name) != value
    ]  # fmt: skip
    if differing:
        raise ValueError(
            f"{folder} holds an audit by another command ({'; '.join(differing)}): type --out <a "
            "new folder>, or that command, in which --held-out, --size and --fail-above may differ"
        )


def _stamp(typed: Namespace) -> list[str]:
    """Names, sizes and times of the files of a local model, and the commit of a hub id: what a path
    leads to may change, and outputs of two models must not be mixed."""
    stamps = []
    for path in filter(None, (typed.pipeline, typed.lora)):
        where = Path(path)
        # Of a hub id the commit, as the cache knows it once it was opened.
        commit = Path(HF_HUB_CACHE) / f"models--{path.replace('/', '--')}" / "refs" / "main"
        if not where.exists() and commit.is_file():
            stamps.append(f"{path}:{commit.read_text(encoding='utf-8').strip()}")
        for file in sorted(where.rglob("*")) if where.is_dir() else [where] * where.exists():
            name = file.relative_to(where) if where.is_dir() else Path(file.name)
            if name.parts[0] == "checkpoints":  # of a run of ours, which nobody asks
                continue
            if file.suffix in WEIGHTS or file.name in SETTINGS:
                seen = file.stat()
                stamps.append(f"{name.as_posix()}:{seen.st_size}:{seen.st_mtime_ns}")
    return stamps


def same_folders(typed: Namespace) -> list[str]:
    """What is to be said of folders that are one; ValueError: where nothing could be concluded."""
    paths = {
        name: Path(value).resolve()
        for name in ("train", "outputs", "held_out")
        if (value := getattr(typed, name))
    }
    for one, other in (("train", "outputs"), ("train", "held_out"), ("outputs", "held_out")):
        a, b = paths.get(one), paths.get(other)
        if a is None or b is None:
            continue
        names = f"{flag(one)} and {flag(other)}"
        if a == b and other == "held_out":
            raise ValueError(
                f"{names} are one folder: held-out pictures are of the same kind, but never were "
                "trained on" + ("" if one == "train" else ", and no outputs")
            )
        if a != b and (a in b.parents or b in a.parents):
            raise ValueError(f"{names}: one lies inside the other: move it out")
    if paths["train"] == paths.get("outputs"):
        return ["The outputs and the training pictures are one and the same folder: every picture "
                "was compared with itself."]  # fmt: skip
    return []
