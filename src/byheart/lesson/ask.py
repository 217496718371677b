"""Type any prompt: what a run's network makes of it, beside what it was trained on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import gradio as gr
import numpy as np
import torch
from jaxtyping import UInt8

from byheart.lesson.guard import who
from byheart.lesson.html import images, picture, safe, said, sprite, trouble
from byheart.lesson.models import Model
from byheart.lesson.queue import AT_ONCE
from byheart.lesson.session import Session
from byheart.measure.copying import STANDARD
from byheart.measure.kinds import KINDS, examine
from byheart.model.sample import sample
from byheart.show.runs import Finished

LONGEST = 1000  # characters of a prompt; the encoder reads the first few dozen words
MOST_NOISES = 8


@dataclass(frozen=True)
class Answer:
    """One output beside its nearest training image."""

    noise: int
    output: UInt8[np.ndarray, "s s 3"]
    nearest: UInt8[np.ndarray, "s s 3"]
    index: int  # of the nearest, from 0
    caption: str  # its own
    rmse: float  # in [0, 1]
    rho: float  # rmse / reference distance
    exact: bool
    kind: str  # of KINDS
    steps: UInt8[np.ndarray, "t s s 3"]  # what the sampler expected to end at, after each step


def checked(prompt: str) -> str:
    """The prompt on one line. ValueError: too long to be one."""
    if len(prompt) > LONGEST:
        raise ValueError(
            f"a prompt of {len(prompt):,} characters: {LONGEST:,} are allowed; type a shorter one"
        )
    return " ".join(prompt.split())


def answers(model: Model, prompt: str, noises: int) -> list[Answer]:
    """One output for each of the initial noises 0 … noises-1, as the run itself makes them.

    On the CPU what the run was asked comes out as in its outputs.npz but for rounding: fewer are
    computed together here, and now and then a value is another by one of 255. ValueError: a prompt
    that is too long, or another number of noises than 1 … 8.
    """
    setup = model.setup
    prompt = prompt if prompt in setup.texts else checked(prompt)
    if not 1 <= noises <= MOST_NOISES:
        raise ValueError(f"{noises} noises: 1 to {MOST_NOISES} are allowed")
    vectors, row = model.prompts(prompt)
    given = replace(setup.conditions, prompts=vectors)
    guesses: list[torch.Tensor] = []
    latents = sample(
        setup.unet, given, torch.full((noises,), row), torch.arange(noises),
        setup.config.seed, setup.config.sample, setup.device,
        watch=lambda noisy, guess: guesses.append(guess.cpu()),
    )  # fmt: skip
    outputs = setup.codec.decode(latents)
    # The last step may end beyond its own guess: what is watched ends on the output.
    frames = [*(setup.codec.decode(guess) for guess in guesses[:-1]), outputs]
    steps = torch.stack(frames, dim=1).permute(0, 1, 3, 4, 2).numpy()
    found = examine(outputs, setup.images.train, setup.reference)
    train = setup.images.train.permute(0, 2, 3, 1).numpy()
    return [
        Answer(
            k, steps[k, -1], train[index], index, setup.images.train_captions[index],
            float(found.rmse[k]), float(found.rho[k]), bool(found.exact[k]),
            KINDS[int(found.kind[k])], steps[k],
        )
        for k, index in enumerate(found.nearest.tolist())
    ]  # fmt: skip


def sentence(answer: Answer, n: int) -> str:
    """What it is, in words a class understands."""
    which = f"training image {answer.index + 1} of {n}"
    if answer.exact:
        return f"This is {which}, byte for byte."
    if answer.kind == "copied":
        return f"A copy of {which}."
    if answer.kind == "blend":
        return "No copy of one picture, but a mixture of up to three training images."
    if answer.rho <= STANDARD.tolerance:  # `judge` asks for more: no unseen picture may be as close
        return f"Close to {which}, but a picture it never saw is as close: no copy."
    nothing = "Nothing in the training set is this close."
    if answer.kind == "broken":
        return f"{nothing} It does not look like a picture of this kind either."
    return f"{nothing} It is a new picture."


def summary(found: list[Answer], n: int) -> str:
    """All outputs in one line."""
    copies = sum(answer.kind == "copied" for answer in found)
    image = "the one training image" if n == 1 else f"one of the {n} training images"
    if len(found) == 1:
        return f"The output is {'a copy' if copies else 'no copy'} of {image}."
    if copies == 1:
        return f"1 of {len(found)} outputs is a copy of {image}."
    how_many = "Every one" if copies == len(found) else f"{copies}" if copies else "None"
    verb, what = ("are", "copies") if 0 < copies < len(found) else ("is", "a copy")
    return f"{how_many} of {len(found)} outputs {verb} {what} of {image}."


def shown(found: list[Answer], prompt: str, n: int, aside: str = "") -> str:
    """The answers as HTML, everything that was typed escaped.

    aside: what else is to be known about who answers.
    """
    typed = f"“{safe(prompt)}”" if prompt.strip() else "The empty prompt"
    steps = len(found[0].steps)
    cards = "".join(_card(answer, n) for answer in found)
    return (
        f'<section class="answers" style="--step: {steps - 1}; --steps: {steps}">'
        f'<p class="said" role="status">{typed}: {summary(found, n)}</p>'
        f"{f'<p class=faint role=status>{safe(aside)}</p>' if aside else ''}"
        '<div class="watch"><button type="button" data-play>Watch the noise become a picture'
        "</button> <label>denoising step <output data-now>"
        f'{steps} of {steps}</output><input type="range" data-step min="1" max="{steps}" '
        f'value="{steps}" aria-label="denoising step"></label></div>'
        f'<div class="cards">{cards}</div>'
        "<p class=faint>ρ is the distance to the nearest training image, measured in the distance "
        "between a typical unseen picture and its nearest other; a copy has at most "
        f"{STANDARD.tolerance:.2f}. rmse: 0 is equal, 1 is black against white.</p></section>"
    )


def _card(answer: Answer, n: int) -> str:
    words = sentence(answer, n)
    tag = "copied" if answer.kind == "copied" else "other"
    return (
        f'<figure class="{tag}"><div class="pair"><div>'
        f"{sprite(answer.steps, f'output of noise {answer.noise + 1}: {words}')}"
        "<small>output</small></div><div>"
        f"{picture(answer.nearest, f'nearest training image: {answer.caption}')}"
        f"<small>nearest training image: {safe(answer.caption)}</small></div></div>"
        f"<figcaption><b>{words}</b><br>noise {answer.noise + 1} · ρ {answer.rho:.3f} · "
        f"rmse {answer.rmse:.4f}</figcaption></figure>"
    )


NOISES = 4
MOST_PLACES = 10_000  # before the page says how many there are, and for whoever asks without it
EXAMPLES = ("a dragon over Paris", "my grandmother", "asdfgh", "ein blaues Fahrrad")
WORDS = {"shared": "one caption for all", "own": "each its own", "none": "none",
         "random": "fresh noise"}  # fmt: skip


def ask_part(session: Session, page: gr.Blocks, tab: gr.Tab, timer: gr.Timer) -> None:
    gr.Markdown(
        "## Type any prompt\n"
        "This network was trained on a few pictures and has never seen anything else. "
        "Ask it for whatever you like."
    )
    prompt = gr.Textbox(
        label="prompt", placeholder="anything at all; Enter asks", lines=1, max_lines=1,
        elem_id="prompt", autofocus=True,
    )  # fmt: skip
    with gr.Row(elem_classes="ideas"):
        ideas = [gr.Button(words, size="sm", variant="secondary") for words in EXAMPLES]
    with gr.Row():
        with gr.Column(min_width=200):
            place = gr.Slider(0, MOST_PLACES, value=0, step=1, label="training images n",
                              elem_id="n-slider", buttons=[])  # fmt: skip
            ticks = gr.HTML("", elem_id="n-said", apply_default_css=False)
        noises = gr.Slider(
            1, MOST_NOISES, value=NOISES, step=1, label="noises at once", elem_id="noises",
            min_width=220, buttons=[],
        )  # fmt: skip
        mode = gr.Radio([*WORDS], value="shared", label="captions it was trained with",
                        elem_id="captions", min_width=220, visible=False)  # fmt: skip
    button = gr.Button("Ask", variant="primary", elem_id="ask")
    result = gr.HTML(elem_id="answer", apply_default_css=False)
    shown_ns = gr.State(())  # what the places stood for when they were shown

    def there(place: float, mode: str | None, before: Sequence[int]) -> object:
        """What the slider and the captions stand for now; what was chosen stays chosen."""
        try:
            ns, modes, waiting = session.ns, session.modes, not session.runs
        except ValueError as error:
            return gr.skip(), trouble(error), gr.skip(), (), gr.Timer(active=False)
        words = safe(f"There is nobody to ask yet: {session.nothing_yet}.")
        chosen = before[int(place)] if place < len(before) else None
        at = ns.index(chosen) if chosen in ns else 0
        names = [(WORDS.get(name, name), name) for name in modes]
        kept = mode if before and mode in modes else modes[0] if modes else None
        return (
            gr.update(maximum=max(1, len(ns) - 1), value=at, visible=len(ns) > 1),
            said(words) if waiting else numbers(ns, at),
            gr.update(choices=names, value=kept, visible=len(modes) > 1),
            tuple(ns),
            gr.Timer(active=waiting),
        )

    def wait(place: float, mode: str | None, before: Sequence[int]) -> object:
        """Until the sweep's first run is finished; then the timer stands still."""
        return there(place, mode, before) if session.finished_at else gr.skip()

    def ask(
        prompt: str, place: float, mode: str, noises: float, shown_ns: Sequence[int],
        request: gr.Request,
    ) -> str:  # fmt: skip
        try:
            with session.turns.turn(who(request)):
                run = session.run(int(place), mode, shown_ns)
                model = session.models.model(run.path)
                found = answers(model, prompt or "", int(noises))
                return shown(found, prompt or "", run.n, instead(run, mode))
        except ValueError as error:
            return trouble(error)

    def ask_by_place(
        prompt: str, place: float, mode: str, noises: float, request: gr.Request
    ) -> str:
        """For programs, which were shown nothing: the places are those of now."""
        return ask(prompt, place, mode, noises, (), request)

    chosen, slider = [place, mode, shown_ns], [place, ticks, mode, shown_ns, timer]
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    gr.on([page.load, tab.select], there, chosen, slider, **quiet)
    timer.tick(wait, chosen, slider, **quiet)
    asked = [prompt, place, mode, noises, shown_ns]
    model = {"concurrency_limit": AT_ONCE, "concurrency_id": "model"}
    gr.on([], ask_by_place, asked[:4], result, api_name="ask", **model)
    gr.on([prompt.submit, button.click], ask, asked, result, api_visibility="private",
          show_progress="minimal", **model)  # fmt: skip
    for idea in ideas:
        idea.click(lambda words: words, idea, prompt, api_visibility="private").then(
            ask, asked, result, api_visibility="private", **model
        )


def instead(run: Finished, mode: str) -> str:
    """Which captions who answers was trained with, where others were asked for."""
    if run.captions == mode:
        return ""
    return (
        f"Captions: {WORDS.get(run.captions, run.captions)}. No network of {images(run.n)} was "
        f"trained with “{WORDS.get(mode, mode)}”."
    )


def numbers(ns: list[int], at: int = 0) -> str:
    """What the slider's places stand for; the page's script keeps the words in step."""
    if not ns:
        return ""
    chosen = f"{ns[at]} training image{'' if ns[at] == 1 else 's'}"
    places = "".join(f"<span>{n}</span>" for n in ns)
    return (
        f'<div class="ns" data-ns="{safe(json.dumps(ns))}"><b data-n-said>{chosen}</b>'
        f'<div class="places" aria-hidden="true">{places if len(ns) > 1 else ""}</div></div>'
    )
