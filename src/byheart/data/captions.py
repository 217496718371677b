"""The caption of each picture in a folder, found where people put them.

In this order: a row of `metadata.jsonl` or `metadata.csv` beside it or above it (the `imagefolder`
convention of Hugging Face datasets); a text file of the picture's name, `cat.txt`, `cat.caption`,
`cat.png.txt` or `cat.png.caption`, in letters of either case; the picture's name. What is blank is
passed over.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from byheart.data.listing import Listing
from byheart.runtime.errors import few

CAPTION_COLUMNS = ("text", "caption")  # the first that is not blank
NOT_WHOLE = (
    'more or fewer fields than the header has: put a caption with commas into "quotation marks"'
)
SHOWN = 3  # names that stand for captions, in the line that says so


def folder_captions(
    listing: Listing, complain: Callable[[str], object]
) -> tuple[dict[str, str], list[str]]:
    """What somebody wrote of each picture, by its name, '' where nobody did; and the names of the
    files that might have captioned a picture and did not.

    complain: is told what cannot be used: a table that is malformed, names a picture that is not
    there, or one picture twice, with the line; text that is not UTF-8."""
    rows, beside = _tables(listing, complain), listing.caption_files
    used, found = {*listing.tables}, {}
    for name, path in listing.pictures.items():
        below = Path(listing.below(path))
        tried = [below.with_suffix(""), below]
        files = [beside.get(f"{one.as_posix()}{ending}".lower())
                 for one in tried for ending in (".txt", ".caption")]  # fmt: skip
        said = rows.get(name, "")
        for file in files:
            if file is not None and not said:
                used.add(file)
                said = one_line(_utf8(file, complain))
        found[name] = said
    return found, [name for name, path in listing.words.items() if path not in used]


def with_names(captions: dict[str, str]) -> tuple[dict[str, str], str]:
    """The captions, file names in the place of those that nobody wrote; and what is to be said."""
    bare = [name for name, caption in captions.items() if not caption]
    whole = captions | {name: stem_caption(name) for name in bare}
    if not bare:
        return whole, f"captions of all {len(captions):,} found"
    shown = few([whole[name] for name in bare], SHOWN)
    if len(bare) == len(captions):
        return whole, f"no captions found, file names used: {shown}"
    return whole, (
        f"captions of {len(captions) - len(bare):,} found, file names used for the other "
        f"{len(bare):,}: {shown}"
    )


def stem_caption(name: str) -> str:
    """What a picture is called where nobody wrote a caption: its file's name, in words."""
    stem = name.rpartition("/")[2].rpartition(".")[0]
    return one_line(stem.replace("_", " ").replace("-", " ")) or stem


def one_line(text: str) -> str:
    """A caption is one line: runs of blanks and line breaks become one blank."""
    return " ".join(text.split())


def _utf8(file: Path, complain: Callable[[str], object]) -> str:
    """A file's text; '' where it cannot be read."""
    try:
        # A byte order mark is an editor's habit, not a part of the caption.
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        complain(f"{file}: byte {error.start} is not UTF-8: save it as UTF-8")
    except OSError as error:
        complain(f"{file} cannot be read: {error.strerror}")
    return ""


def _tables(listing: Listing, complain: Callable[[str], object]) -> dict[str, str]:
    """Caption by picture, from all tables; '' where a row leaves it blank."""
    captions: dict[str, str] = {}
    folders = [table.parent for table in listing.tables]
    for folder in {one: None for one in folders if folders.count(one) > 1}:
        complain(f"{folder} holds metadata.jsonl and metadata.csv: keep one of them")
    for table in listing.tables:
        if folders.count(table.parent) == 1:
            _table(table, listing, captions, complain)
    return captions


def _table(
    table: Path, listing: Listing, captions: dict[str, str], complain: Callable[[str], object]
) -> None:
    """Add what a table says of the pictures beside it and below."""
    rows = _jsonl if table.suffix.lower() == ".jsonl" else _csv
    for line, row in rows(_utf8(table, complain)):
        try:
            written, caption = _row(row)
            name = listing.name_of(table.parent.relative_to(listing.root) / written)
            if name not in listing.pictures:
                raise ValueError(f"{written} is not a picture in {table.parent}: correct the row")
            if name in captions:
                raise ValueError(f"a second row for {written}: keep one of them")
            captions[name] = caption
        except ValueError as error:
            complain(f"{table} line {line}: {error}")


def _row(row: dict[str, Any] | str) -> tuple[Path, str]:
    """File and caption of one row. A string is what is wrong with it."""
    if isinstance(row, str):
        raise ValueError(row)
    name = row.get("file_name")
    if not isinstance(name, str) or not name.strip():
        raise ValueError("no file_name: write one in each row")
    columns = [column for column in CAPTION_COLUMNS if column in row]
    if not columns:
        raise ValueError("neither text nor caption: name the column text")
    said = ""
    for column in columns:
        if not isinstance(caption := row[column], str | None):
            raise ValueError(f"{column} is {caption!r}: write a string")
        # JSON can hold halves of letters, which no file can.
        said = said or one_line((caption or "").encode("utf-8", "replace").decode("utf-8"))
    return Path(name.strip()), said


def _jsonl(table: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Lines and their rows, or what is wrong with them."""
    # Not splitlines(): a JSON string may hold the other line breaks of Unicode as they are.
    for line, text in enumerate(table.split("\n"), start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
            known = isinstance(row, dict)
            yield line, row if known else "not a JSON object: write {...} on each line"
        except (ValueError, RecursionError) as error:
            yield line, f"not JSON ({error}): correct it"


def _csv(table: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """As `_jsonl`; nothing is read after what is no CSV."""
    reader = csv.DictReader(io.StringIO(table, newline=""), strict=True)
    try:
        for row in reader:
            whole = None not in row and None not in row.values()
            yield reader.line_num, row if whole else NOT_WHOLE
    except csv.Error as error:
        yield reader.line_num, f"not CSV ({error}): correct it"
