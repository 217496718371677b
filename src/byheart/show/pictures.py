"""Pictures for people: contact sheets, the live view, the wall of a sweep. No torch here."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont, ImageSequence

from byheart.show.groups import asked, groups
from byheart.show.plots import BLUE, GROUND, INK, PAPER
from byheart.show.runs import PIXELS, Finished, Pixels, naming, read_outputs
from byheart.show.words import CONDITIONS

CELL = 64  # least width of a picture on a sheet, pixels
COLUMNS = 16
LEARNING, DENOISING = "learning.webp", "denoising.webp"  # of a run's folder
FRAME, REST = 500, 2500  # milliseconds that a frame of a film is shown, and its last one


def enlarged(image: UInt8[np.ndarray, "s s 3"], least: int) -> Image.Image:
    """Each pixel as a whole square: what the model made, not what a filter made of it."""
    times = max(1, -(-least // image.shape[0]))
    picture = Image.fromarray(image)
    return picture.resize((picture.width * times,) * 2, Image.Resampling.NEAREST)


def sheet(
    sections: Sequence[tuple[str, Pixels, Pixels]], columns: int | None = None
) -> Image.Image:
    """Contact sheet: per section a title, then rows of outputs, each above its nearest image.

    The nearest images stand on a blue line, so that the two rows are not mistaken for each other.

    sections: (title, outputs, nearest training images), equally many of both.
    columns: pictures side by side; as many as a page shows where it is left out.
    """
    side = enlarged(sections[0][1][0], CELL).width
    gap, title_height, line = max(2, side // 16), 28, 3
    pair = 2 * side + line + 2 * gap
    columns = columns or (COLUMNS if side <= 96 else max(4, COLUMNS * 96 // side))
    rows = [-(-len(outputs) // columns) for _, outputs, _ in sections]
    width = columns * (side + gap) + gap
    height = sum(title_height + r * pair + gap for r in rows) + gap
    canvas = Image.new("RGB", (width, height), GROUND)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(15)
    y = gap
    for (title, outputs, nearest), count in zip(sections, rows, strict=True):
        draw.text((gap, y + 5), title, fill=INK, font=font)
        y += title_height
        for k, (output, image) in enumerate(zip(outputs, nearest, strict=True)):
            x = gap + k % columns * (side + gap)
            top = y + k // columns * pair
            canvas.paste(enlarged(output, CELL), (x, top))
            draw.rectangle((x, top + side, x + side - 1, top + side + line - 1), fill=BLUE)
            canvas.paste(enlarged(image, CELL), (x, top + side + line))
        y += count * pair + gap
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
    """An animated WebP that plays for ever and rests on its last frame."""
    buffer, times = io.BytesIO(), [FRAME] * (len(frames) - 1) + [REST]
    first, *others = frames
    first.save(buffer, "WEBP", save_all=True, append_images=others, duration=times, loop=0,
               lossless=True)  # fmt: skip
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


def save_pixels(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Plain arrays, compressed; numpy gives every entry the same date, so bytes repeat."""
    with path.open("wb") as handle:
        np.savez_compressed(handle, allow_pickle=False, **arrays)


EACH = 16  # outputs of each section
Section = tuple[str, Pixels, Pixels]


def without_pixels(runs: Sequence[Finished]) -> list[Finished]:
    return [run for run in runs if not (run.path / PIXELS).exists()]


def wall(runs: Sequence[Finished]) -> bytes | None:
    """A PNG of the runs whose pixels are there; None where there are none.

    ValueError: names a run whose pixels are damaged.
    """
    missing = {run.path for run in without_pixels(runs)}
    variant = {run.path: group.variant for group in groups(runs) for run in group.runs}
    sections: list[Section] = []
    shown = set()
    for run in runs:
        kind = (run.n, run.captions, variant[run.path])
        if run.path not in missing and kind not in shown:
            shown.add(kind)
            with naming(run.path):
                sections += _sections(run, variant[run.path])
    return png_bytes(sheet(_one_size(sections))) if sections else None


def _sections(run: Finished, variant: str) -> Iterator[Section]:
    """The run's first outputs: a section for each condition.

    One output from each initial noise before a second from any: a prompt may change nothing.
    Under captions one of each caption before a second of any.
    """
    made = read_outputs(run.path, run.headline)
    for condition in dict.fromkeys(("unseen", asked(run.captions))):
        turn: dict[str, int] = {}
        order = []
        for k, row in enumerate(made.rows):
            if row["condition"] == condition:
                key = row["prompt" if condition == "captions" else "noise"]
                turn[key] = turn.get(key, 0) + 1
                order.append((turn[key], k))
        chosen = [k for _, k in sorted(order)[:EACH]]
        if chosen:
            outputs, nearest = made.pixels[chosen], made.nearest(chosen)
            side = outputs.shape[1]
            if side != nearest.shape[1]:
                raise ValueError(f"outputs of {side} px, training images of {nearest.shape[1]} px")
            kind = f"{run.captions} captions" + (f", {variant}" if variant else "")
            title = f"n = {run.n:,}, {kind}, under {CONDITIONS[condition]}, {side} px"
            yield title, outputs, nearest


def _one_size(sections: Sequence[Section]) -> list[Section]:
    """Smaller pictures enlarged to the size of the largest, each pixel repeated."""
    side = max(outputs.shape[1] for _, outputs, _ in sections)

    def enlarged(pixels: Pixels) -> Pixels:
        at = np.arange(side) * pixels.shape[1] // side
        return pixels[:, at][:, :, at]

    return [(title, enlarged(outputs), enlarged(nearest)) for title, outputs, nearest in sections]


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
