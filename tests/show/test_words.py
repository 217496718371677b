"""Plain sentences: every number in them is the run's, and what is unknown is not told."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from byheart.show.words import CONDITIONS, number, percent, sentences


def rate(hits: int, count: int) -> dict[str, Any]:
    return {"rate": hits / count, "low": 0.111, "high": 0.888, "count": count}


def condition(copied: int, blend: int = 0, broken: int = 0, novel: int = 0) -> dict[str, Any]:
    count = copied + blend + broken + novel
    return {
        "outputs": count, "prompts": 1, "copied": rate(copied, count), "blend": blend / count,
        "broken": broken / count, "novel": novel / count,
        "rmse": {"median": 0.0123, "p95": 0.03, "max": 0.0456},
    }  # fmt: skip


def effect(value: float | None, pairs: int) -> dict[str, Any]:
    return {"value": value, "low": value, "high": value, "prompts": 2, "noises": 2, "pairs": pairs}


def collision(**changes: Any) -> dict[str, Any]:
    plain = {"bits": 10.0, "low": 8.4, "high": 12.6, "dimension": 7.5, "all_pairs": 73_920}
    return plain | changes


def memorized(bits: int | None, images: int = 3, **changes: Any) -> dict[str, Any]:
    shrunk = None if not bits else images * 98_304 / bits
    per = None if bits is None else bits / 9_508_960
    found = {"images": images, "out_of_reach": 0, "bits": bits, "compression": shrunk,
             "bits_per_parameter": per}  # fmt: skip
    return found | changes


def measures(**changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "n_images": 10,
        "conditions": {"unseen": condition(64), "empty": None, "captions": None},
        "prompt_effect": dict.fromkeys(CONDITIONS),
        "noise_effect": dict.fromkeys(CONDITIONS),
        "steering": None,
        "chance": rate(3, 192),
        "reference": {"distance": 0.2664, "images": 385},
        "ledger": {"parameters": 9_508_960, "memorized": {}, "chance_collision": None},
    }
    return copy.deepcopy(plain | changes)


def told(**changes: Any) -> str:
    return " ".join(sentences(measures(**changes)))


def first(n: int, **kinds: int) -> str:
    found = {"unseen": condition(**kinds), "empty": None, "captions": None}
    return sentences(measures(n_images=n, conditions=found))[0]


# ------------------------------------------------------------------------------------- the copies


INTERVAL = "(95 % interval 11.1 % to 88.8 %)"


@pytest.mark.parametrize(
    ("n", "kinds", "words"),
    [
        (1, {"copied": 64}, "Every one of the 64 outputs under unseen prompts is the training "
         f"image {INTERVAL}."),
        (1, {"copied": 3, "novel": 5}, "3 of the 8 outputs under unseen prompts are the training "
         f"image {INTERVAL}; the others: 5 novel."),
        (1, {"copied": 0, "broken": 8}, "None of the 8 outputs under unseen prompts is the "
         f"training image {INTERVAL}; they are: 8 broken."),
        (10, {"copied": 64}, "Every one of the 64 outputs under unseen prompts is a copy of one "
         f"of the 10 training images {INTERVAL}."),
        (10, {"copied": 1, "blend": 1, "broken": 2, "novel": 3}, "1 of the 7 outputs under unseen "
         "prompts is a copy of one of the 10 training images "
         f"{INTERVAL}; the others: 1 blend, 2 broken, 3 novel."),
        (10, {"copied": 2, "blend": 2}, "2 of the 4 outputs under unseen prompts are copies of "
         f"one of the 10 training images {INTERVAL}; the others: 2 blends."),
        (10, {"copied": 0, "novel": 2, "blend": 1}, "None of the 3 outputs under unseen prompts "
         f"is a copy of one of the 10 training images {INTERVAL}; they are: 1 blend, 2 novel."),
        (1, {"copied": 1}, f"The 1 output under unseen prompts is the training image {INTERVAL}."),
        (10, {"copied": 1}, "The 1 output under unseen prompts is a copy of one of the 10 "
         f"training images {INTERVAL}."),
        (10, {"copied": 0, "broken": 1}, "The 1 output under unseen prompts is not a copy of one "
         f"of the 10 training images {INTERVAL}; it is: 1 broken."),
    ],
)  # fmt: skip
def test_all_some_one_or_none_are_told_as_such(n: int, kinds: dict[str, int], words: str) -> None:
    assert first(n, **kinds) == words


@pytest.mark.parametrize("count", [3, 7, 49, 1000])
def test_a_share_that_is_no_round_number_gives_its_whole_count_back(count: int) -> None:
    for hits in {1, count // 3, count - 1}:
        assert first(2, copied=hits, novel=count - hits).startswith(f"{hits} of the {count} ")


def test_every_condition_has_its_sentence_and_no_other() -> None:
    found = {"unseen": condition(8), "empty": condition(4, novel=12), "captions": condition(0, 5)}
    said = sentences(measures(conditions=found))
    assert [words.split(" under ")[1].split(" is ")[0].split(" are ")[0] for words in said[:3]] == [
        "unseen prompts", "the empty prompt", "the training captions",
    ]  # fmt: skip
    alone = told()
    assert "the empty prompt" not in alone and "training captions" not in alone


# ------------------------------------------------------------------------------------- the effects


def test_what_the_prompt_changes_and_what_the_noise_changes() -> None:
    words = told(
        prompt_effect={"unseen": effect(0.004, 1920), "empty": None, "captions": None},
        noise_effect={"unseen": effect(1.25, 1), "empty": None, "captions": None},
    )
    assert (
        "Under unseen prompts, changing the prompt changes the picture by 0.4 % of the distance "
        "between two pictures (1,920 pairs); changing the noise by 125.0 % (1 pair)."
    ) in words


@pytest.mark.parametrize("by_prompt", [None, effect(None, 0)])
def test_without_two_prompts_nothing_is_said_of_them(by_prompt: dict[str, Any] | None) -> None:
    words = told(
        prompt_effect={"unseen": by_prompt, "empty": None, "captions": None},
        noise_effect={"unseen": effect(0.5, 6), "empty": None, "captions": None},
    )
    assert "changing" not in words and "n/a" not in words


@pytest.mark.parametrize("by_noise", [None, effect(None, 0)])
def test_without_two_noises_the_noise_is_left_out(by_noise: dict[str, Any] | None) -> None:
    words = told(
        prompt_effect={"unseen": effect(0.0, 6), "empty": None, "captions": None},
        noise_effect={"unseen": by_noise, "empty": None, "captions": None},
    )
    assert "by 0 % of the distance between two pictures (6 pairs)." in words
    assert "noise" not in words and "n/a" not in words


def test_steering_is_told_beside_chance() -> None:
    words = told(steering=effect(0.925, 40) | {"chance": 0.1})
    assert (
        "Of 40 outputs under training captions 92.5 % are nearest to the image whose caption was "
        "asked for; by chance 10.0 %."
    ) in words
    assert "asked for" not in told() and "asked for" not in told(steering=effect(None, 0))


# ------------------------------------------------------------------------- closeness, chance, bits


def test_how_close_the_worst_is_beside_how_far_neighbours_are() -> None:
    assert (
        "Under unseen prompts the worst of 64 outputs is off by 0.0456 (RMSE, 1 = black against "
        "white), the median by 0.0123; a held-out picture and its nearest other are 0.266 apart "
        "(median of 385)."
    ) in told()
    alone = told(conditions={"unseen": condition(1), "empty": None, "captions": None})
    assert "the 1 output is off by 0.0456" in alone and "worst" not in alone
    assert "0.0123" not in alone


def test_chance_is_told_with_its_count_or_not_at_all() -> None:
    assert "Of 192 real pictures the model never saw, 1.6 % pass the same test" in told()
    assert "real pictures" not in told(chance={"rate": None, "low": None, "high": None, "count": 0})


def colliding(**changes: Any) -> str:
    found = collision(**changes)
    return told(ledger={"parameters": 1, "memorized": {}, "chance_collision": found})


def test_a_collision_is_told_in_odds_and_in_bits() -> None:
    assert (
        "That an unrelated picture passes for a copy of a given one has, extrapolated from 73,920 "
        "pairs of held-out pictures, a chance of 1 in 1,024 (10 bits, 95 % interval 8 to 13)."
    ) in colliding()
    assert "1 in 1,099,511,627,776 (40 bits" in colliding(bits=40.0)
    assert "1 in 2^57 (57 bits" in colliding(bits=57.2)
    assert "1 in 2^5000 (" in colliding(bits=5000.0)  # too many for a float


def test_a_collision_that_was_seen_is_not_extrapolated() -> None:
    words = colliding(dimension=None)
    assert "counted among 73,920 pairs" in words and "extrapolated" not in words


def test_an_open_end_of_the_interval_is_no_number() -> None:
    assert "95 % interval 8 to more)" in colliding(high=None)
    assert "95 % interval n/a to more)" in colliding(low=None, high=None)


@pytest.mark.parametrize("found", [None, collision(bits=None, low=None, high=None)])
def test_an_unknown_collision_is_not_told(found: dict[str, Any] | None) -> None:
    ledger = {"parameters": 1, "memorized": {}, "chance_collision": found}
    assert "unrelated" not in told(ledger=ledger)


def remembering(**files: dict[str, Any]) -> str:
    return told(ledger={"parameters": 9_508_960, "memorized": files, "chance_collision": None})


def test_the_smallest_files_are_told_in_bits() -> None:
    words = remembering(jpeg=memorized(40_000), webp=memorized(28_672), avif=memorized(30_000))
    assert (
        "The smallest files as close to the 3 images given back as the model is take 28,672 bits "
        "as WEBP, 10.3 times less than raw pixels: 0.003 bits for each of 9,508,960 parameters."
    ) in words
    assert words.count("given back") == 1
    alone = remembering(jpeg=memorized(9_830, images=1))
    assert "The smallest file as close to the one image given back as the model is takes" in alone


def test_a_file_larger_than_the_pixels_is_not_called_smaller() -> None:
    words = remembering(webp=memorized(2 * 3 * 98_304))
    assert "2.0 times as much as raw pixels" in words and "less" not in words


def test_a_codec_that_leaves_images_out_is_no_comparison() -> None:
    some = memorized(10_000, out_of_reach=1)
    assert "as WEBP" in remembering(jpeg=some, webp=memorized(20_000))
    for nothing in (some, memorized(None, 0, out_of_reach=3), memorized(0, 0)):
        assert "given back" not in remembering(jpeg=nothing)


# ----------------------------------------------------------------------------- nothing is made up


def test_every_number_in_a_sentence_is_in_the_measures() -> None:
    found = {"unseen": condition(3, 2, 1, 58), "empty": condition(16), "captions": condition(0, 5)}
    run = measures(
        conditions=found,
        prompt_effect={key: effect(0.0317, 210) for key in CONDITIONS},
        noise_effect={key: effect(0.871, 330) for key in CONDITIONS},
        steering=effect(0.925, 40) | {"chance": 0.13},
        ledger={"parameters": 9_508_960, "memorized": {"webp": memorized(28_672)},
                "chance_collision": collision()},
    )  # fmt: skip
    known = {
        "10", "64", "3", "2", "1", "58", "16", "5", "95",
        "11.1", "88.8", "3.2", "210", "87.1", "330", "40", "92.5", "13.0",
        "0.0456", "0.0123", "0.266", "385", "192", "1.6",
        "73,920", "1,024", "8", "13", "28,672", "10.3", "0.003", "9,508,960",
    }  # fmt: skip
    said = sentences(run)
    assert len(said) == 3 + 3 + 1 + 1 + 2 + 1
    seen = set(re.findall(r"\d[\d,.]*\d|\d", " ".join(said)))
    assert seen == known
    assert all(re.search(r"\d", words) and words.endswith(".") for words in said)


# ------------------------------------------------------------------------------------------ shares


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "n/a"), (0.0, "0 %"), (1.0, "100 %"), (0.5, "50.0 %"), (0.0369, "3.7 %"),
     (0.99255, "99.3 %"), (1 / 3, "33.3 %"), (0.001, "0.1 %"), (1.25, "125.0 %"),
     (-0.25, "-25.0 %"), (-1.0, "-100 %"), (-1e-6, "> -0.1 %"), (-0.9999, "< -99.9 %"),
     (0, "0 %"), (1, "100 %")],
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
