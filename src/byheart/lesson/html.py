"""Pixels, charts and words as HTML that nothing typed by a stranger can break out of."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from markupsafe import escape
from PIL import Image

from byheart.show.pages import inline
from byheart.show.pictures import png_bytes
from byheart.show.plots import Panel, svg

# Gradio fills its HTML from a template: to it these are signs, to a reader letters.
TEMPLATE_SIGNS = str.maketrans({"{": "&#123;", "}": "&#125;", "$": "&#36;", "`": "&#96;"})
CAPTIONS = {"shared": "one caption for all", "own": "own captions"}


def safe(text: str) -> str:
    """Text to stand in HTML, in an attribute too."""
    return str(escape(text)).translate(TEMPLATE_SIGNS)


def images(n: int) -> str:
    return "1 image" if n == 1 else f"{n:,} images"


def said(words: str) -> str:
    """A line that a screen reader tells when it changes."""
    return f'<p class="said" role="status">{words}</p>'


def trouble(error: Exception | str) -> str:
    """One clear line instead of a result."""
    return f'<p class="trouble" role="alert">{safe(" ".join(str(error).split()))}</p>'


def picture(pixels: UInt8[np.ndarray, "h w 3"], words: str) -> str:
    """An <img>; the page enlarges each pixel to a whole square."""
    return f'<img src="{inline(png_bytes(Image.fromarray(pixels)))}" alt="{safe(words)}">'


def sprite(steps: UInt8[np.ndarray, "t s s 3"], words: str) -> str:
    """Pictures over time in one file, of which the page shows the one at its `--step`."""
    t, s = steps.shape[:2]
    strip = Image.fromarray(np.ascontiguousarray(steps).reshape(t * s, s, 3))
    return (
        f'<div class="film" role="img" aria-label="{safe(words)}">'
        f'<img src="{inline(png_bytes(strip))}" alt="" style="--rows: {t}"></div>'
    )


def chart(panel: Panel, words: str, height: float = 4.2) -> str:
    """A chart with its alternative text."""
    drawn = svg(panel, height).translate(TEMPLATE_SIGNS)
    return drawn.replace("<svg", f'<svg class="chart" role="group" aria-label="{safe(words)}"', 1)
