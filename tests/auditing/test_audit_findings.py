"""What an audit says, sentence against number: no row contradicts another, nothing vanishes."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from support.pictures_for_audit import audited, save_all

from byheart.auditing.audit import Audit
from byheart.auditing.measures import AUDIT_COLUMNS, OUTPUT_COLUMNS
from byheart.auditing.report import TRAITS, _asked_for, fail_line, near


def blobs(count: int, seed: int) -> list[Image.Image]:
    """Soft pictures, none like another."""
    draws = np.random.default_rng(seed).integers(0, 256, (count, 5, 5, 3), dtype=np.uint8)
    return [Image.fromarray(one).resize((64, 64), Image.Resampling.BICUBIC) for one in draws]


def nearly(picture: Image.Image, by: int) -> Image.Image:
    return picture.point(lambda value: min(255, value + by))


def rate(hits: int, count: int) -> dict[str, float]:
    return {"rate": hits / count, "low": 0.0, "high": 1.0, "count": count}


def test_with_0_a_single_copy_fails_though_its_interval_begins_at_0() -> None:
    measures = {"conditions": {"folder": {"either": rate(1, 100)}, "unseen": None}}
    for limit, failed in ((0.0, True), (0.001, False), (None, False)):
        assert Audit(measures, [], Path(), limit).failed is failed
    assert "none are allowed by --fail-above 0" in fail_line(measures, 0.0)
    none = {"conditions": {"folder": {"either": rate(0, 100)}}}
    assert not Audit(none, [], Path(), 0.0).failed


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """Picture 0 is there three times, all but the same; outputs copy two of them, and one that is
    mirrored copies picture 3."""
    root = tmp_path_factory.mktemp("twins")
    few = blobs(8, 0)
    train = [*few[:6], nearly(few[0], 3), nearly(few[0], 6)]
    made = [few[0], nearly(few[0], 3), few[7], ImageOps.mirror(few[3])]
    (save_all(root / "made", []) / "003.txt").write_text("a mirror", encoding="utf-8")
    (save_all(root / "held", []) / "cut.png").write_bytes(b"no picture")
    return audited(root, train, made, blobs(9, 1))


def bare(found: Audit) -> str:
    """The page without what its cells say of their columns."""
    return re.sub(' data-of="[^"]*"', "", found.page.read_text(encoding="utf-8"))


def test_a_picture_and_its_near_duplicates_have_the_same_copies(twins: Audit) -> None:
    rows = {row["image"]: row for row in twins.rows}
    for name, output in (("000.png", "000.png"), ("006.png", "001.png"), ("007.png", None)):
        row = rows[name]
        assert (row["copies"], row["copied"], row["group_size"]) == (2, 1, 3), name
        assert output is None or row["output"] == output
    for row in twins.rows:
        assert (row["copies"] > 0) == bool(row["copied"] or row["altered"]), row["image"]
    found = [row["copies"] > 0 for row in twins.rows]
    assert found == sorted(found, reverse=True)
    assert len({rows[name]["group"] for name in ("000.png", "006.png", "007.png")}) == 1
    page = bare(twins)
    assert "<td>000.png</td><td>3</td><td>2</td>" in page
    assert page.index("there more than once") < page.index("the most exposed first")


def test_an_altered_copy_comes_with_what_it_was_asked_for(twins: Audit) -> None:
    row = next(row for row in twins.rows if row["image"] == "003.png")
    assert row["altered"] == "mirrored" and row["altered_output"] == "003.png"
    assert row["altered_prompt"] == "a mirror" and row["altered_condition"] == "folder"
    assert "“a mirror”" in twins.page.read_text(encoding="utf-8")
    said = {"prompt": "", "noise": 4, "torch_seed": 7, "altered_prompt": "a fox",
            "altered_noise": 1, "altered_torch_seed": 9}  # fmt: skip
    assert _asked_for(said, "") == "no prompt, noise 4, torch seed 7"
    assert _asked_for(said, "altered_") == "“a fox”, noise 1, torch seed 9"
    assert row["torch_seed"] == row["altered_torch_seed"] == ""  # nobody knows a folder's


def test_a_card_tells_the_distance_of_the_output_that_it_shows(tmp_path: Path) -> None:
    few = blobs(8, 0)
    found = audited(tmp_path, few, [ImageOps.mirror(picture) for picture in few])
    page = found.page.read_text(encoding="utf-8")
    cards = {words.split('alt="training picture ')[1].split('"')[0]: words
             for words in page.split("<figure>")[1:]}  # fmt: skip
    assert {row["altered"] for row in found.rows} == {"mirrored"} and len(cards) == 8
    # The closest output by the plain distance is often another one than the copy on the card.
    others = [row for row in found.rows if row["output"] != row["altered_output"]]
    assert others
    for row in others:
        card = cards[row["image"]]
        assert f'alt="output {row["altered_output"]}"' in card
        assert f"greys: {float(row['altered_rho']):.3f} of its reference" in card
        assert f"{float(row['rmse']):.3f}" not in card and "distance" not in card
    # And a plain copy's card says nothing of an altered one that it does not show.
    plain = {"rmse": "0.010000", "rho": "0.050000", "altered_rho": "0.123456"}
    assert near(plain, False) == "distance 0.010 = 0.050 of the reference"


def test_the_page_explains_its_columns_and_what_makes_an_output_broken(twins: Audit) -> None:
    page = unescape(bare(twins))
    for columns in (AUDIT_COLUMNS, OUTPUT_COLUMNS):
        for name, said in columns.items():
            assert f'<tr><td>{name}</td><td class="others">{said}</td></tr>' in page
    ranges = twins.measures["reference"]["ranges"]
    assert {*ranges} == {*TRAITS}
    for name, (low, high) in ranges.items():
        ends = f"<td>{low:.4f}</td><td>{high:.4f}</td>"
        assert f'<tr><td>{name}</td>{ends}<td class="others">{TRAITS[name]}</td></tr>' in page


def test_chance_of_either_stands_beside_the_headline(twins: Audit) -> None:
    chance = twins.measures["either_chance"]
    assert chance["count"] == 9 and chance["rate"] <= 5 / 9
    assert "9 held-out pictures" in twins.page.read_text(encoding="utf-8").split("</div>")[0]
    (lost,) = twins.measures["unreadable"]["held_out"]
    assert lost.startswith("cut.png: ")


def test_two_held_out_pictures_make_no_verdict_and_none_is_lost(tmp_path: Path) -> None:
    (save_all(tmp_path / "held", []) / "cut.png").write_bytes(b"no picture")
    m = audited(tmp_path, blobs(6, 0), blobs(2, 0), blobs(3, 1)).measures
    assert not m["reference"]["held_out"] and m["either_chance"]["rate"] is None
    assert any("3 held-out pictures of use, and 4 are needed" in note for note in m["notes"])
    assert len(m["unreadable"]["held_out"]) == 1


def test_captions_that_cannot_be_read_end_nothing(tmp_path: Path) -> None:
    train, made = (save_all(tmp_path / name, []) for name in ("train", "made"))
    (train / "001.txt").write_bytes(b"\xff\xfe")
    rows = [{"file_name": "000.png", "text": "half a letter \ud800"}, {"file_name": "9.png"},
            {"file_name": "001.png", "text": "1"}]  # fmt: skip
    lines = [json.dumps(rows[0]), "{", *map(json.dumps, rows[1:])]
    (made / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    found = audited(tmp_path, blobs(6, 0), blobs(3, 0))
    assert len(found.measures["unreadable"]["captions"]) == 3
    assert any("3 captions could not be read" in note for note in found.measures["notes"])
    prompts = {row["output"]: row["prompt"] for row in found.rows}
    assert prompts["000.png"] == "half a letter ?" and prompts["001.png"] == "1"


def test_a_training_set_that_is_mostly_one_picture_is_told(tmp_path: Path) -> None:
    (one,) = blobs(1, 0)
    few = [one, nearly(one, 1), nearly(one, 2), nearly(one, 3), *blobs(2, 3)]
    found = audited(tmp_path, few, [one])
    assert found.measures["notes"][0].startswith("4 of the 6 training pictures are near-dupl")
