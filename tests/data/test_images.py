"""The nested split, the held-out set, near-duplicates, and the hash of the contents."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from byheart.data import images
from byheart.data.images import content_hash, drop_near_duplicates, load_images
from byheart.data.sources import Pictures


def settings(**changes: object) -> SimpleNamespace:
    """The section `images` of a configuration: photographs, unless a test says otherwise."""
    plain = {"source": "photos", "size": 16, "seed": 0, "held_out": 0, "near_duplicate": 0.0}
    none = {"path": None, "repo": None, "unreadable": "refuse"}
    return SimpleNamespace(**(plain | none | changes))


def of_folder(folder: Path, **changes: object) -> SimpleNamespace:
    return settings(source="folder", path=str(folder), **changes)


@pytest.fixture(scope="module")
def noise_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures of noise, 00.png to 09.png, 8 x 8 pixels."""
    random, folder = np.random.default_rng(0), tmp_path_factory.mktemp("noise")
    for index in range(10):
        pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02}.png")
    return folder


def test_halves_are_disjoint_nested_and_share_the_held_out_set(noise_folder: Path) -> None:
    config = of_folder(noise_folder, held_out=3)
    whole = load_images(config, 7, Path())
    for n in (1, 2, 3):
        a, b = (load_images(config, n, Path(), split) for split in ("a", "b"))
        assert a.train_names == whole.train_names[0:7:2][:n]
        assert b.train_names == whole.train_names[1:7:2][:n]
        assert torch.equal(a.held_out, b.held_out) and torch.equal(a.held_out, whole.held_out)
    with pytest.raises(ValueError, match="split=b leaves 3 of 7 pictures: type n_images=3"):
        load_images(config, 4, Path(), "b")


def test_training_sets_are_nested_and_the_held_out_set_never_changes(noise_folder: Path) -> None:
    config = of_folder(noise_folder, held_out=3)
    sets = [load_images(config, n, Path()) for n in (1, 2, 7)]
    for small, large in pairwise(sets):
        n = len(small.train)
        assert torch.equal(small.train, large.train[:n])
        assert small.train_names == large.train_names[:n]
        assert small.train_captions == large.train_captions[:n]
        assert torch.equal(small.held_out, large.held_out)
        assert small.held_out_names == large.held_out_names
    largest = sets[-1]
    assert largest.train.shape == (7, 3, 16, 16) and largest.train.dtype == torch.uint8
    assert largest.held_out.shape == (3, 3, 16, 16)
    assert len({*largest.train_names, *largest.held_out_names}) == 10
    assert len(largest.held_out_captions) == 3 and largest.source == "folder"


def test_a_picture_stands_in_its_channels_rows_and_columns(tmp_path: Path) -> None:
    pixels = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    config = of_folder(tmp_path, size=8)
    loaded = load_images(config, 1, Path())
    assert loaded.train[0].tolist() == pixels.transpose(2, 0, 1).tolist()
    assert loaded.held_out.shape == (0, 3, 8, 8) and loaded.attribution == ""


def test_the_seed_decides_the_order_and_nothing_else_does(noise_folder: Path) -> None:
    def order(**changes: object) -> tuple[str, ...]:
        config = of_folder(noise_folder, **changes)
        return load_images(config, 10, Path()).train_captions

    assert order() == order() == order(size=8)
    assert order()[:5] == ("07", "08", "01", "05", "03")  # Python's shuffle of 0 to 9, seed 0
    assert order(seed=1) != order() and sorted(order(seed=1)) == sorted(order())


@pytest.mark.parametrize(
    ("held_out", "count"),
    [(0, 0), (0.0, 0), (0.19, 1), (0.2, 2), (0.29, 2), (0.3, 3), (1, 1), (3.0, 3), (9, 9)],
)
def test_held_out_is_a_fraction_below_1_and_a_number_from_1_on(
    noise_folder: Path, held_out: float, count: int
) -> None:
    config = of_folder(noise_folder, size=8, held_out=held_out)
    loaded = load_images(config, 1, Path())
    assert len(loaded.held_out) == count
    full = load_images(of_folder(noise_folder, size=8), 10, Path())
    assert loaded.held_out_names == full.train_names[10 - count :]


def test_a_fraction_is_taken_as_it_is_typed() -> None:
    assert 0.29 * 100 < 29
    assert images._held_out(settings(held_out=0.29), 100) == 29


@pytest.mark.parametrize(
    ("n", "held_out", "message"),
    [
        (6, 5, "n_images=6 but {}, 5 of them held out: type n_images=5 or less, or {}=0"),
        (11, 5, "n_images=11 but {}, 5 of them held out: type n_images=5 or less"),
        (11, 0, "n_images=11 but {}: type n_images=10 or less"),
        (1, 50, "n_images=1 but {}, 10 of them held out: type {}=0"),
        (11, 50, "n_images=11 but {}, 10 of them held out: type a smaller {}"),
    ],
)
def test_more_pictures_than_there_are_says_what_to_type(
    noise_folder: Path, n: int, held_out: float, message: str
) -> None:
    config = of_folder(noise_folder, held_out=held_out)
    with pytest.raises(ValueError) as error:
        load_images(config, n, Path())
    assert str(error.value) == message.format("images=folder has 10 pictures", "images.held_out")


def test_near_duplicates_leave_before_the_split_and_are_listed(tmp_path: Path) -> None:
    for index, grey in enumerate((0, 10, 100, 115, 200)):  # 10 / 255 = 0.039, 15 / 255 = 0.059
        Image.new("L", (8, 8), grey).save(tmp_path / f"{index}.png")
    config = of_folder(tmp_path, near_duplicate=0.05)
    loaded = load_images(config, 4, Path())
    assert set(loaded.train_names) == {"0.png", "2.png", "3.png", "4.png"}
    assert loaded.near_duplicates == ("1 ~ 0",)
    with pytest.raises(
        ValueError, match="has 5 pictures, 1 of them near-duplicates: type n_images=4"
    ):
        load_images(config, 5, Path())
    (tmp_path / "metadata.csv").write_text(
        "file_name,text\n" + "".join(f"{index}.png,a photo\n" for index in range(5))
    )
    assert load_images(config, 4, Path()).near_duplicates == ("1.png ~ 0.png",)


def test_the_threshold_itself_is_no_near_duplicate() -> None:
    pair = np.zeros((2, 8, 8, 3), np.uint8)
    pair[1] = 51  # RMSE exactly 0.2
    assert drop_near_duplicates(pair, 0.2) == ([0, 1], [])
    assert drop_near_duplicates(pair, 0.2001) == ([0], [(1, 0)])
    assert drop_near_duplicates(np.zeros((3, 8, 8, 3), np.uint8), 0.0) == ([0, 1, 2], [])


def test_blocks_give_what_comparing_one_by_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    motifs = random.integers(0, 256, (12, 1, 1, 3)) + random.integers(-60, 60, (12, 16, 16, 3))
    noisy = motifs[random.integers(0, 12, 90)] + random.integers(-40, 40, (90, 16, 16, 3))
    batch = noisy.clip(0, 255).astype(np.uint8)
    kept: list[int] = []
    gone: list[tuple[int, int]] = []
    for index, image in enumerate(batch / 255):
        apart = [float(np.sqrt(((image - batch[other] / 255) ** 2).mean())) for other in kept]
        if apart and min(apart) < 0.12:
            gone.append((index, kept[int(np.argmin(apart))]))
        else:
            kept.append(index)
    assert 12 < len(kept) < 80
    for size in (7, 90, 1000):
        monkeypatch.setattr(images, "BLOCK", size)
        assert drop_near_duplicates(batch, 0.12) == (kept, gone)


def test_no_pair_of_emoji_below_the_threshold_is_left(all_emoji: Pictures) -> None:
    kept, gone = drop_near_duplicates(all_emoji.small, 0.10)
    assert len(kept) == 1385 and len(gone) == 78
    flat = torch.from_numpy(all_emoji.small[kept]).reshape(len(kept), -1).double() / 255
    apart = torch.cdist(flat, flat) / flat.shape[1] ** 0.5
    assert float((apart + 9 * torch.eye(len(kept))).min()) >= 0.10
    clocks = [i for i in kept if all_emoji.captions[i].startswith("clock face")]
    assert len(clocks) == 2


def test_emoji_train_and_are_held_out_with_their_attribution(
    all_emoji: Pictures, emoji_cache: Path
) -> None:
    config = settings(source="emoji", size=64, held_out=385, near_duplicate=0.10, seed=480)
    loaded = load_images(config, 1000, emoji_cache)
    assert loaded.train.shape == (1000, 3, 64, 64) and loaded.held_out.shape == (385, 3, 64, 64)
    assert not set(loaded.train_names) & set(loaded.held_out_names)
    assert loaded.train_captions[0] == "lion face"
    assert "large yellow circle ~ full moon symbol" in loaded.near_duplicates
    assert "OpenMoji" in loaded.attribution
    first = all_emoji.read(all_emoji.captions.index("lion face"))
    assert loaded.train[0].permute(1, 2, 0).tolist() == first.tolist()


def test_the_hash_changes_with_a_pixel_a_caption_and_the_order() -> None:
    loaded = load_images(settings(), 3, Path())
    pixels, captions = loaded.train, loaded.train_captions
    assert loaded.content_hash == content_hash(pixels, captions)
    assert len(loaded.content_hash) == 64 and int(loaded.content_hash, 16) >= 0
    other = pixels.clone()
    other[2, 1, 5, 5] ^= 1
    variants = [
        content_hash(other, captions),
        content_hash(pixels, (captions[0], captions[1], captions[2] + " ")),
        content_hash(pixels.flip(0), captions),
        content_hash(pixels[:2], captions[:2]),
        content_hash(pixels, (captions[0] + captions[1], "", captions[2])),
    ]
    assert len({loaded.content_hash, *variants}) == 6
