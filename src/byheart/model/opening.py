"""Before a stranger's model is opened: that no code of its own runs, and which files are taken."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import diffusers
from huggingface_hub import constants

from byheart.data.hub import folder_or_hub, not_fetched
from byheart.model.painting import Asking, first_words

LIBRARIES = {"diffusers", "transformers"}
PICKLED = {".bin", ".pt", ".ckpt"}


def check_parts(config: dict[str, Any], where: str) -> None:
    """ValueError: model_index.json names a part outside diffusers and transformers. diffusers would
    import that module from anywhere, the folder that byheart is started in included."""
    if not isinstance(config.get("_class_name"), str):
        raise ValueError("its model_index.json names a pipeline of its own, and no code is run")
    for part, named in config.items():
        if part.startswith("_") or not isinstance(named, list | tuple):
            continue
        library = named[0] if named else None
        if library is None:
            continue
        known = isinstance(library, str) and library.isidentifier()
        if not known or not (library in LIBRARIES or hasattr(diffusers.pipelines, library)):
            raise ValueError(
                f"its model_index.json takes {part} from {library!r}: parts of diffusers and "
                "transformers are opened, and no other code is run"
            )
        if (code := Path(where) / part / f"{library}.py").exists():
            raise ValueError(f"it brings code ({code}), and none is run")


def absent(config: dict[str, Any]) -> list[str]:
    """The further text encoders that model_index.json says the pipeline goes without. What no
    pipeline goes without is left to diffusers, which refuses it."""
    further = re.compile(r"(text_encoder|tokenizer)_\d")
    return [
        part for part, named in config.items()
        if further.fullmatch(part) and named in ([None, None], (None, None))
    ]  # fmt: skip


def variants(where: str) -> list[str | None]:
    """Which sets of weights are tried: some models are there in half precision alone."""
    halved = not Path(where).is_dir() or any(Path(where).rglob("*.fp16.safetensors"))
    return [None, "fp16"] if halved else [None]


def lora_file(lora: str, asking: Asking) -> tuple[str, str | None]:
    """Folder (or hub id) and name of the one file that is meant; None: whatever the hub has.

    ValueError: a folder with none or several, or a pickle without --allow-pickle.
    """
    path = Path(lora)
    if path.is_file():
        if path.suffix != ".safetensors" and not asking.allow_pickle:
            raise ValueError(
                f"--lora {lora} is no safetensors file: convert it, or, if you trust who made it, "
                "add --allow-pickle"
            )
        return str(path.parent), path.name
    where = folder_or_hub(lora, "--lora")
    if not path.is_dir():
        return where, None
    names = sorted(file.name for file in path.glob("*.safetensors"))
    if not names and asking.allow_pickle:
        names = sorted(file.name for file in path.iterdir() if file.suffix in PICKLED)
    if len(names) == 1:
        return where, names[0]
    if names:
        shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        raise ValueError(f"--lora {lora} holds {len(names)} files ({shown}): type the path of one")
    words = f"--lora {lora} holds no safetensors file"
    if any(file.suffix in PICKLED for file in path.iterdir()):
        words += ": convert what is there, or, if you trust who made it, add --allow-pickle"
    raise ValueError(words)


def why(error: BaseException, where: str, asking: Asking) -> str:
    """What went wrong, and whether --allow-pickle is a way out of it."""
    if reason := not_fetched(error):
        return reason
    words = first_words(error)
    if asking.allow_pickle:
        return words
    if not Path(where).is_dir() and constants.HF_HUB_OFFLINE:
        return f"{words}: HF_HUB_OFFLINE forbids to fetch what is missing: unset that"
    if Path(where).is_dir():
        pickled = any(file.suffix in PICKLED for file in Path(where).rglob("*"))
    else:  # of a hub id only what diffusers says is known
        pickled = "safetensors" in words and any(
            end in words for end in (*PICKLED, "find", "found")
        )
    if pickled and any(word in words for word in ("safetensors", *PICKLED)):
        return (
            f"{words}: only safetensors are read; convert it, or, if you trust who made it, add "
            "--allow-pickle"
        )
    return words
