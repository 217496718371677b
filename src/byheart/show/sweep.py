"""All runs of a folder in one page: curve.csv, the figures, report.html. From files, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from markupsafe import Markup

from byheart.runtime.files import write_bytes, write_text
from byheart.show.groups import groups, settings
from byheart.show.halves import pairs_of
from byheart.show.pages import inline, template
from byheart.show.panels import across, figures
from byheart.show.pictures import above_another, wall, without_pixels
from byheart.show.plots import drawn, element
from byheart.show.runs import Finished, finished_runs
from byheart.show.table import COLUMNS, table
from byheart.show.trends import lead, sentences
from byheart.show.values import AXES
from byheart.show.words import CONDITIONS

TITLES = {
    "curve": "The curve",
    "study": "What the setting changes",
    "kinds": "Copied, blended, broken, novel",
    "generalization": "New, or near to what it saw",
    "coverage": "How many of the images come out",
    "prompt": "What the prompt does",
    "halves": "Two models that share no image",
    "denoising": "Cleaning what it has seen, and what it has not",
    "tolerance": "How wide is “the same picture”?",
    "bits": "How much is stored",
    "trajectories": "While it learns",
    "onset": "When drawing begins, and when copying",
}
FIGURE_KINDS = ("svg", "png", "pdf")


def write_curve(folder: Path, last: Path | None = None, against: str = "n") -> Path:
    """Draw everything over the finished runs of `folder`, outputs/<name>. Returns report.html.

    Writes curve.csv, curve.svg, .png and .pdf, the other figures under figures/, and report.html;
    the same runs give the same bytes. ValueError: no finished run there, or one that another
    version left; then nothing is written.

    last: a run that is finished but for its own report, so that a process killed in between draws
        the curve again. The figures under figures/ are then drawn as SVG only: the others take as
        long again, and a class looks at the page.
    against: steps or exposures: the figures against n once more, as <figure>-against-<this>. They
        are not on the page; once they are there, they are drawn again with the others.
    """
    runs = finished_runs(folder, last)
    attributions = [run.measures["images"]["attribution"] for run in runs]
    pairs, picture = pairs_of(runs), wall(runs)
    alike = above_another([pair.seen for pair in pairs]) if pairs else None
    text, made, title = table(runs, pairs), {}, _compute(runs)
    for axis in AXES:
        if axis in ("n", against) or (folder / f"{_named('curve', axis)}.svg").exists():
            for name, shown in figures(runs, pairs, axis).items():
                kinds = FIGURE_KINDS if name == "curve" or not last else FIGURE_KINDS[:1]
                made[_named(name, axis)] = drawn(
                    shown, (*kinds, "text"), across(name, shown), title=title
                )
    page = template("sweep.html").render(
        name=folder.name,
        runs=runs,
        variants={run.path: group.variant for group in groups(runs) for run in group.runs},
        conditions=CONDITIONS,
        lead=lead(runs),
        sentences=sentences(runs),
        figures={key: Markup(element(made[key]["text"])) for key in TITLES if key in made},
        titles=TITLES,
        columns=COLUMNS,
        wall=picture and inline(picture),
        alike=alike and inline(alike),
        without_pixels=len(without_pixels(runs)),
        attributions=[words for words in dict.fromkeys(attributions) if words],
    )
    write_text(folder / "curve.csv", text)
    for name, axis in product(TITLES, AXES):
        place = folder if name == "curve" else folder / "figures"
        for kind in FIGURE_KINDS:
            file = _named(name, axis)
            _write(place / f"{file}.{kind}", made.get(file, {}).get(kind))
    _write(folder / "figures" / "wall.png", picture)
    _write(folder / "figures" / "halves-pairs.png", alike)
    write_text(folder / "report.html", page)
    return folder / "report.html"


def _compute(runs: Sequence[Finished]) -> str:
    """What was shown to which network and how often: the line above every figure."""

    def range_of(values: Sequence[int]) -> str:
        low, high = min(values), max(values)
        return f"{low:,}" if low == high else f"{low:,} to {high:,}"

    every = [settings(run) for run in runs]
    pictures = {one.get("images.style") or one.get("images.source") or "images" for one in every}
    networks = {str(one.get("unet.preset") or "a network") for one in every}
    measures = [run.measures for run in runs]
    batches = [int(one["fit.batch"]) for one in every if "fit.batch" in one]
    of = f" of {range_of(batches)}" if batches else ""
    return (
        f"{', '.join(sorted(pictures))}, {range_of([m['image_size'] for m in measures])} px; "
        f"n = {range_of([run.n for run in runs])}; {', '.join(sorted(networks))}, "
        f"{range_of([m['parameters'] for m in measures])} parameters; "
        f"{range_of([m['steps'] for m in measures])} steps{of}"
    )


def _named(name: str, axis: str) -> str:
    return name if axis == "n" else f"{name}-against-{axis}"


def _write(path: Path, content: bytes | None) -> None:
    """None: the runs have nothing to show there, so neither may an older figure."""
    if content is None:
        path.unlink(missing_ok=True)
        return
    write_bytes(path, content)
