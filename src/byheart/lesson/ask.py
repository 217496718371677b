"""Type any prompt: what a run's network makes of it, beside what it was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import gradio as gr
import numpy as np
from jaxtyping import UInt8

from byheart.lesson.answers import MOST_NOISES, Answer
from byheart.lesson.guard import who
from byheart.lesson.html import images, picture, safe, said, sprite, trouble
from byheart.lesson.queue import MODEL, QUIET, News
from byheart.lesson.session import Session
from byheart.measure.copying import STANDARD
from byheart.show.runs import Finished, read_outputs

SHOWN = 24  # training pictures that are shown of many
Pixels = UInt8[np.ndarray, "s s 3"]


def sentence(answer: Answer, n: int) -> str:
    """What it is, in words a class understands."""
    which = f"training image {answer.index + 1:,} of {n:,}"
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


def summary(found: Sequence[Answer], n: int) -> str:
    """All outputs in one line."""
    copies = sum(answer.kind == "copied" for answer in found)
    image = "the one training image" if n == 1 else f"one of the {n:,} training images"
    if len(found) == 1:
        return f"The output is {'a copy' if copies else 'no copy'} of {image}."
    if copies == 1:
        return f"1 of {len(found)} outputs is a copy of {image}."
    how_many = "Every one" if copies == len(found) else f"{copies}" if copies else "None"
    verb, what = ("are", "copies") if 0 < copies < len(found) else ("is", "a copy")
    return f"{how_many} of {len(found)} outputs {verb} {what} of {image}."


def under_way(news: News[Answer], prompts: Sequence[str]) -> str:
    """A question that is not answered yet: its place, or what its outputs have come to."""
    if not news.step:
        place = "Yours is next" if not news.before else f"{news.before} before yours"
        return said(f"{place}: about {max(1, round(news.seconds))} s.")
    typed = " and ".join(_quoted(prompt) for prompt in prompts)
    cards = "".join(
        f'<figure class="other"><div class="pair"><div>{_films(given[None], expected[None])}'
        "</div></div></figure>"
        for given, expected in news.seen
    )
    return (
        '<section class="answers" style="--step: 0; --steps: 1">'
        f'{said(f"{typed}: step {news.step} of {news.steps}")}<div class="cards">{cards}</div>'
        "</section>"
    )


def shown(found: Sequence[Answer], prompts: Sequence[str], n: int, aside: str = "") -> str:
    """The answers as HTML, everything that was typed escaped; those of two prompts side by side.

    found: of the first prompt, then as many of the second. aside: what else is to be known about
    who answers.
    """
    each = len(found) // len(prompts)
    by_prompt = [found[k * each : (k + 1) * each] for k in range(len(prompts))]
    told = " ".join(
        f"{_quoted(prompt)}: {summary(mine, n)}"
        for prompt, mine in zip(prompts, by_prompt, strict=True)
    )
    if len(prompts) > 1:
        apart = [np.sqrt(np.square((a.output / 255.0) - b.output / 255.0).mean())
                 for a, b in zip(*by_prompt, strict=True)]  # fmt: skip
        told += (
            f" From the same noise the two prompts’ pictures are {100 * np.mean(apart):.1f} % apart"
            " on average, where black and white are 100 %."
        )
    steps = len(found[0].steps)
    cards = "".join(_card(mine, n) for mine in zip(*by_prompt, strict=True))
    return (
        f'<section class="answers" style="--step: {steps - 1}; --steps: {steps}">'
        f"{said(told)}{f'<p class=faint role=status>{safe(aside)}</p>' if aside else ''}"
        '<div class="watch"><button type="button" data-play>Watch the noise become a picture'
        "</button> <label>denoising step <output data-now>"
        f'{steps} of {steps}</output><input type="range" data-step min="1" max="{steps}" '
        f'value="{steps}" aria-label="denoising step"></label></div>'
        f'<div class="cards">{cards}</div>'
        "<details class=faint><summary>what the numbers mean</summary><p>ρ is the distance to the "
        "nearest training image, measured in the distance between a typical unseen picture and its "
        f"nearest other; a copy has at most {STANDARD.tolerance:.2f}. rmse: 0 is equal, 1 is black "
        "against white.</p></details></section>"
    )


def told(
    session: Session, who: str, run: Path, n: int, prompts: Sequence[str], noises: int,
    aside: str = "",
) -> Iterator[str]:  # fmt: skip
    """What becomes of a question to a network of n images, as HTML. ValueError: as `Session.ask`.

    aside: as for `shown`.
    """
    for news in session.ask(who, run, prompts, noises):
        if news.answers is None:
            yield under_way(news, prompts)
            continue
        if len(news.answers) < noises * len(prompts):
            aside += " Many ask at once, so each has fewer pictures; ask again for all."
        yield shown(news.answers, prompts, n, aside.strip())


def _quoted(prompt: str) -> str:
    return f"“{safe(prompt)}”" if prompt.strip() else "The empty prompt"


def _films(
    noisy: UInt8[np.ndarray, "t s s 3"],
    steps: UInt8[np.ndarray, "t s s 3"],
    words: str = "its guess",
) -> str:
    """What the network is given at every step, above what it makes of it."""
    given = f"{sprite(noisy, 'what the network is given')}<small>the network is given this</small>"
    return f"{given}{sprite(steps, words)}<small>and guesses this</small>"


def _card(mine: Sequence[Answer], n: int) -> str:
    """Outputs from one noise, one for each prompt, beside what the first of them is like."""
    first, words = mine[0], [sentence(answer, n) for answer in mine]
    tag = "copied" if first.kind == "copied" else "other"
    films = "".join(
        f"<div>{_films(answer.noisy, answer.steps, f'output of noise {answer.noise + 1}: {one}')}"
        "</div>"
        for answer, one in zip(mine, words, strict=True)
    )
    numbers = "; ".join(f"ρ {answer.rho:.3f}, rmse {answer.rmse:.4f}" for answer in mine)
    verdict = words[0] if len(set(words)) == 1 else " · ".join(words)
    return (
        f'<figure class="{tag}"><div class="pair">{films}<div class="like">'
        f"{picture(first.nearest, f'nearest training image: {first.caption}')}"
        f"<small>nearest training image: {safe(first.caption)}</small></div></div>"
        f"<figcaption><b>{verdict}</b><details class=faint><summary>numbers</summary>noise "
        f"{first.noise + 1}: {numbers}</details></figcaption></figure>"
    )


@lru_cache(maxsize=16)
def only_these(path: Path, headline: str, n: int, made_at: int) -> str:
    """The pictures that a run's network was trained on, and that it has seen no other."""
    train = read_outputs(path, headline).train
    some = train[:SHOWN]
    row = "".join(picture(one, f"training image {k + 1}") for k, one in enumerate(some))
    what = "this picture" if n == 1 else f"these {n} pictures"
    if n > len(some):
        what = f"{n:,} pictures, such as these"
    return (
        f'<div class="seen"><p class="said">This network has seen only {what}.</p>'
        f"<div>{row}</div></div>"
    )


NOISES = 4
WATCHED = 2  # outputs of each network whose noise is watched
EXAMPLES = ("a dragon over Paris", "my grandmother", "asdfgh", "ein blaues Fahrrad")
WORDS = {"shared": "one caption for all", "own": "each its own", "none": "none",
         "random": "fresh noise"}  # fmt: skip


def ask_part(session: Session, page: gr.Blocks, tab: gr.Tab, timer: gr.Timer) -> None:
    seen = gr.HTML(elem_id="seen", apply_default_css=False)
    prompt = gr.Textbox(
        label="ask it for anything", placeholder="anything at all; Enter asks", lines=1,
        max_lines=1, elem_id="prompt", autofocus=True,
    )  # fmt: skip
    with gr.Row(elem_classes="ideas"):
        ideas = [gr.Button(words, size="sm", variant="secondary") for words in EXAMPLES]
    with gr.Row():
        n = gr.Radio([], label="who answers: the network of", elem_id="n", min_width=220,
                     visible=False)  # fmt: skip
        # A page that was left open knows sizes that the server has forgotten; `Session.run` checks.
        n.preprocess = lambda chosen: chosen
        mode = gr.Radio([*WORDS], value="shared", label="captions it was trained with",
                        elem_id="captions", min_width=220, visible=False)  # fmt: skip
    with gr.Accordion("more: a second prompt, other noises", open=False):
        second = gr.Textbox(
            label="a second prompt, through the same noises", lines=1, max_lines=1,
            placeholder="left empty: none", elem_id="second",
        )  # fmt: skip
        noises = gr.Slider(
            1, MOST_NOISES, value=NOISES, step=1, label="pictures, each from its own noise",
            elem_id="noises", buttons=[],
        )  # fmt: skip
    button = gr.Button("Ask", variant="primary", elem_id="ask")
    ready = gr.HTML(elem_id="ready", apply_default_css=False)  # hidden once something was asked
    result = gr.HTML(elem_id="answer", apply_default_css=False)
    shown = gr.State(())  # the sizes and captions that there was a choice of

    def there(
        n: int | None, mode: str, before: object, request: gr.Request
    ) -> tuple[object, ...] | list[object]:
        """Who can be asked by now; what was chosen stays chosen, first what the address asks for.
        Nothing moves where the choice is the same: the first part is opened while the page loads.
        """
        try:
            ns, modes = session.ns, session.modes
        except ValueError as error:
            return gr.skip(), gr.skip(), (), gr.Timer(active=False), trouble(error)
        if before == (ns, modes):
            return [gr.skip()] * 5
        typed = dict(request.query_params).get("n", "")
        wanted = n or (int(typed) if typed.isdecimal() and len(typed) < 10 else 0)
        n = wanted if wanted in ns else next(iter(ns), None)
        if modes and not (before and mode in modes):
            mode = modes[0]
        kinds = [(WORDS.get(name, name), name) for name in modes or WORDS]
        nobody = f"There is nobody to ask yet: {session.nothing_yet}."
        return (
            gr.update(choices=[(images(n), n) for n in ns], value=n, visible=len(ns) > 1),
            gr.update(choices=kinds, value=mode, visible=len(modes) > 1),
            (ns, modes),
            gr.Timer(active=not session.runs),  # until the sweep's first run is finished
            has_seen(n, mode) if session.runs else said(safe(nobody)),
        )

    def has_seen(n: int | None, mode: str) -> str:
        try:
            run = session.run(n, mode)
            made_at = (run.path / "measures.json").stat().st_mtime_ns
            return only_these(run.path, run.headline, run.n, made_at)
        except (ValueError, OSError, KeyError):  # said elsewhere, or its pictures were taken away
            return ""

    def arrive(n: int | None, mode: str, before: object, request: gr.Request) -> object:
        """What the address says is chosen; one answer is ready, whatever it is."""
        found = there(n, mode, before, request)
        return *found, dict(request.query_params).get("prompt", EXAMPLES[0])

    def ask(
        prompt: str, n: int | None, mode: str, noises: float, second: str, request: gr.Request,
        whose: str = "",
    ) -> Iterator[str]:  # fmt: skip
        try:
            prompts = [prompt or "", *([second] if second and second.strip() else [])]
            run, whose = session.run(n, mode), whose or who(request)
            yield from told(
                session, whose, run.path, run.n, prompts, int(noises), instead(run, mode)
            )
        except ValueError as error:
            yield trouble(error)

    def ask_and_wait(prompt: str, n: int, mode: str, noises: float, request: gr.Request) -> str:
        """For programs, to which only the end is of interest."""
        return [*ask(prompt, n, mode, noises, "", request)][-1]

    def ask_at_once(
        prompt: str, n: int | None, mode: str, noises: float, request: gr.Request
    ) -> Iterator[str]:
        """Whoever comes finds an answer. It is nobody's question, so that nobody waits for it."""
        yield from ask(prompt, n, mode, noises, "", request, f"{who(request)}, arriving")

    chosen, asked = [n, mode, shown], [prompt, n, mode, noises, second]
    choice = [n, mode, shown, timer, seen]
    any_n = gr.Number(precision=0, visible=False)  # a program was shown no choice
    gr.on([], ask_and_wait, [prompt, any_n, mode, noises], result, api_name="ask", **MODEL)
    page.load(arrive, chosen, [*choice, prompt], **QUIET).then(
        ask_at_once, asked[:4], ready, **QUIET, **MODEL
    )
    gr.on([tab.select, timer.tick], there, chosen, choice, **QUIET)
    gr.on([n.input, mode.input], has_seen, [n, mode], seen, **QUIET)
    for idea in ideas:  # in the browser, and so before the question below is put together
        idea.click(None, idea, prompt, js="words => words", **QUIET)
    asking = [prompt.submit, second.submit, button.click, *(idea.click for idea in ideas)]
    # What was asked last comes after the one that is being answered; else Gradio drops it unsaid.
    gr.on(asking, ask, asked, result, trigger_mode="always_last", **QUIET, **MODEL)


def watch_part(session: Session, page: gr.Blocks, tab: gr.Tab, timer: gr.Timer) -> None:
    """The network of the fewest pictures and that of the most, from the same noise."""
    gr.Markdown(
        "## Watch the noise\n"
        "It begins with nothing but noise. At every step the network is given what is there so far "
        "and guesses the picture behind it; a little of the noise is replaced by the guess."
    )
    few = gr.HTML(elem_id="watch-few", apply_default_css=False)
    many = gr.HTML(elem_id="watch-many", apply_default_css=False)
    again = gr.Button("Watch again", elem_id="watch-again")

    def watch_noise(request: gr.Request) -> Iterator[tuple[str, ...]]:
        """Not counted as the page's question, so that it may ask another meanwhile."""
        both, mine = ["", ""], f"{who(request)}, watching"
        for k, n in enumerate(dict.fromkeys(session.ns[:1] + session.ns[-1:]) or [None]):
            try:
                run = session.run(n, "shared")
                for html in told(session, mine, run.path, run.n, EXAMPLES[:1], WATCHED):
                    both[k] = said(f"The network of {images(run.n)}:") + html
                    yield tuple(both)
            except ValueError as error:
                both[k] = trouble(error)
                yield tuple(both)

    gr.on([tab.select, again.click], watch_noise, outputs=[few, many], **QUIET, **MODEL)


def instead(run: Finished, mode: str) -> str:
    """Which captions who answers was trained with, where others were asked for."""
    if run.captions == mode:
        return ""
    return (
        f"Captions: {WORDS.get(run.captions, run.captions)}. No network of {images(run.n)} was "
        f"trained with “{WORDS.get(mode, mode)}”."
    )
