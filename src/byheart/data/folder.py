"""The user's own pictures: a folder of files, or a data set of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from byheart.data.captions import CAPTION_COLUMNS, folder_captions, one_line, with_names
from byheart.data.decode import Picture, opened, read_square, resize
from byheart.data.listing import OTHER_PICTURES, list_folder
from byheart.data.sources import SMALL, Pictures
from byheart.data.tiles import sheets_named, tiles_of
from byheart.runtime.errors import few, short

NAMED = 8  # files that a note names

Read = Callable[[str, Picture], list[tuple[str, UInt8[np.ndarray, "64 64 3"]]]]


def folder(
    path: str,
    size: int,
    unreadable: str,
    setting: str = "images.path",
    bad_captions: list[str] | None = None,
    read: Read | None = None,
) -> Pictures:
    """The pictures below a folder, by relative path, with their captions.

    setting: what the user typed the path behind. bad_captions: gets what is wrong with captions
    that cannot be used, and then only written ones count, no file's name; None: they are refused.
    read: makes of a file one picture or several, each with its name; None: the centred square.

    What is no picture is passed over, and said in the notes. A picture that cannot be read is
    refused or, with unreadable="skip", left out and listed.

    ValueError: no such folder, nothing in it, a picture that cannot be read, a bad caption table.
    """
    root = Path(path).expanduser()
    if not root.exists():
        raise ValueError(f"{setting}={path} does not exist: type the path of a folder")
    if not root.is_dir():
        raise ValueError(f"{setting}={path} is a file: type {setting}={root.parent}")
    listing = list_folder(root)
    if not listing.pictures:
        what = "; ".join([*listing.closed, *listing.passed_over][:NAMED])
        raise ValueError(
            f"{setting}={path} holds no pictures{f' ({what})' * bool(what)}: "
            "type a folder with png, jpg, webp, ... files"
        )
    complain = _refuse if bad_captions is None else bad_captions.append
    written, unused = folder_captions(listing, complain)
    captions, said = with_names(written) if bad_captions is None else (written, "")
    names = list(listing.pictures)
    found = _gather(
        f"{setting}={path}",
        names,
        [captions[name] for name in names],
        lambda index: listing.pictures[names[index]],
        size,
        unreadable,
        listing.closed,
        read,
    )
    passed = [*listing.passed_over, *(f"{name}: captions no picture" for name in unused)]
    notes = [said] * bool(said) + [*found.notes]
    if passed:
        rest = f"; and {len(passed) - NAMED:,} more, all in measures.json"
        notes.append(f"passed over: {'; '.join(passed[:NAMED])}{rest * (len(passed) > NAMED)}")
    notes = [f"{path}: {words}" for words in notes]
    return replace(found, notes=tuple(notes), passed_over=tuple(passed))


def _refuse(words: str) -> None:
    raise ValueError(words)


def hub(repo: str, size: int, unreadable: str) -> Pictures:
    """The split `train` of a data set: a hub id, or a folder that `datasets` understands.

    Pictures are the first column of type Image, in the order of rows; captions the first of text,
    caption, or the only column of type string, that is not blank, else the row's number. No code
    from the data set is run.

    ValueError: `datasets` is missing, the data set cannot be loaded, holds no pictures, or some
    that cannot be read.
    """
    rows, pixels, words = _load(repo)

    def read(index: int) -> Path | bytes:
        picture = rows[index][pixels] or {}
        if picture.get("bytes") is not None:
            return picture["bytes"]
        if picture.get("path"):
            return Path(picture["path"])
        raise ValueError("no picture in this row")

    names = [f"row {index}" for index in range(len(rows))]
    written = [""] * len(names)
    for column in words:
        for index, text in enumerate(rows[column]):
            written[index] = written[index] or (one_line(text) if isinstance(text, str) else "")
    captions = [text or str(index) for index, text in enumerate(written)]
    found = _gather(f"images.repo={repo}", names, captions, read, size, unreadable)
    bare = written.count("")
    said = f"captions from {' and '.join(words)}" if words else "no column of captions found"
    said += f", row numbers used for {bare:,} of {len(names):,}" * (bare > 0)
    return replace(found, notes=(f"{repo}: {said}", *found.notes))


def _load(repo: str) -> tuple[Any, str, list[str]]:
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
    types = {column: getattr(kind, "dtype", None) for column, kind in rows.features.items()}
    strings = [column for column, kind in types.items() if kind in {"string", "large_string"}]
    words = [column for column in CAPTION_COLUMNS if column in strings]
    if not words and len(strings) == 1:
        words = strings
    # Undecoded: pictures take the same way to pixels whatever source they come from.
    return rows.cast_column(pixels, datasets.Image(decode=False)), pixels, words


def _gather(
    setting: str,
    names: Sequence[str],
    captions: Sequence[str],
    source: Callable[[int], Path | bytes],
    size: int,
    unreadable: str,
    closed: Sequence[str] = (),
    read: Read | None = None,
) -> Pictures:
    """Pictures from files or bytes, each decoded and reduced before the next is opened.

    closed: "name: reason" of what could not be looked into before. read: as for `folder`.
    """
    small: list[UInt8[np.ndarray, "64 64 3"]] = []
    kept: list[int] = []  # of each picture the file
    said: list[str] = []
    lost, moving = [*closed], []
    sheets: dict[str, int] = {}  # that nobody cuts, with their tiles
    for index, name in enumerate(tqdm(names, "read", unit="picture", leave=False, disable=None)):
        try:
            data = _known(source(index))
            with opened(data) as picture:
                if read:
                    parts = read(name, picture)
                else:
                    parts = [(name, resize(picture.rgb(picture.centre), SMALL))]
                    if tiles := tiles_of(picture):
                        sheets[name] = len(tiles)
            small += [square for _, square in parts]
            said += [part for part, _ in parts]
            kept += [index] * len(parts)
            if picture.frames > 1:
                moving.append(f"{name} ({picture.frames} frames)")
        except ValueError as error:
            lost.append(f"{name}: {error}")
    if lost and (unreadable == "refuse" or not kept):
        shown = "; ".join(lost[:5]) + (f"; and {len(lost) - 5} more" if len(lost) > 5 else "")
        cure = "remove or replace them" + (", or type images.unreadable=skip" if kept else "")
        total = len(names) + len(closed)
        raise ValueError(
            f"{setting}: {len(lost)} of {total} pictures cannot be read ({shown}): {cure}"
        )
    some = few(moving, NAMED)
    notes = [f"of an animation the first frame counts: {some}"] * bool(moving)
    notes += [f"one picture each, though sheets of tiles: {sheets_named(sheets)}"] * bool(sheets)
    return Pictures(
        tuple(said),
        tuple(captions[index] for index in kept),
        np.stack(small),
        lambda position, side=size: read_square(_known(source(kept[position])), side),
        unreadable=tuple(lost),
        notes=tuple(notes),
    )


def _known(data: Path | bytes) -> Path | bytes:
    if isinstance(data, Path) and data.suffix.lower() in OTHER_PICTURES:
        raise ValueError(f"{data.suffix} is not a format byheart reads: convert it to jpg or png")
    return data
