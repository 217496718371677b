"""What a folder holds: pictures, files that may caption them, and what is neither, each by name.

Nothing that lies there is passed over without a word, whatever its ending, its place, or what leads
to it.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from byheart.data.decode import is_picture, picture_suffixes

# Endings of pictures that `read_square` does not read. Named as unreadable, since whoever puts a
# telephone's pictures into a folder expects them to count.
OTHER_PICTURES = frozenset({".heic", ".heif", ".jxl"})
WORDS = frozenset({".txt", ".caption"})  # endings of a file that captions the picture of its name
TABLES = ("metadata.jsonl", "metadata.csv")


@dataclass
class Listing:
    """By name, in the order of names.

    pictures: what is read, or named as unreadable.
    words: what may caption them.
    passed_over, closed: "name: why" of what is no picture, and of what cannot be looked into.
    """

    root: Path
    pictures: dict[str, Path] = field(default_factory=dict)
    words: dict[str, Path] = field(default_factory=dict)
    passed_over: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    @property
    def caption_files(self) -> dict[str, Path]:
        """By lower-cased path below the folder: `cat.TXT` captions `cat.png`."""
        return {self.below(path).lower(): path for path in self.words.values()}

    @property
    def tables(self) -> list[Path]:
        return [path for path in self.words.values() if path.name.lower() in TABLES]

    def below(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def name_of(self, written: Path) -> str:
        """The name here of a path below the folder, as somebody wrote it down."""
        return self._exact.get(written.as_posix(), display_name(written))

    @cached_property
    def _exact(self) -> dict[str, str]:
        return {self.below(path): name for name, path in self.pictures.items()}


def list_folder(root: Path) -> Listing:
    """Links are followed, to the same folder once."""
    listing = Listing(root)
    pictures: list[Path] = []
    words: list[Path] = []
    usual = picture_suffixes() | OTHER_PICTURES
    for path in _files(Path(), listing, set()):
        ending, file, name = path.suffix.lower(), root / path, display_name(path)
        # Not asked first whether it can be opened: a link to a picture that is gone has to be named
        # as unreadable.
        if ending in usual:
            pictures.append(path)
        elif ending in WORDS or path.name.lower() in TABLES:
            words.append(path)
        elif not file.exists():
            listing.passed_over.append(f"{name}: leads nowhere")
        elif not stat.S_ISREG(file.stat().st_mode):
            listing.passed_over.append(f"{name}: no file")
        elif not os.access(file, os.R_OK):
            listing.closed.append(f"{name}: cannot be opened: permission denied")
        elif is_picture(file):  # whatever its ending
            pictures.append(path)
        else:
            listing.passed_over.append(f"{name}: no picture")
    listing.pictures = {name: root / path for name, path in _named(pictures).items()}
    listing.words = {name: root / path for name, path in _named(words).items()}
    return listing


def _files(here: Path, listing: Listing, seen: set[str]) -> Iterator[Path]:
    """The files in and below a folder, all paths below the root. seen: folders looked into."""
    folder = listing.root / here
    if (real := os.path.realpath(folder)) in seen:
        listing.passed_over.append(f"{display_name(here)}: leads to a folder that is here already")
        return
    seen.add(real)
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        why = (error.strerror or "").lower()
        listing.closed.append(f"{display_name(here)}: cannot be opened: {why}")
        return
    for entry in entries:
        path = here / entry.name
        if entry.name.startswith("."):  # ._x.jpg, .thumbnails/
            listing.passed_over.append(f"{display_name(path)}: hidden")
        elif entry.is_dir():
            yield from _files(path, listing, seen)
        else:
            yield path


def display_name(relative: Path) -> str:
    """A file's name below its folder as text: composed, since a Mac takes letters apart, with
    forward slashes, and without the bytes that no encoding explains."""
    text = os.fsencode(relative.as_posix()).decode("utf-8", "replace")
    return unicodedata.normalize("NFC", text)


def _named(paths: list[Path]) -> dict[str, Path]:
    """By display name; where several share one, by what tells them apart."""
    sharing: dict[str, list[Path]] = {}
    for path in paths:
        sharing.setdefault(display_name(path), []).append(path)
    named = {name: ones[0] for name, ones in sharing.items() if len(ones) == 1}
    for name, ones in sharing.items():
        for path in ones if len(ones) > 1 else []:
            bare = os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")
            if bare != name:  # the one that is written as it is shown keeps its name
                bare = bare.encode("ascii", "backslashreplace").decode()
            while bare in named or (bare in sharing and bare != name):
                bare += "'"
            named[bare] = path
    return dict(sorted(named.items()))
