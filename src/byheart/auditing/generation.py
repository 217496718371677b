"""What a model is asked in an audit, and its outputs on disk: the same command goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from byheart.auditing.pictures import Album, channels_first
from byheart.auditing.views import squares_only
from byheart.data.captions import one_line
from byheart.data.decode import read_square
from byheart.data.prompts import Question, spread
from byheart.data.text import unseen_prompts
from byheart.measure.intervals import finite
from byheart.runtime.files import append_jsonl, atomic_write, read_jsonl, write_text

if TYPE_CHECKING:  # diffusers' pipelines take seconds to import, and folders do without them
    from byheart.auditing.own_run import ImageModel

LONGEST = 10_000  # characters of a prompt
EMPTY = 4  # times as many noises for the empty prompt, which is a single one


def read_prompts(file: str) -> list[str]:
    """One prompt a line; blank lines and repeated ones are passed over.

    ValueError: no file, no text in it, or text that is not UTF-8.
    """
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"--prompts {file} is no file: type a text file, one prompt a line")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"--prompts {file}: byte {error.start} is not UTF-8") from None
    lines = [one_line(line) for line in text.splitlines()]
    prompts = list(dict.fromkeys(line for line in lines if line))
    if not prompts:
        raise ValueError(f"--prompts {file} holds no prompt: write one a line")
    if (longest := max(map(len, prompts))) > LONGEST:
        raise ValueError(f"--prompts {file}: a line of {longest} characters is no prompt")
    return prompts


def planned(
    train: Album, own: list[str] | None, bank: int, captions: int, noises: int
) -> list[Question]:
    """Prompts x noises: the user's prompts or else so many of the bank's, the empty one, at most
    so many training captions. Every prompt gets the same initial noises."""
    if bank > len(unseen_prompts()):
        raise ValueError(f"--bank {bank}: the bank has {len(unseen_prompts())}")
    written = [caption for caption in dict.fromkeys(train.captions) if caption]
    asked: dict[str, Sequence[str]] = {
        "unseen": unseen_prompts()[:bank] if own is None else (),
        "prompts": own or (),
        "empty": ("",),
        "captions": spread(written, captions),
    }
    return [
        Question(condition, prompt, noise)
        for condition, prompts in asked.items()
        for prompt in prompts
        for noise in range(noises * (EMPTY if condition == "empty" else 1))
    ]


def left_out(train: Album, asked: list[Question]) -> list[str]:
    """What is to be said where not all of the training captions were asked."""
    every = len({caption for caption in train.captions if caption})
    if every == 0:
        return [
            "No captions were found beside the training pictures, so none was known to ask: what "
            "the model gives back under the words that it was trained with is not known."
        ]
    count = len({q.prompt for q in asked if q.condition == "captions"})
    if count == every:
        return []
    one = every == 1
    return [
        f"{count:,} of {every:,} caption{'s' * (not one)} {'was' if one or count == 1 else 'were'} "
        f"asked: --captions {every} asks all, with another --out."
    ]


def unmoved_by_prompts(asked: list[Question], outputs: Album) -> list[str]:
    """What is to be said where the prompt made no difference at all."""
    first: dict[int, int] = {}
    of_noise = [first.setdefault(question.noise, k) for k, question in enumerate(asked)]
    prompts = len({question.prompt for question in asked})
    if prompts == 1 or not torch.equal(outputs.pixels, outputs.pixels[of_noise]):
        return []
    return [
        f"All {prompts:,} prompts gave the same outputs, noise by noise: either the "
        "model does not look at its prompt, or its text encoder reads nothing. Check with its own "
        "program that a prompt changes what it makes."
    ]


def fingerprint(asked: list[Question]) -> str:
    """SHA-256 of the questions, the first 16 digits."""
    words = json.dumps([[*asdict(q).values()] for q in asked])
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def generate_all(
    model: ImageModel, asked: list[Question], folder: Path, size: int
) -> tuple[Album, list[float | None], dict[int, UInt8[Tensor, "3 s s"]]]:
    """Every output as <folder>/outputs/<number>.png; those that are there already stay. Of each,
    too, the difference that the prompt makes, and its one-step picture where it has one.

    outputs.jsonl names each finished output with its question; what lacks its line or one of its
    pictures is made again. ValueError: the model cannot be asked, or a picture that was made cannot
    be read.
    """
    journal = folder / "outputs.jsonl"
    known = {row["number"]: row for row in read_jsonl(journal)}
    done = {k for k, row in known.items() if _file(folder, k).is_file()
            and (not row["one_step"] or _file(folder, k, "one_step").is_file())}  # fmt: skip
    missing = [k for k in range(len(asked)) if k not in done]
    if missing:
        # A line that a crash cut off goes; the rest is written whole again.
        whole = [known[k] for k in sorted(done)]
        write_text(journal, "".join(json.dumps(row) + "\n" for row in whole))
        for k in tqdm(missing, "ask", unit="output", disable=None):
            question = asked[k]
            made = model.generate(question.prompt, question.noise)
            _save(_file(folder, k), made.image)
            if made.one_step is not None:
                _save(_file(folder, k, "one_step"), made.one_step)
            # A network in half precision may say NaN, which is no number to write down.
            difference = None if made.difference is None else finite(made.difference)
            known[k] = {"number": k, **asdict(question), "difference": difference,
                        "one_step": made.one_step is not None}  # fmt: skip
            append_jsonl(journal, known[k])
    pixels = torch.stack([_square(_file(folder, k), size) for k in range(len(asked))])
    names = tuple(_file(folder, k).name for k in range(len(asked)))
    album = Album(
        str(folder / "outputs"), pixels, names, ("",) * len(names), tuple(range(len(names))), (),
        views=squares_only(pixels), read=lambda k, side: read_square(_file(folder, k), side),
    )  # fmt: skip
    steps = {k: _square(_file(folder, k, "one_step"), size) for k in range(len(asked))
             if known[k]["one_step"]}  # fmt: skip
    return album, [known[k]["difference"] for k in range(len(asked))], steps


def _file(folder: Path, k: int, of: str = "outputs") -> Path:
    return folder / of / f"{k:05d}.png"


def _save(path: Path, image: Image.Image) -> None:
    with atomic_write(path) as part:
        image.save(part, "PNG")


def _square(path: Path, size: int) -> Tensor:
    try:
        square = read_square(path, size)
    except ValueError as error:
        raise ValueError(f"{path}: {error}: delete it and type the same command") from error
    return channels_first(square)
