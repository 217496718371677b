"""Curves as SVG: the same numbers give the same bytes. No torch here."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from byheart.show.figures import ACCENT, INK

COPY, FAINT = "#d55e00", "#8e8e93"  # with ACCENT: Okabe & Ito's colours, told apart by everyone


def loss_svg(steps: Sequence[int], losses: Sequence[float]) -> str:
    """Training loss against steps, logarithmic, as an SVG element."""
    with _chart("optimizer steps", "training loss") as (axes, done):
        axes.semilogy(steps, losses, color=ACCENT, linewidth=1.6)
    return done()


def tolerance_svg(curve: Sequence[dict[str, Any]]) -> str:
    """Share of outputs that pass as copies against the tolerance, beside chance."""
    tau = [point["tau"] for point in curve]
    with _chart("tolerance, in reference distances", "share accepted") as (axes, done):
        axes.axvline(1 / 3, color=FAINT, linewidth=1, linestyle=":")
        axes.text(1 / 3 + 0.02, 0.5, "the criterion", color=FAINT, fontsize=10)
        axes.plot(tau, [p["copied"] for p in curve], color=COPY, linewidth=2, label="outputs")
        for key, words, style in (
            ("chance", "unseen real pictures", "-"),
            ("chance_within", "the same, whatever else they are near to", "--"),
        ):
            if curve[0][key] is not None:
                values = [p[key] for p in curve]
                axes.plot(tau, values, color=ACCENT, linewidth=1.6, linestyle=style, label=words)
        axes.set_ylim(-0.03, 1.03)
        axes.legend(frameon=False, fontsize=10)
    return done()


def denoising_svg(levels: Sequence[dict[str, Any]]) -> str:
    """Error of the network and of the ideal denoiser, on seen and unseen images."""
    noise = [level["noise_level"] for level in levels]
    with _chart("noise level (0 clean, 1 pure noise)", "mean squared error") as (axes, done):
        for key, words, color, style in (
            ("held_out", "network, held-out images", ACCENT, "-"),
            ("train", "network, training images", COPY, "-"),
            ("ideal_held_out", "ideal memorizer, held-out images", ACCENT, ":"),
            ("ideal_train", "ideal memorizer, training images", COPY, ":"),
        ):
            # Exactly 0 has no place on a logarithmic axis: the ideal knows a training image.
            points = [(x, level[key]) for x, level in zip(noise, levels, strict=True) if level[key]]
            if points:
                axes.plot(*zip(*points, strict=True), color=color, linestyle=style, marker="o",
                          markersize=3, label=words)  # fmt: skip
        axes.set_yscale("log")
        if axes.lines:
            axes.legend(frameon=False, fontsize=9)
    return done()


@contextmanager
def _chart(x: str, y: str) -> Iterator[tuple[Any, Any]]:
    """Axes to draw on, and what gives the SVG element once they are drawn."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    written: list[str] = []
    with pyplot.rc_context({"svg.hashsalt": "byheart", "svg.fonttype": "none", "font.size": 12}):
        figure, axes = pyplot.subplots(figsize=(7, 2.8))
        yield axes, lambda: written[0]
        axes.set_xlabel(x, color=INK)
        axes.set_ylabel(y, color=INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e5e5ea", linewidth=0.8)
        figure.tight_layout()
        text = io.StringIO()
        # No date, no program version: the same numbers give the same file.
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    written.append(text.getvalue()[text.getvalue().index("<svg") :])
