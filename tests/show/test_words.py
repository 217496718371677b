"""Plain sentences: every number in them is the run's, and what is unknown is not told."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from byheart.show.words import CONDITIONS, percent, sentences


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


@pytest.mark.parametrize("count", [3, 7, 49, 1000])
def test_a_share_that_is_no_round_number_gives_its_whole_count_back(count: int) -> None:
    for hits in {1, count // 3, count - 1}:
        assert first(2, copied=hits, novel=count - hits).startswith(f"{hits} of the {count} ")


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
        "11", "89", "210", "87", "330", "40", "92", "13",
        "0.0456", "0.0123", "0.266", "385", "192",
        "73,920", "1,024", "8", "28,672", "10.3", "0.003", "9,508,960",
    }  # fmt: skip
    said = sentences(run)
    assert len(said) == 3 + 3 + 1 + 1 + 2 + 1
    seen = set(re.findall(r"\d[\d,.]*\d|\d", " ".join(said)))
    assert seen == known
    assert all(re.search(r"\d", words) and words.endswith(".") for words in said)


# ------------------------------------------------------------------------------------------ shares


@pytest.mark.parametrize("almost", [0.9996, 1999 / 2000, 1 - 1e-9])
def test_almost_all_is_not_all_and_almost_none_not_none(almost: float) -> None:
    assert percent(almost) == "> 99.9 %" and percent(0.9994) == "99.9 %"
    assert percent(1 - almost) in {"< 0.1 %", "0.1 %"} and percent(0.0004) == "< 0.1 %"
