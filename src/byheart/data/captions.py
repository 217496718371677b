"""The caption of each picture in a folder, found where people put them.

In this order: a row of `metadata.jsonl` or `metadata.csv` (the `imagefolder` convention of Hugging
Face datasets), a text file of the picture's name, the picture's name. What is blank is passed over.
"""

from __future__ import annotations

import csv
import io
import json
import os
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TABLES = ("metadata.jsonl", "metadata.csv")
CAPTION_COLUMNS = ("text", "caption")


def display_name(relative: Path) -> str:
    """A file's name below its folder as text: composed, since a Mac takes letters apart, with
    forward slashes, and without the bytes that no encoding explains."""
    text = os.fsencode(relative.as_posix()).decode("utf-8", "replace")
    return unicodedata.normalize("NFC", text)


def folder_captions(folder: Path, files: dict[str, Path]) -> dict[str, str]:
    """The caption of each file. files: path by `display_name`.

    ValueError: a table that is malformed, names a picture that is not there, or one picture twice,
    with the line; text that is not UTF-8.
    """
    written = written_captions(folder, files, _refuse)
    return {name: caption or stem_caption(name) for name, caption in written.items()}


def written_captions(
    folder: Path, files: dict[str, Path], complain: Callable[[str], object]
) -> dict[str, str]:
    """What somebody wrote of each file; '' where nobody did. complain: is told what cannot be used,
    which is then passed over."""
    rows = _table(folder, files, complain)
    return {name: rows.get(name) or _sidecar(path, complain) for name, path in files.items()}


def _refuse(words: str) -> None:
    raise ValueError(words)


def stem_caption(name: str) -> str:
    """What a picture is called where nobody wrote a caption: its file's name, in words."""
    stem = name.rpartition("/")[2].rpartition(".")[0]
    return one_line(stem.replace("_", " ").replace("-", " ")) or stem


def _sidecar(picture: Path, complain: Callable[[str], object]) -> str:
    text = picture.with_suffix(".txt")
    try:
        return one_line(_utf8(text)) if text.is_file() else ""
    except ValueError as error:
        complain(str(error))
        return ""


def one_line(text: str) -> str:
    """A caption is one line: runs of blanks and line breaks become one blank."""
    return " ".join(text.split())


def _utf8(file: Path) -> str:
    try:
        # A byte order mark is an editor's habit, not a part of the caption.
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: byte {error.start} is not UTF-8: save it as UTF-8") from None
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from error


def _table(
    folder: Path, files: dict[str, Path], complain: Callable[[str], object]
) -> dict[str, str]:
    """Caption by file name from the folder's one table; '' where a row leaves it blank."""
    found = [folder / name for name in TABLES if (folder / name).is_file()]
    if not found:
        return {}
    if len(found) > 1:
        complain(f"{folder} holds {' and '.join(TABLES)}: keep one of them")
        return {}
    captions: dict[str, str] = {}
    try:
        for line, row in _jsonl(found[0]) if found[0].suffix == ".jsonl" else _csv(found[0]):
            where = f"{found[0]} line {line}"
            try:
                if isinstance(row, ValueError):
                    raise row
                name, caption = _row(where, row)
                if name not in files:
                    raise ValueError(
                        f"{where}: {name} is not a picture in {folder}: correct the row"
                    )
                if name in captions:
                    raise ValueError(f"{where}: a second row for {name}: keep one of them")
                captions[name] = caption
            except ValueError as error:
                complain(str(error))
    except ValueError as error:  # nothing after it can be read
        complain(str(error))
    return captions


def _row(where: str, row: dict[str, Any]) -> tuple[str, str]:
    """File name and caption of one row."""
    name = row.get("file_name")
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{where}: no file_name: write one in each row")
    column = next((column for column in CAPTION_COLUMNS if column in row), None)
    if column is None:
        raise ValueError(f"{where}: neither text nor caption: name the column text")
    caption = row[column]
    if not isinstance(caption, str | None):
        raise ValueError(f"{where}: {column} is {caption!r}: write a string")
    # JSON can hold halves of letters, which no file can.
    text = (caption or "").encode("utf-8", "replace").decode("utf-8")
    return display_name(Path(name.strip())), one_line(text)


def _jsonl(file: Path) -> Iterator[tuple[int, dict[str, Any] | ValueError]]:
    """Lines and their rows, or what is wrong with a line."""
    # Not splitlines(): a JSON string may hold the other line breaks of Unicode as they are.
    for line, text in enumerate(_utf8(file).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            yield line, ValueError(f"{file} line {line}: not JSON ({error}): correct it")
            continue
        if not isinstance(row, dict):
            row = ValueError(f"{file} line {line}: not a JSON object: write {{...}} on each line")
        yield line, row


def _csv(file: Path) -> Iterator[tuple[int, dict[str, Any] | ValueError]]:
    reader = csv.DictReader(io.StringIO(_utf8(file), newline=""), strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                yield (
                    reader.line_num,
                    ValueError(
                        f"{file} line {reader.line_num}: more or fewer fields than the header has: "
                        'put a caption with commas into "quotation marks"'
                    ),
                )
            else:
                yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"{file} line {reader.line_num}: not CSV ({error}): correct it") from None
