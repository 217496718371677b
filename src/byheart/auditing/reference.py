"""What an audit measures with: held-out pictures, or what takes their place and what that costs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from byheart.auditing.judging import own_reference
from byheart.auditing.pictures import NEAR_DUPLICATE, Album, photographs
from byheart.measure.copying import Reference
from byheart.measure.distance import nearest

FEWEST = 4  # distinct pictures that a verdict may stand on: two of them to judge the others by


def really_unseen(unseen: Album | None, train: Album) -> tuple[Album | None, list[str]]:
    """The held-out pictures that are no training pictures and not each other's near-duplicates."""
    if unseen is None:
        return None, []
    known = nearest(unseen.pixels, train.pixels).rmse < NEAR_DUPLICATE
    kept = [k for k in unseen.distinct if not known[k]]
    notes = []
    if overlap := int(known.sum()):
        notes.append(_trained_on(overlap, len(unseen)))
    if doubles := len(unseen) - len(unseen.distinct):
        which = "picture is a near-duplicate of another"
        if doubles > 1:
            which = "pictures are near-duplicates of others"
        notes.append(f"{doubles} held-out {which}: left out.")
    if len(kept) < FEWEST:
        notes.append(
            f"{len(kept)} held-out picture{'s' * (len(kept) != 1)} of use, and {FEWEST} are needed "
            "to tell chance by: judged as without any."
        )
        return None, notes
    return unseen.only(kept), notes


def _trained_on(overlap: int, count: int) -> str:
    which = f"{overlap} of the {count} held-out pictures"
    if count == 1:
        which = "The only held-out picture"
    what, they = ("is a training picture", "it is") if overlap == 1 else (
        "are training pictures", "they are")  # fmt: skip
    return (
        f"{which} {what} too, or all but the same (RMSE below {NEAR_DUPLICATE:g}): {they} not held "
        f"out, and {'was' if overlap == 1 else 'were'} left out of the comparison."
    )


def alike(train: Album) -> list[str]:
    """What is to be said of a training set that is mostly one picture."""
    head, count = Counter(train.group).most_common(1)[0]
    if count < 3 or 2 * count <= len(train):
        return []
    return [
        f"{count} of the {len(train)} training pictures are near-duplicates of one, "
        f"{train.names[head]}: they differ by less than {NEAR_DUPLICATE:g} RMSE. A copy of one of "
        "them cannot be told from a copy of another, and held-out pictures that are as near are "
        "taken for training pictures and left out: so whether other pictures of this kind would "
        "pass by chance cannot be told."
    ]


def reference_of(train: Album, unseen: Album | None) -> tuple[Reference, Album, list[str]]:
    """The reference, the real pictures that calibrate the searches (none: the training pictures),
    and what has to be said of it."""
    none = train.only([])
    if unseen is not None:
        words = f"{len(unseen)} held-out pictures"
        return own_reference(train.pixels, unseen.pixels, words), unseen, []
    distinct = train.distinct
    if len(distinct) >= FEWEST:
        words = f"the {len(distinct)} distinct training pictures themselves, each left out once"
        return own_reference(train.pixels[distinct], none.pixels, words), none, [
            "No pictures were held out, so how often a picture that was never trained on would "
            "pass for a copy is unknown, and a source whose pictures are alike cannot be told from "
            "a model that copies. What counts as near, and what as novel or broken, was judged by "
            "the training pictures' distances to each other. Add --held-out <pictures of the same "
            "kind that were not trained on> to know: the same outputs are judged anew."
        ]  # fmt: skip
    photos = photographs(train.pixels.shape[-1])
    away = nearest(photos.pixels, train.pixels).rmse >= NEAR_DUPLICATE
    kept = photos.only(away.nonzero()[:, 0].tolist())
    words = f"{len(kept)} embedded photographs, for want of pictures of the same kind"
    made = own_reference(train.pixels, kept.pixels, words)
    return replace(made, images=none.pixels), kept, [
        f"With {len(distinct)} distinct training picture{'s' * (len(distinct) > 1)} and nothing "
        "held out, distances were measured against embedded photographs, which may be of quite "
        "another kind. Exact and very near copies are told all the same; what is novel, and what "
        "would pass by chance, is not. Add --held-out to know: the same outputs are judged anew."
    ]  # fmt: skip


def bad_captions(albums: list[Album | None]) -> list[str]:
    """What is to be said of captions that cannot be read; their pictures count all the same."""
    lost = [words for album in albums if album for words in album.bad_captions]
    if not lost:
        return []
    shown = "; ".join(lost[:5]) + ("; …, all in measures.json" if len(lost) > 5 else "")
    return [f"{len(lost)} caption{'s' * (len(lost) > 1)} could not be read, left out: {shown}."]
