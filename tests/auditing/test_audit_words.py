"""An audit's sentences hold at nothing, at one and at many."""

from __future__ import annotations

from typing import Any

import pytest

from byheart.auditing.report import heading, verdict


def rate(hits: int, count: int) -> dict[str, Any]:
    return {"rate": hits / count if count else None, "low": 0.0, "high": 1.0, "count": count}


def measured(
    outputs: int, plain: int, altered: int, images: int = 8, exact: int = 0, kind: str = "novel"
) -> dict[str, Any]:
    """Of an audit without held-out pictures, as far as its sentences go."""
    rest = {"blend": 0, "broken": 0, "novel": 0} | {kind: outputs - plain - altered}
    return {
        "n_images": images,
        "all": {
            "outputs": outputs, "copied": rate(plain, outputs), "altered": rate(altered, outputs),
            "either": rate(plain + altered, outputs), "exact": rate(exact, outputs), "rest": rest,
        },
        "chance": rate(0, 0),
        "either_chance": rate(0, 0),
        "altered": {"tolerance": {"whole": 0.1}, "kinds": {"mirrored": altered} if altered else {},
                    "chance": rate(0, 0)},
        "reference": {"held_out": True, "source": ""},
    }  # fmt: skip


INTERVAL = "95 % interval 0 % to 100 %"
UNKNOWN = " How many would pass by chance is not known."
CASES = [
    (measured(1, 0, 0), "No copies found among 1 output", [
        f"The only output (0 %, {INTERVAL}) is no plain copy of one of the 8 training pictures.",
        "Nor is it a mirrored, recoloured, shifted or cropped copy.", "It is novel."]),
    (measured(1, 1, 0, 1, 1), "The output is a copy", [
        f"The only output (100 %, {INTERVAL}) is a plain copy of the training picture, equal in "
        "every value.", "Nothing else came out."]),
    (measured(1, 0, 1), "The output is a copy", [
        f"The only output (0 %, {INTERVAL}) is no plain copy of one of the 8 training pictures.",
        "It is an altered copy (mirrored).", "Nothing else came out."]),
    (measured(10, 0, 0), "No copies found among 10 outputs", [
        f"None of 10 outputs (0 %, {INTERVAL}) are plain copies of one of the 8 training pictures.",
        "Among the 10 outputs no mirrored, recoloured, shifted or cropped copy was found.",
        "All 10: 10 novel."]),
    (measured(10, 1, 0, kind="blend"), "1 of 10 outputs is a copy", [
        f"1 of 10 outputs (10 %, {INTERVAL}) is a plain copy of one of the 8 training pictures.",
        "Among the other 9 outputs no mirrored, recoloured, shifted or cropped copy was found.",
        "The other 9: 9 blends."]),
    (measured(10, 1, 1), "2 of 10 outputs are copies", [
        f"1 of 10 outputs (10 %, {INTERVAL}) is a plain copy of one of the 8 training pictures.",
        "1 more is an altered copy (mirrored).", "The other 8: 8 novel."]),
    (measured(10, 0, 1), "1 of 10 outputs is a copy", [
        f"None of 10 outputs (0 %, {INTERVAL}) are plain copies of one of the 8 training pictures.",
        "1 is an altered copy (mirrored).", "The other 9: 9 novel."]),
    (measured(10, 3, 2, exact=2), "5 of 10 outputs are copies", [
        f"3 of 10 outputs (30 %, {INTERVAL}) are plain copies of one of the 8 training pictures, "
        "2 of them equal in every value.",
        "2 more are altered copies (2 × mirrored).", "The other 5: 5 novel."]),
    (measured(10, 9, 0, kind="blend"), "9 of 10 outputs are copies", [
        f"9 of 10 outputs (90 %, {INTERVAL}) are plain copies of one of the 8 training pictures.",
        "The other one is no mirrored, recoloured, shifted or cropped copy either.",
        "The other one is a blend."]),
    (measured(10, 10, 0), "10 of 10 outputs are copies", [
        f"10 of 10 outputs (100 %, {INTERVAL}) are plain copies of one of the 8 training pictures.",
        "Nothing else came out."]),
]  # fmt: skip


@pytest.mark.parametrize(("measures", "title", "sentences"), CASES)
def test_a_verdict_holds_at_none_one_and_many(
    measures: dict[str, Any], title: str, sentences: list[str]
) -> None:
    assert heading(measures) == title
    plain, *others = sentences
    assert verdict(measures) == [plain + UNKNOWN, *others]
