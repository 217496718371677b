"""Pictures for people: the contact sheet, the live view, the loss. No torch here."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

INK, PAPER, GROUND, ACCENT = "#1d1d1f", "#ffffff", "#e9e9ee", "#0072b2"
CELL = 64  # least width of a picture on a sheet, pixels
COLUMNS = 16

Pixels = UInt8[np.ndarray, "_ s s 3"]


def enlarged(image: UInt8[np.ndarray, "s s 3"], least: int) -> Image.Image:
    """Each pixel as a whole square: what the model made, not what a filter made of it."""
    times = max(1, -(-least // image.shape[0]))
    picture = Image.fromarray(image)
    return picture.resize((picture.width * times,) * 2, Image.Resampling.NEAREST)


def sheet(sections: Sequence[tuple[str, Pixels, Pixels]]) -> Image.Image:
    """Contact sheet: per section a title, then rows of outputs, each above its nearest image.

    The nearest images stand on a blue line, so that the two rows are not mistaken for each other.

    sections: (title, outputs, nearest training images), equally many of both.
    """
    side = enlarged(sections[0][1][0], CELL).width
    gap, title_height, line = max(2, side // 16), 28, 3
    pair = 2 * side + line + 2 * gap
    columns = COLUMNS if side <= 96 else max(4, COLUMNS * 96 // side)
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
            draw.rectangle((x, top + side, x + side - 1, top + side + line - 1), fill=ACCENT)
            canvas.paste(enlarged(image, CELL), (x, top + side + line))
        y += count * pair + gap
    return canvas


def live(image: UInt8[np.ndarray, "s s 3"], outputs: Pixels, words: str) -> Image.Image:
    """The first training image at the left, what the model makes of unseen prompts beside it."""
    pictures = [enlarged(image, 192), *(enlarged(o, 192) for o in outputs)]
    side, gap = pictures[0].width, 8
    canvas = Image.new("RGB", (len(pictures) * (side + gap) + 3 * gap, side + 40 + gap), PAPER)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(16)
    draw.text((gap, 10), "training image", fill=ACCENT, font=font)
    draw.text((side + 4 * gap, 10), words, fill=INK, font=font)
    for k, picture in enumerate(pictures):
        canvas.paste(picture, (gap + k * (side + gap) + (2 * gap if k else 0), 40))
    return canvas


def png_bytes(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def save_pixels(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Plain arrays, compressed; numpy gives every entry the same date, so bytes repeat."""
    with path.open("wb") as handle:
        np.savez_compressed(handle, allow_pickle=False, **arrays)
