"""Pictures for people: contact sheets, the live view, the wall of a sweep. No torch here."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont, ImageSequence

from byheart.show.groups import groups
from byheart.show.plots import BLUE, GREEN, GROUND, INK, PAPER
from byheart.show.runs import PIXELS, Finished, Pixels, naming, read_outputs
from byheart.show.words import CONDITIONS

CELL = 64  # least width of a picture on a sheet, pixels
COLUMNS = 16
Section = tuple[str, Pixels, Pixels] | tuple[str, Pixels, Pixels, Pixels]
LEARNING, DENOISING = "learning.webp", "denoising.webp"  # of a run's folder
FRAME, REST = 500, 2500  # milliseconds that a frame of a film is shown, and its last one


def enlarged(image: UInt8[np.ndarray, "s s 3"], least: int) -> Image.Image:
    """Each pixel as a whole square: what the model made, not what a filter made of it."""
    times = max(1, -(-least // image.shape[0]))
    picture = Image.fromarray(image)
    return picture.resize((picture.width * times,) * 2, Image.Resampling.NEAREST)


def sheet(
    sections: Sequence[Section],
    columns: int | None = None,
    lines: tuple[str, str] = (BLUE, GREEN),
) -> Image.Image:
    """Contact sheet: per section a title, then rows of outputs, each above what it is like.

    Below each output on a blue line the nearest training image, and where it is known on a green
    one the nearest possible picture: no row is mistaken for another.

    sections: (title, outputs, nearest training images[, nearest possible pictures]), equally many
        of each.
    columns: pictures side by side; as many as a page shows where it is left out.
    lines: other colours, where what stands below is something else.
    """
    side = enlarged(sections[0][1][0], CELL).width
    gap, title_height, line = max(2, side // 16), 28, 3
    columns = columns or (COLUMNS if side <= 96 else max(4, COLUMNS * 96 // side))
    rows = [-(-len(outputs) // columns) for _, outputs, *_ in sections]
    tall = [side + len(below) * (line + side) + 2 * gap for _, _, *below in sections]
    width = columns * (side + gap) + gap
    height = sum(title_height + r * t + gap for r, t in zip(rows, tall, strict=True)) + gap
    canvas = Image.new("RGB", (width, height), GROUND)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(15)
    y = gap
    for (title, outputs, *below), count, each in zip(sections, rows, tall, strict=True):
        draw.text((gap, y + 5), title, fill=INK, font=font)
        y += title_height
        for k, output in enumerate(outputs):
            x = gap + k % columns * (side + gap)
            top = y + k // columns * each
            canvas.paste(enlarged(output, CELL), (x, top))
            for pictures, colour in zip(below, lines[: len(below)], strict=True):
                top += side
                draw.rectangle((x, top, x + side - 1, top + line - 1), fill=colour)
                top += line
                canvas.paste(enlarged(pictures[k], CELL), (x, top))
        y += count * each + gap
    return canvas


def live(image: UInt8[np.ndarray, "s s 3"], outputs: Pixels, words: str) -> Image.Image:
    """The first training image at the left, what the model makes of unseen prompts beside it."""
    pictures = [enlarged(image, 192), *(enlarged(o, 192) for o in outputs)]
    side, gap = pictures[0].width, 8
    canvas = Image.new("RGB", (len(pictures) * (side + gap) + 3 * gap, side + 40 + gap), PAPER)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(16)
    draw.text((gap, 10), "training image", fill=BLUE, font=font)
    draw.text((side + 4 * gap, 10), words, fill=INK, font=font)
    for k, picture in enumerate(pictures):
        canvas.paste(picture, (gap + k * (side + gap) + (2 * gap if k else 0), 40))
    return canvas


def film(frames: Sequence[Image.Image]) -> bytes:
    """A WebP that plays for ever and rests on its last frame; of one frame a still picture."""
    buffer, times = io.BytesIO(), [FRAME] * (len(frames) - 1) + [REST]
    first, *others = frames
    first.save(buffer, "WEBP", save_all=True, append_images=others, duration=times, loop=0,
               lossless=True, method=4)  # fmt: skip
    return buffer.getvalue()


def frames_of(path: Path) -> list[Image.Image]:
    """The frames of a film; none where there is no file."""
    if not path.exists():
        return []
    with Image.open(path) as moving:
        return [frame.convert("RGB") for frame in ImageSequence.Iterator(moving)]


def png_bytes(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


ACROSS, LEAST = 16, 8  # outputs side by side on the wall, and at least so many of each n


def without_pixels(runs: Sequence[Finished]) -> list[Finished]:
    return [run for run in runs if not (run.path / PIXELS).exists()]


def wall(runs: Sequence[Finished]) -> bytes | None:
    """A PNG of the runs whose pixels are there, a column for each n; None where there are none.

    ValueError: names a run whose pixels are damaged.
    """
    missing, shown = {run.path for run in without_pixels(runs)}, []
    for group in groups(runs):
        first = {run.n: run for run in reversed(group.runs) if run.path not in missing}
        across = max(1, ACROSS // max(1, len(first)))
        for condition in dict.fromkeys(("unseen", group.asked)):
            columns: list[Image.Image] = []
            for n in sorted(first):
                with naming(first[n].path):
                    columns += _column(first[n], condition, across)
            if columns:
                title = f"{group.words}, under {CONDITIONS[condition]}"
                shown.append(_titled(title, _together(columns, down=False)))
    return png_bytes(_together(shown, down=True)) if shown else None


def above_another(sections: Sequence[Section]) -> bytes:
    """A PNG of outputs above other outputs, on a dark line: no training image is shown."""
    shown = [sheet([section], columns=ACROSS, lines=(INK, INK)) for section in sections]
    return png_bytes(_together(shown, down=True))


def _column(run: Finished, condition: str, across: int) -> Iterator[Image.Image]:
    """The run's first outputs under a condition, if there are any.

    One output from each initial noise before a second from any: a prompt may change nothing.
    Under captions one of each caption before a second of any.
    """
    made = read_outputs(run.path, run.headline)
    turn: dict[str, int] = {}
    order = []
    for k, row in enumerate(made.rows):
        if row["condition"] == condition:
            key = row["prompt" if condition == "captions" else "noise"]
            turn[key] = turn.get(key, 0) + 1
            order.append((turn[key], k))
    known = (run.measures.get("possible") or {}).get("nearest", [])  # version 1 has none
    place = {one["output"]: k for k, one in enumerate(known)}
    every = [k for _, k in sorted(order)]
    compared = [k for k in every if k in place]
    # Fewer pictures, each with its nearest possible one, rather than more without.
    chosen = (compared if len(compared) >= across else every)[: across * -(-LEAST // across)]
    if not chosen:
        return
    outputs, nearest = made.pixels[chosen], made.nearest(chosen)
    section: Section = (f"n = {run.n:,}", outputs, nearest)
    if made.possible is not None and place.keys() >= {*chosen}:
        section = (*section[:3], made.possible[[place[k] for k in chosen]])
    yield sheet([section], columns=across)


def _titled(title: str, picture: Image.Image) -> Image.Image:
    font, room = ImageFont.load_default(17), 36
    wide = int(font.getlength(title)) + 12
    canvas = Image.new("RGB", (max(wide, picture.width), picture.height + room), PAPER)
    ImageDraw.Draw(canvas).text((4, 10), title, fill=INK, font=font)
    canvas.paste(picture, (0, room))
    return canvas


def _together(pictures: Sequence[Image.Image], down: bool) -> Image.Image:
    """One below the other, or side by side."""
    gap = 8
    wide, tall = ([getattr(one, side) for one in pictures] for side in ("width", "height"))
    room = gap * (len(pictures) - 1)
    size = (max(wide), sum(tall) + room) if down else (sum(wide) + room, max(tall))
    canvas, at = Image.new("RGB", size, PAPER), 0
    for one in pictures:
        canvas.paste(one, (0, at) if down else (at, 0))
        at += gap + (one.height if down else one.width)
    return canvas


def pairs_strip(outputs: Pixels, nearest: Pixels) -> UInt8[np.ndarray, "h w 3"]:
    """Outputs side by side, each above its nearest image on a blue line, at their own size."""
    count, side, gap = len(outputs), outputs.shape[1], 2
    canvas = Image.new("RGB", (count * (side + gap) - gap, 2 * side + 3), PAPER)
    draw = ImageDraw.Draw(canvas)
    for k, (output, image) in enumerate(zip(outputs, nearest, strict=True)):
        x = k * (side + gap)
        canvas.paste(Image.fromarray(output), (x, 0))
        draw.rectangle((x, side + 1, x + side - 1, side + 1), fill=BLUE)
        canvas.paste(Image.fromarray(image), (x, side + 3))
    return np.asarray(canvas)
