"""The ledger as a calculator: the argument's numbers, to be moved by hand."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import gradio as gr

from byheart.lesson.html import safe, said, trouble
from byheart.lesson.queue import QUIET
from byheart.lesson.session import Session
from byheart.measure.ledger import (
    BITS_PER_VALUE,
    Ledger,
    Line,
    lines,
    readable,
    readable_bits,
    stable_diffusion,
)
from byheart.show.runs import Finished

JPEG_ASSUMED = 10.0  # times smaller than raw pixels, at sizes where no run has measured it
PRECISIONS = (32, 16, 8, 4)  # bits of one parameter
LARGEST = 10**18
GROUPED = re.compile("[0-9]{1,3}([, ][0-9]{3})+")
MAIN = {"ratio", "parameter_bits_per_image", "jpeg.bits_per_parameter", "chance.any_bits"}
SETTLED = 0.5  # seconds after which the fields that were filled in have asked for their answers


class Measured(NamedTuple):
    """The runs with the most images that have measured what a calculator cannot."""

    jpeg: Finished | None  # raw bits / bits of the smallest JPEGs as close as the model
    chance: Finished | None  # how likely an unrelated picture is a copy, or why that is not known


def run_numbers(runs: Sequence[Finished]) -> Ledger:
    """Those of the run with the most images; where none is finished yet the published ones, so that
    there is something to move."""
    if not runs:
        return stable_diffusion()
    m = max(runs, key=lambda run: run.n).measures
    return Ledger(m["parameters"], m["n_images"], 3 * m["image_size"] ** 2)


def measured(runs: Sequence[Finished]) -> Measured:
    """runs: in the order of n."""
    jpeg = chance = None
    for run in runs:
        found = run.measures["ledger"]["memorized"].get("jpeg") or {}
        if found.get("compression") and not found.get("out_of_reach"):
            jpeg = run
        collision = run.measures["ledger"]["chance_collision"]
        if collision and (collision["bits"] is not None or not _bits(chance)):
            chance = run
    return Measured(jpeg, chance)


def _bits(run: Finished | None) -> float | None:
    """Of the chance collision that a run has measured."""
    return run.measures["ledger"]["chance_collision"]["bits"] if run else None


def numbers(images: object, size: object, parameters: object, precision: object) -> Ledger:
    """What was typed, whole numbers; size: pixels a side. ValueError: which of them cannot be, and
    what is allowed."""
    found = []
    named = {"images": images, "size": size, "parameters": parameters, "precision": precision}
    for name, value in named.items():
        typed = str(value if value is not None else "").strip()
        # Elsewhere 2,3 is a little more than two: only what parts thousands is taken out.
        words = re.sub("[, ]", "", typed) if GROUPED.fullmatch(typed) else typed
        try:
            number = float(words)
            if not (1 <= number <= LARGEST and number == int(number)):
                raise ValueError
        except (ValueError, OverflowError):
            shown = typed[:30] or "nothing"
            raise ValueError(
                f"{name} is {shown}: type a whole number from 1 to 10^18, such as 2.3e9 or 2,300"
            ) from None
        found.append(int(words) if words.isdecimal() else int(number))
    return Ledger(found[2], found[0], 3 * found[1] ** 2, found[3])


def account(made: Ledger, known: Measured) -> list[Line]:
    """The ledger's lines, with JPEG's and chance's among them."""
    own = [line for line in lines(made) if line.value is not None]
    return [*own, *_jpeg(made, known), *_chance(made, known)]


def jpeg_shrinks(made: Ledger, known: Measured) -> tuple[float, str]:
    """How many times smaller than raw pixels, and how that is known. Small pictures shrink less."""
    run = known.jpeg
    if run and made.dimensions == 3 * (size := run.measures["image_size"]) ** 2:
        times = run.measures["ledger"]["memorized"]["jpeg"]["compression"]
        return times, f"measured on what {run.path.name} gave back, {size} px"
    return JPEG_ASSUMED, "assumed, as is usual for photographs"


def _jpeg(made: Ledger, known: Measured) -> list[Line]:
    times, how = jpeg_shrinks(made, known)
    bits = made.raw_bits / times
    return [
        _line("jpeg.times", "JPEG is smaller than raw pixels by", times, how),
        Line("jpeg.bits", "bits of all training images as JPEG", bits, readable_bits(bits),
             "bits of the raw training images / the line above", False),
        _line("jpeg.bits_per_parameter", "JPEG bits per parameter", bits / made.parameters,
              "what each parameter would have to hold to store every image as JPEG"),
    ]  # fmt: skip


def _chance(made: Ledger, known: Measured) -> list[Line]:
    run, bits = known.chance, _bits(known.chance)
    if run is None or bits is None:
        why = "no finished run has measured it"
        if run is not None:
            why = f"not measured: {run.measures['ledger']['chance_collision']['reason']}"
        return [_line("chance.any_bits", "chance collision with any of them, bits", None, why)]
    at = f"pictures of {run.measures['image_size']} px"
    return [
        _line("chance.bits", f"chance collision with one image, bits ({at})", bits,
              "−log2 of the chance that an unrelated picture passes for a copy of a given one, "
              "measured on this sweep; how it moves with the size is not known, so it stays as it "
              "is when that is changed"),
        _line("chance.any_bits", f"chance collision with any of them, bits ({at})",
              max(0.0, bits - math.log2(made.n_images)),
              f"the line above − log2({made.n_images:,} images), 0 at the least"),
    ]  # fmt: skip


def _line(key: str, label: str, value: float | None, how: str) -> Line:
    return Line(key, label, value, readable(value), how, False)


def shown(made: Ledger, known: Measured) -> str:
    """The calculator's answer as HTML, Stable Diffusion's column beside it."""
    beside = {line.key: line.text for line in account(stable_diffusion(), known)}
    rows = "".join(
        f"<tr{' class=main' if line.key in MAIN else ''}><th scope=row>{safe(line.label)}</th>"
        f'<td data-of="yours">{safe(line.text)}</td>'
        f'<td data-of="Stable Diffusion">{safe(beside.get(line.key, "n/a"))}</td>'
        f"<td class=how>{safe(line.how)}</td></tr>"
        for line in account(made, known)
    )
    return (
        f"{said(safe(sentence(made, known)))}"
        '<div class="scroll" tabindex="0" role="region" aria-label="the ledger"><table>'
        '<thead><tr><th scope="col">line</th><th scope="col">yours</th>'
        '<th scope="col">Stable Diffusion</th><th scope="col">how</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def sentence(made: Ledger, known: Measured) -> str:
    """Whether the pictures could be in there at all."""
    each, raw = made.parameter_bits_per_image, made.dimensions * BITS_PER_VALUE
    jpeg = raw / jpeg_shrinks(made, known)[0]
    could = (
        f"room for every picture as a JPEG, {readable(each / jpeg)} times over"
        if each >= jpeg
        else f"room for {readable(100 * each / jpeg)} % of a JPEG of each picture"
    )
    return (
        f"{readable_bits(each)} of parameters for each training image, which has "
        f"{readable_bits(raw)} raw and about {readable_bits(jpeg)} as JPEG: {could}."
    )


def ledger_part(session: Session, page: gr.Blocks, tab: gr.Tab, timer: gr.Timer) -> None:
    gr.Markdown(
        "## The ledger\n"
        "Can the pictures be in there at all? Bits of parameters against bits of pictures: change "
        "any number."
    )
    with gr.Row():
        images = gr.Textbox(label="training images", elem_id="images", min_width=150)
        size = gr.Textbox(label="their side in pixels", elem_id="size", min_width=150)
        parameters = gr.Textbox(label="parameters", elem_id="parameters", min_width=150)
        precision = gr.Radio(
            [(f"{bits} bits", bits) for bits in PRECISIONS], value=32, label="a parameter has",
            elem_id="precision", min_width=220,
        )  # fmt: skip
    with gr.Row():
        stable = gr.Button("Stable Diffusion's numbers", elem_id="stable")
        own = gr.Button("This sweep's numbers", elem_id="own")
    table = gr.HTML(elem_id="ledger", apply_default_css=False)
    typed = [images, size, parameters, precision]

    def count(*words: object) -> str:
        try:
            html = shown(numbers(*words), measured(session.runs))
        except ValueError as error:
            return trouble(error)
        yet = safe(f"There are no numbers of this sweep: {session.nothing_yet}.")
        return html if session.runs else f'<p class="faint">{yet}</p>{html}'

    def filled(known: Callable[[], Ledger]) -> tuple[object, ...] | dict[object, str]:
        try:
            found = known()
        except ValueError as error:
            return {table: trouble(error)}
        whole = (found.n_images, math.isqrt(found.dimensions // 3), found.parameters)
        words = (*(f"{number:,}" for number in whole), found.precision_bits)
        return (*words, count(*words))

    everything = [*typed, table]
    from_runs = gr.on([page.load, own.click], lambda: filled(lambda: run_numbers(session.runs)),
                      outputs=everything, **QUIET)  # fmt: skip
    published = stable.click(lambda: filled(stable_diffusion), outputs=everything, **QUIET)
    # Every field that is filled in asks for its own answer, with the others as they were, and
    # Gradio does not see to it that the last one comes last: so it is asked for once more.
    for filling in (from_runs, published):
        filling.then(lambda: time.sleep(SETTLED), **QUIET).then(count, typed, table, **QUIET)
    # Not `input`: Gradio 6.31 keeps quiet about the first key after numbers were filled in.
    gr.on([item.change for item in typed], count, typed, table, trigger_mode="always_last", **QUIET)
