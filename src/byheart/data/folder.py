"""The user's own pictures: a folder of files, or a data set of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from byheart.data.captions import CAPTION_COLUMNS, display_name, folder_captions, one_line
from byheart.data.decode import picture_suffixes, read_square
from byheart.data.sources import SMALL, Pictures
from byheart.runtime.errors import short

# Endings of pictures that `read_square` does not read. Named as unreadable, since whoever puts a
# telephone's pictures into a folder expects them to count.
OTHER_PICTURES = frozenset({".heic", ".heif", ".jxl"})


def folder(
    path: str | None,
    size: int,
    unreadable: str,
    setting: str = "images.path",
    captioned: Callable[[Path, dict[str, Path]], dict[str, str]] = folder_captions,
) -> Pictures:
    """The pictures below a folder, by relative path, with their captions.

    setting: what the user typed the path behind. captioned: finds the captions.

    What is hidden or is no picture by its ending is passed over. A picture that cannot be read is
    refused or, with unreadable="skip", left out and listed.

    ValueError: no such folder, nothing in it, a picture that cannot be read, a bad caption table.
    """
    if not path:
        raise ValueError("images=folder needs a folder: type images.path=/path/to/pictures")
    root = Path(path).expanduser()
    if not root.exists():
        raise ValueError(f"{setting}={path} does not exist: type the path of a folder")
    if not root.is_dir():
        raise ValueError(f"{setting}={path} is a file: type {setting}={root.parent}")
    files = _picture_files(root)
    if not files:
        raise ValueError(
            f"{setting}={path} holds no pictures: type a folder with png, jpg, webp, ... files"
        )
    captions = captioned(root, files)
    names = list(files)
    return _gather(
        f"{setting}={path}",
        names,
        [captions[name] for name in names],
        lambda index: files[names[index]],
        size,
        unreadable,
    )


def _picture_files(root: Path) -> dict[str, Path]:
    """Path of each picture by its name, in the order of names."""
    endings = picture_suffixes() | OTHER_PICTURES
    # Not is_file(): a link to a picture that is gone has to be named as unreadable.
    below = (file.relative_to(root) for file in root.rglob("*") if not file.is_dir())
    shown = (
        relative
        for relative in below
        if relative.suffix.lower() in endings
        and not any(part.startswith(".") for part in relative.parts)  # ._x.jpg, .thumbnails/
    )
    named = {display_name(relative): root / relative for relative in shown}
    return dict(sorted(named.items()))


def hub(repo: str | None, size: int, unreadable: str) -> Pictures:
    """The split `train` of a data set: a hub id, or a folder that `datasets` understands.

    Pictures are the first column of type Image, in the order of rows; captions the column text or
    caption, else the row's number. No code from the data set is run.

    ValueError: `datasets` is missing, the data set cannot be loaded, holds no pictures, or some
    that cannot be read.
    """
    if not repo:
        raise ValueError("images=hub needs a data set: type images.repo=owner/name")
    rows, pixels, words = _load(repo)

    def read(index: int) -> Path | bytes:
        picture = rows[index][pixels] or {}
        if picture.get("bytes") is not None:
            return picture["bytes"]
        if picture.get("path"):
            return Path(picture["path"])
        raise ValueError("no picture in this row")

    names = [f"row {index}" for index in range(len(rows))]
    written = rows[words] if words else [None] * len(rows)
    captions = [
        (one_line(text) if isinstance(text, str) else "") or str(index)
        for index, text in enumerate(written)
    ]
    return _gather(f"images.repo={repo}", names, captions, read, size, unreadable)


def _load(repo: str) -> tuple[Any, str, str | None]:
    """The rows, with pictures as files' bytes, and the names of the columns for pictures and
    captions."""
    try:
        import datasets
    except ImportError:
        raise ValueError("images=hub needs the hub extra: pip install -e '.[hub]'") from None
    try:
        rows = datasets.load_dataset(repo, split="train")
    except Exception as error:  # hub, network, file system and builders each have their own
        raise ValueError(
            f"images.repo={repo} cannot be loaded: {short(error)}: "
            "type a hub id or a folder with a split named train"
        ) from error
    pixels = next(
        (k for k, kind in rows.features.items() if isinstance(kind, datasets.Image)), None
    )
    if pixels is None:
        columns = ", ".join(rows.features)
        raise ValueError(f"images.repo={repo} has no column of type Image, only {columns}")
    if len(rows) == 0:
        raise ValueError(f"images.repo={repo} has no rows: type another data set")
    words = next((column for column in CAPTION_COLUMNS if column in rows.features), None)
    # Undecoded: pictures take the same way to pixels whatever source they come from.
    return rows.cast_column(pixels, datasets.Image(decode=False)), pixels, words


def _gather(
    setting: str,
    names: Sequence[str],
    captions: Sequence[str],
    source: Callable[[int], Path | bytes],
    size: int,
    unreadable: str,
) -> Pictures:
    """Pictures from files or bytes, each decoded and reduced before the next is opened."""
    small: list[UInt8[np.ndarray, "64 64 3"]] = []
    kept: list[int] = []
    lost: list[str] = []
    for index, name in enumerate(tqdm(names, "read", unit="picture", leave=False, disable=None)):
        try:
            small.append(read_square(_known(source(index)), SMALL))
            kept.append(index)
        except ValueError as error:
            lost.append(f"{name}: {error}")
    if lost and (unreadable == "refuse" or not kept):
        shown = "; ".join(lost[:5]) + (f"; and {len(lost) - 5} more" if len(lost) > 5 else "")
        cure = "remove or replace them" + (", or type images.unreadable=skip" if kept else "")
        raise ValueError(
            f"{setting}: {len(lost)} of {len(names)} pictures cannot be read ({shown}): {cure}"
        )
    return Pictures(
        tuple(names[index] for index in kept),
        tuple(captions[index] for index in kept),
        np.stack(small),
        lambda position: read_square(_known(source(kept[position])), size),
        unreadable=tuple(lost),
    )


def _known(data: Path | bytes) -> Path | bytes:
    if isinstance(data, Path) and data.suffix.lower() in OTHER_PICTURES:
        raise ValueError(f"{data.suffix} is not a format byheart reads: convert it to jpg or png")
    return data
