"""The ledger: figures computed by hand, and which of them hang on the precision."""

from __future__ import annotations

import json
from typing import Any

import pytest

from byheart.measure.ledger import (
    DEPEND_ON_PRECISION,
    FIGURES,
    Ledger,
    from_json,
    lines,
    readable,
    stable_diffusion,
)

JPEG = {"images": 3, "out_of_reach": 1, "bits": 24_000, "header_bits": 7_368, "raw_bits": 294_912}
COLLISION = {
    "bits": 18.0, "low": 15.0, "high": 22.0, "uuid_matches": 18 / 122, "hash_matches": 1.806,
    "any_bits": 8.03, "bits_by_share": {"0.005": 16.5, "0.1": 26.5}, "dimension": 7.2,
    "assumption": "a power law", "n_images": 1000, "reason": None,
}  # fmt: skip


def test_stable_diffusion_at_32_bits_is_as_the_argument_says() -> None:
    sd = stable_diffusion(32)
    assert sd.dimensions == 786_432 and sd.latent_dimensions == 16_384
    assert sd.parameter_bits == 27_504_670_848  # 3.4 GB
    assert sd.raw_bits == 14_470_348_800_000_000  # 1.8 PB
    assert sd.ratio == pytest.approx(526_105, abs=1)
    assert 5 < sd.orders_of_magnitude < 6  # "five orders of magnitude", in the same unit
    assert sd.orders_of_magnitude == pytest.approx(5.7211, abs=1e-4)
    assert sd.parameter_bits_per_image == pytest.approx(11.9586, abs=1e-4)  # 1.5 bytes
    assert sd.values_per_parameter == pytest.approx(2_104_420.6, abs=1)
    assert sd.latents_per_parameter == pytest.approx(43_842.1, abs=0.1)


def test_what_is_said_to_depend_on_the_precision_does_and_nothing_else() -> None:
    full, half = stable_diffusion(32), stable_diffusion(16)
    changed = {name for name in FIGURES if getattr(full, name) != getattr(half, name)}
    assert changed == set(DEPEND_ON_PRECISION)
    assert half.parameter_bits == 13_752_335_424 and half.ratio == pytest.approx(1_052_210, abs=1)
    assert half.orders_of_magnitude == pytest.approx(6.0221, abs=1e-4)  # no longer five
    assert half.parameter_bits_per_image == pytest.approx(5.9793, abs=1e-4)
    marked = {line.key for line in lines(full) if line.depends_on_precision}
    by_text = {
        one.key for one, two in zip(lines(full), lines(half), strict=True) if one.text != two.text
    }
    assert marked == changed == by_text


def test_one_small_image_by_hand() -> None:
    # 96 parameters of 32 bits = 3,072; one image of 4 x 4 x 3 x 8 = 384 bits fits in eight times.
    one = Ledger(96, 1, 48)
    assert (one.parameter_bits, one.raw_bits, one.ratio) == (3072, 384, 0.125)
    assert one.orders_of_magnitude == pytest.approx(-0.90309)
    assert one.parameter_bits_per_image == 3072 and one.values_per_parameter == 0.5
    assert one.latents_per_parameter is None and one.share_given_back is None


def test_memorized_bits_per_parameter_and_compression() -> None:
    found = Ledger(1000, 5, 12_288, given_back=4, memorized={"jpeg": JPEG}).memorized["jpeg"]
    assert found["bits_per_parameter"] == 24.0
    assert found["compression"] == 12.288  # 294,912 raw bits in 24,000
    nothing = {"images": 0, "out_of_reach": 4, "bits": None, "header_bits": 0, "raw_bits": 0}
    found = Ledger(1000, 5, 12_288, given_back=4, memorized={"jpeg": nothing}).memorized["jpeg"]
    assert found["bits_per_parameter"] is None and found["compression"] is None
    forgot = nothing | {"out_of_reach": 0, "bits": 0}
    found = Ledger(1000, 5, 12_288, given_back=0, memorized={"jpeg": forgot}).memorized["jpeg"]
    assert found["bits_per_parameter"] == 0 and found["compression"] is None


def test_json_and_back() -> None:
    run = Ledger(
        1000, 5, 12_288, 16, latent_dimensions=12_288, given_back=4, memorized={"jpeg": JPEG},
        chance_collision=COLLISION,
    )  # fmt: skip
    record = json.loads(json.dumps(run.to_json(), allow_nan=False))
    assert from_json(record) == run
    assert record["parameter_bits"] == 16_000 and record["memorized"]["jpeg"]["bits"] == 24_000
    assert record["memorized"]["jpeg"]["bits_per_parameter"] == 24.0
    assert record["chance_collision"] == COLLISION
    assert record["stable_diffusion"]["precision_32"]["parameters"] == 859_520_964
    assert record["stable_diffusion"]["precision_16"]["parameter_bits"] == 13_752_335_424
    assert set(record["depends_on_precision"]) == set(DEPEND_ON_PRECISION)


@pytest.mark.parametrize("broken", [{"parameters": 0}, {"n_images": "5"}, {"memorized": [1]},
                                    {"dimensions": None}, {"memorized": {"jpeg": {}}},
                                    {"given_back": 6}, {"given_back": 2.5}])  # fmt: skip
def test_a_broken_record_is_refused(broken: dict[str, Any]) -> None:
    record = Ledger(1000, 5, 12_288).to_json() | broken
    with pytest.raises(ValueError):
        from_json(record)


@pytest.mark.parametrize(
    ("value", "words"),
    [(526105.4, "526,105"), (11.957, "11.96"), (-4.673, "−4.673"), (8.493e-5, "8.493 × 10⁻⁵"),
     (2e-12, "2 × 10⁻¹²"), (0, "0"), (None, "n/a")],
)  # fmt: skip
def test_numbers_are_written_as_people_read_them(value: float | None, words: str) -> None:
    assert readable(value) == words
