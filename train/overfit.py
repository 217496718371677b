"""Train a diffusion model on a few images, then ask it for anything else.

    accelerate launch train/overfit.py n_images=1

images -> latents -> fit -> sample -> measure -> report, top to bottom.
`--help` lists every setting.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from byheart.quiet import quiet_libraries

quiet_libraries()  # before they are imported

import torch
from accelerate import Accelerator

from byheart import runs
from byheart.command import run_command
from byheart.config import Config
from byheart.data.codec import check_side, load_codec, round_trip_rmse
from byheart.data.images import load_images
from byheart.data.prompts import embed, widen
from byheart.data.questions import check_bank, questions
from byheart.evaluate import Network, descriptor_of, evaluate, reference_of
from byheart.journal import Journal
from byheart.live import Onlooker
from byheart.machine import accelerator_for, environment, leave_group, leave_run
from byheart.measure.controls import spread_out
from byheart.measure.denoising import gap
from byheart.model import checkpoint
from byheart.model.conditioning import conditioning_for, training_captions
from byheart.model.expect import expect
from byheart.model.export import save_model
from byheart.model.fit import fit, parts_of, start
from byheart.model.kernels import suit
from byheart.model.objective import build_schedule
from byheart.model.oracle import Oracle
from byheart.model.sample import Conditions, sample_shared
from byheart.model.seeds import training_seed
from byheart.model.unet import build_unet, parameters
from byheart.outcome import DONE
from byheart.owner import owned
from byheart.ranks import check_launch
from byheart.show.page import write_pictures, write_report
from byheart.stopping import Patience, patient
from byheart.trajectory import Trajectory

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def overfit(config: Config) -> str:
    """One run, resumed where it stopped. What became of it.

    ValueError: what the user can mend, before anything is written.
    Stopped: a signal came; all that was learned so far is saved.
    """
    check_launch()
    run = runs.locate(config)
    accelerator = accelerator_for(config, run)
    parts_of(config.fit, accelerator)
    with owned(run, config, accelerator) as found, patient() as patience:
        if not found.finished:
            return learn(config, run, accelerator, found.left, patience)
    if accelerator.is_main_process:
        print(f"done already, nothing changed: {run.file('report.html')}")
    return DONE


def learn(
    config: Config, run: runs.Run, accelerator: Accelerator, left: str | None, patience: Patience
) -> str:
    """The whole story of one run in a folder that is ours."""
    check_bank(config)
    sscd = descriptor_of(config)
    journal = Journal(run, config, accelerator)
    if left:
        journal.say(f"taking over from {left}, which ended without finishing")
    device, main = accelerator.device, accelerator.is_main_process

    # images -> latents
    images = load_images(config.images, config.n_images, run.cache, config.split)
    reference = reference_of(images, config, run)
    codec = load_codec(config.codec, run.cache)
    check_side(codec, config.images.size)
    latents = codec.encode(images.train)
    ceiling = round_trip_rmse(codec, images.train, latents)
    shape = (latents.shape[1], latents.shape[2], latents.shape[3])

    # prompts, each text once; the first is the empty one
    captions = training_captions(config.captions, images.train_captions)
    asked = questions(config, captions)
    texts = list(dict.fromkeys(["", *captions, *(q.prompt for q in asked)]))
    vectors = embed(texts, config.text, run.cache)

    # fit
    schedule = build_schedule(config)
    own = training_seed(config.seed, config.split)
    unet = build_unet(config.unet, shape[0], shape[1], vectors.shape[-1], own)
    unet = suit(unet, device, accelerator.mixed_precision == "bf16")
    vectors = widen(vectors, unet.config.cross_attention_dim).to(device)
    given = Conditions(schedule, vectors, shape)
    journal.announce(images, expect(unet, given, len(asked), config, accelerator, run.path))
    if main:
        runs.open_(run, config)
    state = start(unet, config)
    journal.resume(state)
    conditioning = conditioning_for(config.captions, captions, texts, vectors)
    prompt_of = torch.tensor([texts.index(q.prompt) for q in asked])
    noise_of = torch.tensor([q.noise for q in asked])
    trajectory = Trajectory(run, config, images.train, reference, codec, given, prompt_of)
    trajectory.resume(state.step, main)
    onlooker = Onlooker(run, config, images.train[0], codec, given, prompt_of)
    keeper = checkpoint.Keeper(run.file("checkpoints"), config, accelerator)
    patience.training = True
    for step in fit(state, latents.to(device), conditioning, schedule, config, accelerator):
        journal.record(step)
        trajectory.look(state, accelerator)
        stop = patience.wanted(step.step, accelerator)
        keeper.keep(state, at_once=stop)
        if stop:
            accelerator.wait_for_everyone()  # who leaves first ends those that still save
            raise patience.stop(step.step, journal.steps)
        if main:
            onlooker.look(state, device)
    patience.training = False
    if patience.wanted(0, accelerator):  # asked during the last step
        raise patience.stop(state.step, journal.steps)
    state.forget_optimizer()

    # sample, with the last weights and with their average, and with the ideal denoiser
    ideal = Oracle(schedule, latents.to(device), conditioning.rows[conditioning.of_image])
    outputs, levels = {}, []
    for kind in state.kinds:
        with state.using(kind) as network, journal.sampling(kind, len(asked)) as advance:
            made = sample_shared(
                network, given, prompt_of, noise_of,
                config.seed, config.sample, accelerator, advance,
            )  # fmt: skip
            if kind == config.evaluate.weights:
                unseen = codec.encode(spread_out(reference.images, config.evaluate.draws))
                common = vectors[texts.index(captions[0] if len(set(captions)) == 1 else "")]
                with accelerator.autocast():
                    levels = gap(
                        network, ideal, schedule, ideal.points, unseen, common, None,
                        config.evaluate.draws, config.seed, config.sample.batch,
                    )  # fmt: skip
                if main:
                    save_model(run.file("model"), network, schedule, codec, config)
        outputs[kind] = codec.decode(made)
    first = sum(q.condition == "unseen" for q in asked)
    perfect = sample_shared(
        ideal, given, prompt_of[:first], noise_of[:first], config.seed, config.sample, accelerator
    )

    # measure -> report
    began = time.perf_counter()
    size = parameters(unet)
    known = Network(size, latents[0].numel(), levels, codec.decode(perfect))
    found = evaluate(outputs, asked, images, reference, known, config, accelerator, sscd)
    if main:
        write_pictures(run, outputs, found.findings, asked, images, config.evaluate.weights)
        facts = journal.facts(size, ceiling) | {"seconds": journal.times(began)}
        runs.write_text(run.file("outputs.csv"), found.table)
        runs.write_json(run.file("measures.json"), found.measures | facts)
        runs.write_json(run.file("environment.json"), environment(accelerator, sys.argv))
        journal.draw_curve()
        checkpoint.prune(run.file("checkpoints"), keep=1)
        write_report(run)
        journal.conclude(found.measures)
    leave_run(accelerator)
    return "finished"


if __name__ == "__main__":
    code = run_command(overfit, CONFIGS)
    leave_group()
    sys.exit(code)
