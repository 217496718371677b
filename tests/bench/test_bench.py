"""What the bench compares is comparable, and what it counts is counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from support.composing import composed
from support.launching import SMALL
from torch.utils.flop_counter import FlopCounterMode

from byheart.bench import memorize as memorizing
from byheart.bench import run as door
from byheart.bench import speed
from byheart.bench.cli import PARTS
from byheart.bench.memorize import DECAY, ExampleTrainer, memorize, tried
from byheart.bench.run import run_bench, table
from byheart.bench.speed import Bench, audit_seconds, in_turn, matmul_peak, ratio
from byheart.experiment.prepare import prepare
from byheart.model.fit import start

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    config = composed(*SMALL, "text=minilm", "text.tokens=6", "unet.heads=[1,1,1,1]")
    accelerator = Accelerator()
    return Bench(prepare(config, tmp_path_factory.mktemp("cache"), accelerator), accelerator)


def test_works_are_timed_in_turn_and_the_first_rounds_do_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, calls = [0.0], []
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])

    def work(name: str, seconds: float) -> None:
        calls.append(name)
        now[0] += seconds * (100 if len(calls) <= 2 else 1)

    found = in_turn({"a": lambda: work("a", 1), "b": lambda: work("b", 2)}, 3, CPU, warmup=1)
    assert calls == ["a", "b"] * 4
    assert found == {"a": [1, 1, 1], "b": [2, 2, 2]}


def test_a_quotient_is_taken_within_each_round() -> None:
    # The machine is five times slower in the second round.
    assert ratio([1.1, 5.5, 1.2], [1.0, 5.0, 1.0]) == pytest.approx(1.1)
    # A slow round does not count, and rounds of another kind count by their share.
    assert ratio([2, 2, 90, 2], [1, 1, 1, 1]) == 2
    assert ratio([2, 2, 2, 90, 2, 2, 4, 4], [1] * 8, unlike=2) == 2.5
    assert ratio([3, 3], [1, 1], unlike=2) == 3


def test_a_matrix_products_rate_is_its_operations_by_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(speed, "in_turn", lambda *_, **__: {"": [2.0, 1.0, 4.0]})
    assert matmul_peak(CPU, torch.float32) == 2 * 4096**3 / 2.0


def test_the_bare_step_learns_what_the_loop_learns(here: Bench) -> None:
    """Same network, batch and optimizer: after one step the same weights."""
    alone, state = (start(here.unet(), here.setup.config) for _ in range(2))
    parts = speed._parts(here, alone)
    for name in speed.BARE:
        parts[name]()
    next(here.loop(state, here.setup.config))
    initial = here.unet().state_dict()
    both = zip(alone.unet.named_parameters(), state.unet.parameters(), strict=True)
    for (name, bare), ours in both:
        # The first rate of the loop is a part of the highest one: same direction, other length.
        first = initial[name]
        assert torch.equal((bare - first).sign(), (ours - first).sign()), name


def test_training_counts_the_operations_of_forward_and_backward(
    here: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "matmul_peak", lambda *_: 5e10)
    monkeypatch.setattr(speed, "ROUNDS", 1)
    found = speed.training(here)
    unet = here.unet()
    x0, noise, t, prompt = speed._batch(here)
    with FlopCounterMode(display=False) as counter:
        speed.loss(unet, here.setup.conditions.schedule, x0, noise, t, prompt).backward()
    assert found["flops_per_step"] == counter.get_total_flops() > 0
    assert found["images_per_second"] == pytest.approx(4 / found["seconds_per_step"])
    assert found["flops_per_second"] == pytest.approx(
        found["flops_per_step"] / found["seconds_per_step"]
    )


def test_every_part_of_a_step_and_every_number_of_evaluations_has_its_time(
    here: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "ROUNDS", 2)
    parts = speed.breakdown(here)
    assert set(parts) == {
        "batch", "forward", "backward", "clip", "optimizer", "forget", "average",
    }  # fmt: skip
    assert all(seconds > 0 for seconds in parts.values())
    monkeypatch.setattr(speed, "EVALUATIONS", (1, 8))
    rates = speed.sampling(here)
    assert rates["1"] > rates["8"] > 0


def test_an_exact_copy_is_one_and_noise_is_none(here: Bench) -> None:
    train = here.setup.images.train
    assert tried(here, train.expand(5, -1, -1, -1)) == (True, 0.0)
    other = train.expand(3, -1, -1, -1).clone()
    other[1] = 255 - other[1]
    copied, worst = tried(here, other)
    assert not copied and worst > 0.1


def test_memorizing_ends_with_the_first_try_that_is_close_enough(
    here: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = iter([(False, 0.5), (True, 0.05)])
    monkeypatch.setattr(memorizing, "LOOK_EVERY", 3)
    monkeypatch.setattr(memorizing, "tried", lambda *_: next(tries, (True, 0.01)))
    found = memorize(here)
    assert (found["step"], found["rmse"]) == (9, 0.01)
    assert 0 < found["copied_seconds"] < found["seconds"]


def test_a_budget_that_is_too_small_is_told(
    here: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memorizing, "tried", lambda *_: (False, 0.4))
    words = [*SMALL, f"root={tmp_path}", "text=minilm", "text.tokens=6"]
    said = run_bench(words, tmp_path / "bench", ["memorize"])
    assert said.count("not after 12 steps: RMSE 0.400") == 2
    with pytest.raises(ValueError, match=r"after 12 steps .* 0\.400 off.*larger budget\.steps"):
        run_bench(words, tmp_path / "other", ["memorize", "baseline"])
    assert not (tmp_path / "other").exists()


def test_the_other_recipe_is_the_one_it_is_called(here: Bench) -> None:
    trainer = ExampleTrainer(here, 2)
    first = [weight.detach().clone() for weight in trainer.unet.parameters()]
    # Its first batch by hand: epsilon prediction on Stable Diffusion's schedule.
    draws = torch.Generator().manual_seed(trainer.draws.initial_seed())
    latents = trainer.codec.encode(here.setup.images.train.repeat(4, 1, 1, 1))
    noise = torch.randn(latents.shape, generator=draws)
    t = torch.randint(0, 1000, (4,), generator=draws)
    a = trainer.schedule.alphas_cumprod[t].view(-1, 1, 1, 1)
    with torch.no_grad():
        noisy = a.sqrt() * latents + (1 - a).sqrt() * noise
        said = trainer.unet(noisy, t, trainer._encoded([trainer.caption] * 4), return_dict=False)[0]
    trainer.step()
    assert trainer.loss == pytest.approx(float((said - noise).square().mean()), rel=1e-4)
    assert float(trainer.schedule.alphas_cumprod[-1]) == pytest.approx(0.0047, abs=2e-4)
    decay = min(DECAY, 2 / 11)
    for before, weight, average in zip(
        first, trainer.unet.parameters(), trainer.average, strict=True
    ):
        assert torch.allclose(average, decay * before + (1 - decay) * weight, atol=1e-6)


def test_the_file_and_the_table_hold_the_same_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything but the thousand pictures, at the size of a test."""
    monkeypatch.setattr(door, "measuring", lambda *_: {"total": 51.0, "ledger": 34.0})
    monkeypatch.setattr(memorizing, "tried", lambda *_: (True, 0.01))
    cards = {"small": (16e9, True), "large": (40e9, True)}
    for name, value in {"ROUNDS": 1, "EVALUATIONS": (1,), "CARDS": cards}.items():
        monkeypatch.setattr(speed, name, value)
    monkeypatch.setattr(speed, "matmul_peak", lambda *_: 5e10)
    words = [*SMALL, f"root={tmp_path}", "text=minilm", "text.tokens=6", "sample.batch=4"]
    said = run_bench(words, tmp_path / "bench", PARTS[1:7])
    (file,) = (tmp_path / "bench").iterdir()
    found = json.loads(file.read_text())
    assert said.startswith(table(found)) and str(file) in said
    assert found["training"]["share_of_peak"] == pytest.approx(
        found["training"]["flops_per_second"] / 5e10
    )
    assert "baseline" not in found and found["environment"]["device"] == "cpu"
    room = list(found["memory"]["samples_at_once"].values())
    assert room == sorted(room) and all(plain <= checkpointing for plain, checkpointing in room)
    assert "measuring: memorize" in capsys.readouterr().out


def test_an_audit_of_made_up_pictures_finds_the_copies_that_were_put_in() -> None:
    found = audit_seconds(outputs=20, images=30, side=32, size=16)
    assert found["found"] == 1 and found["seconds"] > 0
