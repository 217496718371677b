"""Train a diffusion model on a few images, then ask it for anything else.

    accelerate launch train/overfit.py n_images=1

images -> latents -> fit -> sample -> measure -> report, top to bottom.
`--help` lists every setting.
"""

from __future__ import annotations

import sys
from pathlib import Path

from byheart.runtime.environment import quiet_libraries

quiet_libraries()  # before they are imported

from byheart.runtime.command import early_answer, run_command

CONFIGS = Path(__file__).resolve().parent.parent / "configs"

if __name__ == "__main__" and (code := early_answer(CONFIGS)) is not None:
    sys.exit(code)  # so soon, since what follows takes seconds to import

from byheart.config import Config
from byheart.experiment.evaluate import answers, denoising, evaluate
from byheart.experiment.log import RunLog, draw_curve, draw_curves
from byheart.experiment.prepare import prepare
from byheart.experiment.snapshots import Snapshots
from byheart.model.checkpoint import Keeper, prune
from byheart.model.estimate import estimate
from byheart.model.export import save_model
from byheart.model.fit import fit, start
from byheart.runtime.files import locate, write_json, write_text
from byheart.runtime.interrupt import interruptible
from byheart.runtime.lock import claimed
from byheart.runtime.machine import environment
from byheart.runtime.processes import accelerator_for, leave_group, leave_run
from byheart.show.pages import write_pictures, write_report


def overfit(config: Config) -> str:
    """One run, resumed where it stopped. What became of it.

    ValueError: what the user can mend, before anything is written.
    Stopped: a signal came; all that was learned so far is saved.
    """
    run = locate(config)
    accelerator = accelerator_for(config, run)
    main, headline = accelerator.is_main_process, config.evaluate.headline
    with claimed(run, config, accelerator) as claim, interruptible() as interrupt:
        log = RunLog(run, config, accelerator, claim.left)
        if claim.finished:
            return log.already_done()

        # images -> latents, and everything else that is learned from or asked
        setup = prepare(config=config, cache=run.cache, accelerator=accelerator)
        expected = estimate(setup.unet, setup.conditions, len(setup.questions), config,
                            accelerator, run.path)  # fmt: skip
        log.begin(setup.images, expected)

        # fit
        state = start(setup.unet, config)
        log.resume(state)
        snapshots = Snapshots(run, setup, accelerator)
        snapshots.resume(state.step)
        keeper = Keeper(run.file("checkpoints"), config, accelerator)
        with interrupt.held(config.steps, accelerator):
            for step in fit(
                state=state, latents=setup.latents, conditioning=setup.conditioning,
                schedule=setup.conditions.schedule, config=config, accelerator=accelerator,
            ):  # fmt: skip
                log.record(step)
                snapshots.look(state)
                stop = interrupt.wanted(step.step, accelerator)
                keeper.keep(state, at_once=stop)
                if stop:
                    interrupt.stop(step.step, config.steps, accelerator)
        state.forget_optimizer()

        # sample, with the weights that are asked for and with the ideal denoiser
        outputs = {}
        for kind in config.evaluate.measured:
            with state.using(kind) as network, log.sampling(kind, setup) as advance:
                outputs[kind] = answers(network, setup, accelerator, advance=advance)
        ideal = answers(setup.memorizer, setup, accelerator, rows=setup.unseen)
        with state.using(headline) as network:
            levels = denoising(network, setup, accelerator)
            if main:
                snapshots.denoise(network)
                save_model(run.file("model"), network, setup.conditions.schedule, setup.codec,
                           config)  # fmt: skip

        # measure
        with log.timed("measure"):
            found = evaluate(outputs=outputs, ideal=ideal, levels=levels, setup=setup,
                             accelerator=accelerator)  # fmt: skip

        # report
        if main:
            train = setup.images.train
            write_pictures(run, outputs[headline], found.findings[headline], train, found.members)
            write_text(run.file("outputs.csv"), found.table)
            write_json(run.file("measures.json"), found.measures | log.facts())
            write_json(run.file("environment.json"), environment(accelerator, sys.argv))
            draw_curve(run.path.parent, last=run.path)
            prune(run.file("checkpoints"), keep=1)
            write_report(run)
            log.conclude(found.measures)
        leave_run(accelerator)
    return "finished"


if __name__ == "__main__":
    code = run_command(overfit, CONFIGS, draw_curves)
    leave_group()
    sys.exit(code)
