"""`byheart audit`: are a model's outputs copies of its training pictures?

    byheart.audit("my_photos", outputs="generated", held_out="other_photos")

pictures -> (ask the model) -> judge -> search for altered copies -> (show the model pictures)
-> page, top to bottom.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from byheart.auditing.arguments import checked, command
from byheart.auditing.comparison import Comparison, Model
from byheart.auditing.folder import claimed, same_folders
from byheart.auditing.generation import (
    fingerprint,
    generate_all,
    left_out,
    planned,
    read_prompts,
    unmoved_by_prompts,
)
from byheart.auditing.judging import altered_copies, calibrate, copies_of, judge_all
from byheart.auditing.matching import SEARCHES
from byheart.auditing.measures import (
    AUDIT_COLUMNS,
    OUTPUT_COLUMNS,
    audit_rows,
    measures_of,
    output_rows,
    table,
)
from byheart.auditing.pictures import Album, Tiles, channels_first, open_album
from byheart.auditing.reference import alike, bad_captions, really_unseen, reference_of
from byheart.auditing.report import worst, write_audit_page
from byheart.auditing.views import Looks, squares_only
from byheart.data.prompts import Question
from byheart.runtime.files import write_json, write_text

if TYPE_CHECKING:
    from byheart.measure.sscd import Descriptor


@dataclass(frozen=True)
class Audit:
    """What was found: measures.json, and audit.csv's rows, the most exposed picture first."""

    measures: dict[str, Any]
    rows: list[dict[str, Any]]
    folder: Path
    fail_above: float | None = None

    @property
    def page(self) -> Path:
        return self.folder / "audit.html"

    @property
    def failed(self) -> bool:
        """Whether, under some kind of prompt, more than `fail_above` of the outputs are copies,
        plain or altered: the lower end of the 95 % interval is above it. So a rate that a few
        outputs merely suggest fails nobody. With 0 a single copy does."""
        if self.fail_above is None:
            return False
        return worst(self.measures, self.fail_above)[1] > self.fail_above


def audit(
    train: str | Path,
    outputs: str | Path | None = None,
    held_out: str | Path | None = None,
    pipeline: str | Path | None = None,
    prompts: str | Path | None = None,
    lora: str | Path | None = None,
    *,
    out: str | Path | None = None,
    size: int | None = None,
    bank: int | None = None,
    captions: int | None = None,
    noises: int | None = None,
    seed: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    side: int | None = None,
    device: str | None = None,
    half: bool = False,
    descriptor: str | Path | None = None,
    gap: bool = False,
    cycles: int | None = None,
    whole: bool = False,
    allow_pickle: bool = False,
    fail_above: float | None = None,
) -> Audit:
    """Compare a folder of outputs, or what a pipeline makes, with the training pictures.

    Every argument is the flag of the same name (`byheart audit --help`). Writes audit.html,
    audit.csv, outputs.csv and measures.json below `out` (outputs/audit/<name of the training
    folder>); the same call goes on where it was stopped, and with another held_out, size or
    fail_above it judges the outputs that are there anew.

    ValueError: what the user can mend; nothing is written, unless a model fails only while it is
    asked or a picture that it made was damaged since.
    """
    typed = checked(locals())
    folder = Path(typed.out) if typed.out is not None else default_folder(Path(typed.train))
    notes = _as_sampled(typed) + same_folders(typed)
    embed = _descriptor(typed.descriptor)

    # pictures
    tiles: Tiles = "one" if typed.whole else "pictures"
    own = read_prompts(typed.prompts) if typed.prompts else None
    album = open_album(typed.train, typed.size, "--train")
    given = open_album(typed.outputs, typed.size, "--outputs", tiles) if typed.outputs else None
    unseen = open_album(typed.held_out, typed.size, "--held-out") if typed.held_out else None
    for one in (album, given, unseen):
        if one is not None:
            print(one.line, flush=True)
    other, said = really_unseen(unseen, album)
    reference, real, more = reference_of(album, other)
    notes += alike(album) + said + more + bad_captions([album, given])
    notes += [f"{words}." for one in (album, given, unseen) if one for words in one.notes]

    with claimed(folder, typed) as record:
        # ask the model
        if given is None:
            asked, given, model, more = _ask(typed, album, own, folder, record)
            notes += more
        else:
            asked = [Question("folder", name, 0) for name in given.names]
            model = None
            record("")

        albums = {"train": album, "outputs": given, "real": real}
        of_train, of_outputs, of_real = (_looks(*each, embed) for each in albums.items())
        # Embedded photographs calibrate, and are not what an output may be nearer to.
        held = of_real if len(reference.images) else of_real.only([])

        # judge -> search for altered copies
        bar = partial(tqdm, unit="output", disable=None)
        with bar(desc="judge", total=len(given)) as done:
            judged = judge_all(given.pixels, album.pixels, reference, done.update)
        missing = ~judged.findings.copied
        with bar(desc="calibrate") as done:
            calibration = calibrate(of_train, of_real, album.group, done.update)
        with bar(desc="search", total=int(missing.sum()) * len(SEARCHES)) as done:
            altered = altered_copies(of_outputs, missing, of_train, held, calibration, done.update)
        compared = Comparison(
            album, given, unseen, asked, reference, calibration, judged, altered, model, typed.seed
        )  # fmt: skip

        # show the model pictures
        def copies_in(pictures: torch.Tensor) -> list[int]:
            """The training images that some of them are copies of, plain or altered."""
            plain = judge_all(pictures, album.pixels, reference).findings
            ours = Looks(pictures, squares_only(pictures), embed(pictures) if embed else None)
            more = altered_copies(ours, ~plain.copied, of_train, held, calibration)
            return copies_of(plain, more)

        seen = _shown_to(model, compared, other, copies_in, typed)
        if model and model.shown is None and (typed.gap or typed.cycles):
            notes.append("--gap and --cycles: not measured, since the model is no UNet with the "
                         "usual noise schedule.")  # fmt: skip

        # page
        measures = measures_of(compared) | seen | {"notes": notes, "command": command(typed)}
        rows, lines = audit_rows(compared), output_rows(compared)
        write_text(folder / "audit.csv", table(rows, AUDIT_COLUMNS))
        write_text(folder / "outputs.csv", table(lines, OUTPUT_COLUMNS))
        write_json(folder / "measures.json", measures)
        columns = {"audit.csv": AUDIT_COLUMNS, "outputs.csv": OUTPUT_COLUMNS}
        write_audit_page(folder, measures, rows, album.squares, given.squares, columns)
    return Audit(measures, rows, folder, fail_above)


def default_folder(train: Path) -> Path:
    name = re.sub(r"[^\w.-]+", "-", train.expanduser().resolve().name).strip(".-") or "train"
    return Path("outputs") / "audit" / name


def _as_sampled(typed: Namespace) -> list[str]:
    if typed.pipeline is None or not Path(typed.pipeline).is_dir():
        return []
    # Here, since diffusers' pipelines take seconds to import and folders do without them.
    from byheart.auditing.own_run import as_sampled

    return as_sampled(typed)


def _ask(
    typed: Namespace,
    train: Album,
    own: list[str] | None,
    folder: Path,
    record: Callable[[str], None],
) -> tuple[list[Question], Album, Model, list[str]]:
    """The model's outputs, made or found, and what is to be said of it. The model is opened first:
    what cannot be opened leaves nothing behind."""
    from byheart.auditing.own_run import open_model  # as above

    asked = planned(train, own, typed.bank, typed.captions, typed.noises)
    model = open_model(typed, [question.prompt for question in asked], folder / ".cache")
    if not model.conditional:
        if own is not None:
            raise ValueError(f"--prompts: {typed.pipeline} takes no prompt: leave it away")
        # Only the noise differs. As many outputs as the bank would give.
        asked = [Question("empty", "", noise) for noise in range(typed.noises * typed.bank)]
    record(fingerprint(asked))
    outputs, differences, one_step = generate_all(model, asked, folder, train.pixels.shape[-1])
    notes = [*model.notes, *unmoved_by_prompts(asked, outputs)]
    notes += left_out(train, asked) if model.conditional else []
    shown = model.shown if typed.gap or typed.cycles else None
    return asked, outputs, Model(model.parameters, differences, one_step, shown), notes


def _descriptor(path: str | None) -> Descriptor | None:
    if path is None:
        return None
    from byheart.measure.sscd import load_sscd  # transformers' ResNet: only where it is asked for

    try:
        return load_sscd(path)
    except ValueError as error:
        raise ValueError(f"--descriptor {error}") from None


def _shown_to(
    model: Model | None,
    compared: Comparison,
    unseen: Album | None,
    copies_in: Callable[[torch.Tensor], list[int]],
    typed: Namespace,
) -> dict[str, Any]:
    """What a model does with pictures that it is shown: `denoising` and `cycles`."""
    found: dict[str, Any] = {"denoising": None, "cycles": None}
    if model is None or model.shown is None:
        return found
    from byheart.auditing.inside import cycles, denoising  # diffusers

    if typed.gap:
        found["denoising"] = denoising(model.shown, compared.train, unseen, typed.seed)
    if typed.cycles:
        albums = {"outputs": compared.outputs, "train": compared.train}
        albums |= {"held_out": unseen} if unseen is not None else {}
        found["cycles"] = cycles(
            model.shown, albums, copies_in, compared.reference.near, typed.cycles, typed.seed
        )
    return found


def _looks(name: str, album: Album, embed: Descriptor | None) -> Looks:
    """The pictures as wholes; described at SSCD's own size, where a file is one picture."""
    if embed is None:
        return Looks(album.pixels, album.views)
    from byheart.measure.sscd import SIDE  # imported already, by whoever made `embed`

    # Of no picture: its length, if nothing else.
    rows = [embed(torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8))[:0]]
    for k in tqdm(range(len(album)), f"describe {name}", unit="picture", disable=None):
        square = album.pixels[k] if album.read is None else channels_first(album.read(k, SIDE))
        rows.append(embed(square[None]))
    return Looks(album.pixels, album.views, torch.cat(rows))
