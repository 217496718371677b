"""`byheart controls`: the measure scored against pictures whose right verdict is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from byheart.data.images import load_images
from byheart.measure.kinds import KINDS
from byheart.measure.truth import Row, truth
from byheart.runtime.command import typed
from byheart.runtime.files import csv_text, write_text
from byheart.show.words import percent


def score(settings: Sequence[str], sizes: Sequence[int]) -> tuple[str, bool]:
    """The table as text, and whether every making was called what it is as often as it must be.
    Written to <root>/controls/<pictures>.csv as well.

    settings: as for train/overfit.py. ValueError: more images than the source has, or fewer than
    four held out.
    """
    config = typed(settings)
    cache = Path(config.root) / ".cache"
    images = load_images(config.images, max(sizes), cache)
    if len(images.held_out) < 4:
        raise ValueError(
            f"images.held_out={config.images.held_out} leaves {len(images.held_out)} pictures: "
            "four are needed to judge by; type images.held_out=4 or more"
        )
    tables = {
        n: truth(images.train[:n], images.held_out, config.seed)
        for n in tqdm(sizes, "judge", unit="size", disable=None)
    }
    columns = ("n_images", "made", "pictures", *KINDS, "must", "met")
    lines = [
        {"n_images": n, "made": row.made, "pictures": row.pictures, **row.shares,
         "must": row.must, "met": int(row.met)}
        for n, rows in tables.items() for row in rows
    ]  # fmt: skip
    style = f"-{config.images.style}" if config.images.source == "avatars" else ""
    name = f"{config.images.source}{style}-{config.images.size}px.csv"
    path = Path(config.root) / "controls" / name
    write_text(path, csv_text(lines, columns))
    text = "\n\n".join(_text(n, rows) for n, rows in tables.items())
    missed = sum(not row.met for rows in tables.values() for row in rows)
    verdict = "all as they must be" if not missed else f"{missed} not as they must be, marked !"
    return f"{text}\n\n{verdict}; {path}", not missed


def _text(n: int, rows: list[Row]) -> str:
    head = f"{f'n = {n:,}':22}{'pictures':>9}" + "".join(f"{kind:>9}" for kind in KINDS)
    return "\n".join([
        head,
        *(f"{row.made:22}{row.pictures:9,}" + "".join(f"{percent(row.shares[k]):>9}" for k in KINDS)
          + f"  {'' if row.met else '! '}{row.must}" for row in rows),
    ])  # fmt: skip
