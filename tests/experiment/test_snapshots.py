"""The measure along the training: when to look, what a look says, and that it changes nothing."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from support import training
from support.composing import composed
from support.setups import setup_of
from support.training import Process
from torch import Tensor

from byheart.config import Config
from byheart.data.codec import PatchCodec
from byheart.data.images import ImageSet
from byheart.data.prompts import Question
from byheart.experiment.snapshots import Snapshots, looks
from byheart.measure.kinds import KINDS
from byheart.model.conditioning import Conditioning
from byheart.model.fit import State, fit, start
from byheart.model.sample import initial_noise, sample
from byheart.model.unet import build_unet
from byheart.runtime.files import Run, append_jsonl, read_jsonl
from byheart.show.pictures import frames_of

NARROW = (
    *training.NARROW, "n_images=2", "fit.batch=2", "budget.steps=8", "sample.steps=2",
    "trajectory.points=4", "trajectory.outputs=5", "trajectory.share=1", "live.every=0",
)  # fmt: skip
ASKED = [Question("unseen", prompt, k) for prompt in ("a", "b", "c") for k in range(2)]


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pictures(count: int, seed: int) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, 16, 16), dtype=torch.uint8, generator=draws)


class Exact:
    """Instead of a State: a network that knows one training image for each prompt, x0 as it is."""

    def __init__(self, step: int, answers: Tensor) -> None:
        self.step, self.unet = step, self
        self.answers, self.asked = answers, []

    def using(self, kind: str) -> Any:
        assert kind == "raw"
        return nullcontext(self)

    def train(self) -> None: ...

    def __call__(self, x: Tensor, t: Tensor, prompt: Tensor, return_dict: bool) -> tuple[Tensor]:
        self.asked.append((x.clone(), prompt.clone()))
        return (self.answers[prompt[:, 0, 0].round().long()],)


def snapshots_of(path: Path, config: Config, accelerator: Accelerator) -> Snapshots:
    path.mkdir(exist_ok=True)
    rows = torch.arange(4.0)[:, None, None].expand(4, 4, 8)
    none: tuple[str, ...] = ()
    images = ImageSet(
        pictures(config.n_images, 1), pictures(8, 2), ("x",) * config.n_images, none, none, none,
        "folder", "", none, none, "",
    )  # fmt: skip
    return Snapshots(Run(path, path), setup_of(config, images, ASKED, vectors=rows), accelerator)


def knowing(looking: Snapshots, *images: int) -> Exact:
    """A network that answers the first prompts with these training images."""
    return Exact(0, PatchCodec(2).encode(looking.setup.images.train[[*images]]))


def look_after(looking: Snapshots, state: Exact, *steps: int, turn: bool = False) -> None:
    """turn: each time the answers to the prompts change places."""
    answers = state.answers
    for state.step in steps:
        state.answers = answers.roll(state.step, 0) if turn else answers
        looking.look(state)  # type: ignore[arg-type]


def film_of(path: Path, name: str = "learning.webp") -> list[list[Any]]:
    return [np.asarray(frame).tolist() for frame in frames_of(path / name)]


# ------------------------------------------------------------------------------------- when to look


def test_the_looks_are_log_spaced_from_a_hundredth_to_the_last_step() -> None:
    config = composed("budget.steps=1000", "trajectory.points=5", "trajectory.share=1",
                      "trajectory.outputs=8")  # fmt: skip
    assert looks(config) == [10, 32, 100, 316, 1000]


@pytest.mark.parametrize("steps", [2, 7, 60, 999])
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_they_end_at_the_last_step_and_stay_within_their_share(
    steps: int, share: float, guidance: float
) -> None:
    config = composed(
        budget__steps=steps, trajectory__share=share, trajectory__outputs=8,
        sample__guidance=guidance, sample__steps=8,
    )  # fmt: skip
    found = looks(config)
    evaluations = 8 * 8 * (2 if guidance > 1 else 1)
    training = 3 * steps * config.fit.batch  # forward once, backward twice as dear
    assert len(found) * evaluations <= share * training * (1 + 1e-12)
    assert len(found) <= config.trajectory.points and found == sorted(set(found))
    affordable = int(share * training / evaluations) >= 2
    assert (not found) == (not affordable)
    if found:
        assert found[-1] == steps and found[0] >= 1


def test_exposures_decide_where_steps_do_not() -> None:
    config = composed(n_images=4, budget__steps=None, budget__exposures=500, trajectory__share=1.0)
    assert looks(config)[-1] == config.steps == 500 * 4 / config.fit.batch


# --------------------------------------------------------------------------------- what a look says


def test_a_row_counts_the_copies(tmp_path: Path) -> None:
    config = composed(*NARROW, "budget.steps=4")
    looking = snapshots_of(tmp_path, config, Process(0, 1))
    state = knowing(looking, 0, 0, 0, 0)
    state.answers[3:] = PatchCodec(2).encode(pictures(1, 9))
    look_after(looking, state, 4)
    (row,) = read_jsonl(tmp_path / "trajectory.jsonl")
    # The prompts in turn, 1 2 3 1 2: the third is answered with another picture.
    assert row["copied"] == pytest.approx(0.8) and row["images"] == 1
    assert sum(row[kind] for kind in KINDS) == pytest.approx(1)
    assert (row["step"], row["exposures"], row["outputs"]) == (4, 4.0, 5)
    assert row["rmse_median"] == 0 and row["rmse_max"] > 0.2
    assert "seconds" not in row
    noises, asked = state.asked[0]
    assert asked[:, 0, 0].tolist() == [1, 2, 3, 1, 2]
    for k in range(5):  # each output has its own initial noise
        assert torch.equal(noises[k], initial_noise(config.seed, k, (12, 8, 8)))


def test_between_the_looks_nothing_is_done(tmp_path: Path) -> None:
    looking = snapshots_of(tmp_path, composed(*NARROW), Process(0, 1))
    state = knowing(looking, 0, 0, 0, 0)
    look_after(looking, state, *range(1, 9))
    rows = read_jsonl(tmp_path / "trajectory.jsonl")
    assert [row["step"] for row in rows] == looks(looking.setup.config) == [1, 2, 4, 8]
    assert len(state.asked) == 4 * 2  # two evaluations a look


@pytest.mark.parametrize("world", [2, 3])
def test_several_processes_give_the_same_row(tmp_path: Path, world: int) -> None:
    config = composed(*NARROW, "unet.zero_init=false")
    unet = build_unet(config.unet, 12, 8, 8, 0)

    def rows(folder: str, *processes: Process) -> list[dict[str, Any]]:
        for process in processes:
            looking = snapshots_of(tmp_path / folder, config, process)
            looking.look(State(unet, None, torch.optim.SGD(unet.parameters()), 8))
        return read_jsonl(looking.path)

    shares = [Process(index, world) for index in range(world)]
    rows("apart", *shares)
    handed_in = [process.given[0] for process in shares]
    (alone,) = rows("alone", Process(0, 1))
    # Only the main process writes; all of them work.
    (shared,) = rows("shared", *(Process(index, world, handed_in) for index in range(world)))
    assert shared == pytest.approx(alone, abs=1e-6) and shared["step"] == 8
    assert all(process.given[0].abs().sum() > 0 for process in shares)


# --------------------------------------------------------------------------------- training goes on


def trained(path: Path, config: Config, accelerator: Accelerator, look: bool) -> State:
    looking = snapshots_of(path, config, accelerator)
    latents, given = looking.setup.latents, looking.setup.conditions
    rows = given.prompts * 0.1
    conditioning = Conditioning(rows, torch.ones(config.n_images, dtype=torch.long), None)
    state = start(build_unet(config.unet, 12, 8, 8, 0), config)
    for _ in fit(state, latents, conditioning, given.schedule, config, accelerator):
        if look:
            looking.look(state)
            assert state.unet.training
    return state


def test_looking_changes_no_weight(tmp_path: Path) -> None:
    config, accelerator = composed(*NARROW), Accelerator(cpu=True, mixed_precision="no")
    before = torch.get_rng_state()
    one = trained(tmp_path / "a", config, accelerator, look=True)
    other = trained(tmp_path / "b", config, accelerator, look=False)
    assert len(read_jsonl(tmp_path / "a" / "trajectory.jsonl")) == 4
    assert not (tmp_path / "b" / "trajectory.jsonl").exists()
    assert torch.equal(torch.get_rng_state(), before)
    for name, weight in one.unet.state_dict().items():
        assert torch.equal(weight, other.unet.state_dict()[name]), name
    assert one.ema is not None and other.ema is not None
    for a, b in zip(one.ema.shadow_params, other.ema.shadow_params, strict=True):
        assert torch.equal(a, b)


def test_every_look_is_a_frame_of_the_film_and_a_resumed_run_goes_on_from_there(
    tmp_path: Path,
) -> None:
    looking = snapshots_of(tmp_path, composed(*NARROW), Process(0, 1))
    state = knowing(looking, 0, 1, 0, 0)
    look_after(looking, state, 1, 2, 4, turn=True)
    film = film_of(tmp_path)
    third, shown = np.array(film[2]), PatchCodec(2).decode(state.answers)
    # Five outputs, each above its nearest: the same picture of four pixels each twice.
    gap, side = 4, 64
    left = [gap + k * (side + gap) for k in range(5)]
    assert third.shape[1] == left[-1] + side + gap
    for k, x in enumerate(left):  # prompts 1 2 3 1 2, which the answers follow
        picture = shown[[1, 2, 3, 1, 2][k]].permute(1, 2, 0).numpy()
        top = gap + 28
        for y in (top, top + side + 3):  # the output, and below the line its nearest, equal to it
            assert np.array_equal(third[y : y + side : 4, x : x + side : 4], picture)
    assert film[0][gap + 28 :] != film[1][gap + 28 :]  # below the title
    looking.resume(2)
    assert film_of(tmp_path) == film[:2]
    looking.resume(0)
    assert film_of(tmp_path) == []


class Fading(Exact):
    """A network that says less and less of its answer, the less noise there is."""

    def __call__(self, x: Tensor, t: Tensor, prompt: Tensor, return_dict: bool) -> tuple[Tensor]:
        (answer,) = super().__call__(x, t, prompt, return_dict)
        return (answer * float(t) / 1000,)


@pytest.mark.parametrize("steps", [3, 70])
def test_the_film_of_the_noise_goes_from_the_noise_to_the_outputs(
    tmp_path: Path, steps: int
) -> None:
    config = composed(*NARROW, f"sample.steps={steps}", "sample.sampler=ddim")
    looking = snapshots_of(tmp_path, config, Process(0, 1))
    codec, given = looking.setup.codec, looking.setup.conditions
    network = Fading(0, knowing(looking, 0, 1, 0, 1).answers)
    looking.denoise(network)
    film = [np.array(frame) for frame in film_of(tmp_path, "denoising.webp")]
    assert len(film) == 3 if steps == 3 else 2 <= len(film) <= 16
    prompts, noises = torch.tensor([1, 2, 3, 1]), torch.arange(4)
    cpu = torch.device("cpu")
    made = sample(network, given, prompts, noises, config.seed, config.sample, cpu)
    began = torch.stack([initial_noise(config.seed, k, given.shape) for k in range(4)])

    def row(frame: np.ndarray, below: bool) -> np.ndarray:
        top = 32 + (67 if below else 0)
        return np.stack([frame[top : top + 64 : 4, 4 + 68 * k : 68 + 68 * k : 4] for k in range(4)])

    assert np.array_equal(row(film[-1], below=True), codec.decode(made).permute(0, 2, 3, 1))
    if steps == 3:  # of many evaluations the first may be left out, the last never
        assert np.array_equal(row(film[0], below=False), codec.decode(began).permute(0, 2, 3, 1))
    assert not np.array_equal(row(film[0], below=True), row(film[-1], below=True))


def test_a_frame_whose_row_was_never_written_is_made_again(tmp_path: Path) -> None:
    looking = snapshots_of(tmp_path, composed(*NARROW), Process(0, 1))
    state = knowing(looking, 0, 1, 0, 1)
    look_after(looking, state, 1, 2, 4)
    before = film_of(tmp_path)
    rows = looking.path.read_text().splitlines(keepends=True)
    looking.path.write_text("".join(rows[:2]))  # killed after the third frame, before its row
    looking.resume(2)
    look_after(looking, state, 4)
    assert len(before) == 3 and film_of(tmp_path) == before


def test_a_film_that_began_late_is_cut_from_its_end(tmp_path: Path) -> None:
    looking = snapshots_of(tmp_path, composed(*NARROW), Process(0, 1))
    append_jsonl(looking.path, {"step": 1})  # by a version that made no film
    look_after(looking, knowing(looking, 0, 1, 0, 1), 2, 4, 8)
    before = film_of(tmp_path)
    looking.resume(4)
    assert len(before) == 3 and film_of(tmp_path) == before[:2]


def test_rows_past_the_resumed_step_are_dropped_by_the_main_process(tmp_path: Path) -> None:
    looking = snapshots_of(tmp_path, composed(*NARROW), Process(0, 1))
    for step in (1, 2, 4, 8):
        append_jsonl(looking.path, {"step": step})
    with looking.path.open("a") as file:
        file.write('{"step": 9')  # cut off by a crash
    snapshots_of(tmp_path, composed(*NARROW), Process(1, 2)).resume(4)
    assert looking.path.read_text().endswith('{"step": 9')
    looking.resume(4)
    lines = looking.path.read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 4]
    looking.resume(0)
    assert looking.path.read_text() == ""
