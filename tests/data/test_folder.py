"""The user's own pictures, in a folder or a data set: what is taken, captioned and refused."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from byheart.data.decode import picture_suffixes
from byheart.data.folder import folder, hub
from byheart.data.sources import photos


def save(path: Path, grey: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (grey, grey, grey)).save(path)
    return path


# ------------------------------------------------------------------------------------ folder


def test_a_folder_is_read_in_the_order_of_names_without_what_is_no_picture(tmp_path: Path) -> None:
    root = tmp_path / "my pictures ü"
    for grey, name in enumerate(("b.png", "a/z.JPG", "a/b.webp", "c.tiff", "d.gif", "e.bmp")):
        save(root / name, grey * 20)
    for name in ("notes.csv", "list.jsonl", ".DS_Store", "._b.png", ".thumbnails/b.png"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"no picture")
    pictures = folder(str(root), 8, "refuse")
    assert pictures.names == ("a/b.webp", "a/z.JPG", "b.png", "c.tiff", "d.gif", "e.bmp")
    assert pictures.read(3).tolist() == [[[60] * 3] * 8] * 8
    assert pictures.small[3, 0, 0].tolist() == [60] * 3
    assert pictures.attribution == ""


def test_captions_come_from_the_table_then_the_text_file_then_the_name(tmp_path: Path) -> None:
    for name in ("a.png", "sub/b.png", "c.png", "d_of-the  day.png", "e.png", "__.png"):
        save(tmp_path / name)
    rows = [{"file_name": "a.png", "text": "from the\u2028table"}]
    rows += [{"file_name": "sub/b.png", "caption": "Fähre"}, {"file_name": "c.png", "text": None}]
    table = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "metadata.jsonl").write_text("\ufeff" + table, "utf-8")
    (tmp_path / "a.txt").write_text("passed over", "utf-8")
    (tmp_path / "c.txt").write_text("\ufefffrom the\n file \n", "utf-8")
    (tmp_path / "e.txt").write_text(" \n", "utf-8")
    pictures = folder(str(tmp_path), 8, "refuse")
    assert dict(zip(pictures.names, pictures.captions, strict=True)) == {
        "a.png": "from the table",
        "sub/b.png": "Fähre",
        "c.png": "from the file",
        "d_of-the  day.png": "d of the day",
        "e.png": "e",
        "__.png": "__",
    }


def test_a_csv_table_is_read_with_its_quotation_marks(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "metadata.csv").write_text('file_name,text,x\na.png,"red, and ""blue""",1\n')
    assert folder(str(tmp_path), 8, "refuse").captions == ('red, and "blue"',)


def test_a_name_is_the_same_however_its_letters_are_composed(tmp_path: Path) -> None:
    save(tmp_path / unicodedata.normalize("NFD", "Käse.png"))
    row = {"file_name": unicodedata.normalize("NFC", "Käse.png"), "text": "cheese"}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row))
    pictures = folder(str(tmp_path), 8, "refuse")
    assert pictures.names == (unicodedata.normalize("NFC", "Käse.png"),)
    assert pictures.captions == ("cheese",)


@pytest.mark.parametrize(
    ("table", "text", "message"),
    [
        ("metadata.jsonl", '{"file_name": "a.png", "text": "x"}\n\n{oops', "line 3: not JSON"),
        ("metadata.jsonl", "[1]", "line 1: not a JSON object"),
        ("metadata.jsonl", '{"text": "x"}', "line 1: no file_name"),
        ("metadata.jsonl", '{"file_name": "a.png"}', "line 1: neither text nor caption"),
        ("metadata.jsonl", '{"file_name": "a.png", "text": 7}', "line 1: text is 7"),
        ("metadata.jsonl", '{"file_name": "b.png", "text": ""}', "line 1: b.png is not a picture"),
        ("metadata.csv", "file_name,text\na.png,x\na.png,y\n", "line 3: a second row for a.png"),
        ("metadata.csv", "file_name,text\na.png,x,y\n", "line 2: more or fewer fields"),
        ("metadata.csv", "file_name,text\na.png\n", "line 2: more or fewer fields"),
        ("metadata.csv", 'file_name,text\na.png,"x\n', "not CSV"),
        ("metadata.csv", "name,text\na.png,x\n", "line 2: no file_name"),
        ("a.txt", b"\xff\xfe", "a.txt: byte 0 is not UTF-8"),
        ("metadata.jsonl", b"\xff\xfe", "metadata.jsonl: byte 0 is not UTF-8"),
    ],
)
def test_a_bad_caption_file_is_refused_with_its_line(
    tmp_path: Path, table: str, text: str | bytes, message: str
) -> None:
    save(tmp_path / "a.png")
    (tmp_path / table).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError) as error:
        folder(str(tmp_path), 8, "refuse")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_unreadable_pictures_are_refused_by_name_or_skipped_and_listed(tmp_path: Path) -> None:
    save(tmp_path / "good.png", 50)
    for index in range(6):
        (tmp_path / f"bad{index}.jpg").write_bytes(b"" if index else b"text")
    (tmp_path / "phone.heic").write_bytes(b"heic")
    with pytest.raises(ValueError) as error:
        folder(str(tmp_path), 8, "refuse")
    assert "7 of 8 pictures cannot be read (bad0.jpg: not a picture" in str(error.value)
    assert "bad4.jpg: empty file; and 2 more): remove" in str(error.value)
    assert "images.unreadable=skip" in str(error.value)
    pictures = folder(str(tmp_path), 8, "skip")
    assert pictures.names == ("good.png",) and (pictures.read(0) == 50).all()
    assert len(pictures.unreadable) == 7 and pictures.unreadable[1] == "bad1.jpg: empty file"
    assert pictures.unreadable[-1].startswith("phone.heic: .heic is not a format")


def test_a_folder_of_only_unreadable_pictures_is_refused_even_with_skip(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"1 of 1 pictures .*: remove or replace them$"):
        folder(str(tmp_path), 8, "skip")


def test_a_path_that_is_no_folder_of_pictures_says_what_to_type(tmp_path: Path) -> None:
    file = save(tmp_path / "pictures" / "a.png")
    (tmp_path / "empty").mkdir()
    for path, message in [
        (str(tmp_path / "nowhere"), "does not exist: type"),
        (str(file), f"is a file: type images.path={file.parent}"),
        (str(tmp_path / "empty"), "holds no pictures: type"),
    ]:
        with pytest.raises(ValueError) as error:
            folder(path, 8, "refuse")
        assert message in str(error.value) and "\n" not in str(error.value)


def test_the_usual_endings_are_pictures_and_scripts_and_texts_are_not() -> None:
    usual = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"}
    assert usual <= picture_suffixes()
    assert not picture_suffixes() & {".eps", ".ps", ".pdf", ".txt", ".csv", ".mpeg", ".h5"}


def test_no_two_files_share_a_name_and_nothing_is_passed_over_without_a_word(
    tmp_path: Path,
) -> None:
    root, apart = tmp_path / "mine", tmp_path / "apart"
    for name in ("NFC", "NFD"):
        save(root / unicodedata.normalize(name, "Käse.png"), 10 if name == "NFC" else 20)
    for place, letter in enumerate("あいう"):  # Japanese names, unpacked as if they were UTF-8
        save(tmp_path / "x.png", 40 + place)
        bare = os.fsencode(root) + b"/" + f"写{letter}.png".encode("cp932")
        os.rename(tmp_path / "x.png", bare)
    save(root / "no ending.png", 90).rename(root / "no ending")
    save(apart / "deep" / "linked.png", 100)
    (root / "link").symlink_to(apart)
    (root / "again").symlink_to(root)
    (root / "gone").symlink_to(tmp_path / "nowhere")
    os.mkfifo(root / "pipe")
    (root / "notes.pdf").write_bytes(b"%PDF")
    (root / "metadata.json1").write_text("{}")
    (root / "other.txt").write_text("of no picture here")
    pictures = folder(str(root), 8, "refuse")
    greys = {int(pictures.read(k)[0, 0, 0]) for k in range(len(pictures.names))}
    assert greys == {10, 20, 40, 41, 42, 90, 100}
    assert len({*pictures.names}) == len(pictures.names) == 7
    assert "link/deep/linked.png" in pictures.names
    named = {words.split(":")[0] for words in pictures.passed_over}
    assert named == {"again", "gone", "pipe", "notes.pdf", "metadata.json1", "other.txt"}


@pytest.mark.parametrize(
    "files",
    [
        {"a.caption": "a fox"},
        {"a.TXT": "a fox"},
        {"a.png.txt": "a fox"},
        {"a.txt": " ", "a.caption": "a fox"},
        {"metadata.csv": "file_name,text,caption\na.png,,a fox\n"},
    ],
)
def test_captions_are_found_where_tools_put_them(tmp_path: Path, files: dict[str, str]) -> None:
    for place in (tmp_path, tmp_path / "train"):
        save(place / "a.png")
        for name, text in files.items():
            (place / name).write_text(text)
    pictures = folder(str(tmp_path), 8, "refuse")
    assert pictures.captions == ("a fox", "a fox")


def test_that_file_names_stand_for_captions_is_said(tmp_path: Path) -> None:
    for k in range(3):
        save(tmp_path / f"IMG_{k}.png")
    (tmp_path / "IMG_1.txt").write_text("a fox")
    (note,) = folder(str(tmp_path), 8, "refuse").notes
    assert "IMG 0" in note and "IMG 2" in note and "IMG 1" not in note
    assert folder(str(tmp_path), 8, "skip", bad_captions=[]).captions == ("", "a fox", "")


def test_of_an_animation_the_first_frame_counts_and_that_is_said(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), (grey, grey, grey)) for grey in (50, 200, 90)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    pictures = folder(str(tmp_path), 8, "refuse")
    assert (pictures.read(0) == 50).all()
    assert any("a.gif (3 frames)" in note for note in pictures.notes)


def test_a_sheet_of_several_pictures_is_named(tmp_path: Path) -> None:
    """It is learned as the one picture that its file is."""
    photographs = photos(96)
    sheet = Image.new("RGB", (192, 96))
    for k in range(2):
        one = Image.fromarray(photographs.read(k))
        one.save(tmp_path / f"{k}.png")
        sheet.paste(one, (96 * k, 0))
    sheet.save(tmp_path / "sheet.png")
    pictures = folder(str(tmp_path), 8, "refuse")
    assert len(pictures.names) == 3
    (note,) = [note for note in pictures.notes if "tiles" in note]
    assert "sheet.png (2)" in note and "0.png" not in note and "1.png" not in note


# --------------------------------------------------------------------------------------- hub


@pytest.fixture
def offline_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for data sets, with `datasets` cut off from any network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    for setting in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setattr(datasets.config, setting, True, raising=False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path


def data_set(folder: Path, pictures: list[object], **columns: list[str]) -> str:
    """Rows of files' bytes (None: no picture) and of words; its path."""
    import datasets

    kinds = {"image": datasets.Image(), **{name: datasets.Value("string") for name in columns}}
    files = [data and {"bytes": data, "path": None} for data in pictures]
    rows = datasets.Dataset.from_dict({"image": files, **columns}, datasets.Features(kinds))
    folder.mkdir()
    rows.to_parquet(str(folder / "train.parquet"))
    return str(folder)


def test_a_local_data_set_gives_rows_with_captions_or_numbers(offline_hub: Path) -> None:
    root = offline_hub / "data ü"
    for index in range(3):
        save(root / f"{index}.png", index * 40)
    pictures = hub(str(root), 16, "refuse")
    assert pictures.names == ("row 0", "row 1", "row 2")
    assert pictures.captions == ("0", "1", "2")
    rows = "".join(f"{index}.png,number {index}\n" for index in range(3))
    (root / "metadata.csv").write_text("file_name,text\n" + rows)
    pictures = hub(str(root), 16, "refuse")
    assert pictures.captions == ("number 0", "number 1", "number 2")
    assert pictures.read(2).tolist() == [[[80] * 3] * 16] * 16


def test_a_data_set_is_captioned_by_the_column_that_holds_words(offline_hub: Path) -> None:
    good = save(offline_hub / "good.png").read_bytes()
    for number, (columns, captions) in enumerate([
        ({"prompt": ["a fox", ""]}, ("a fox", "1")),
        ({"text": ["", "a jay"], "caption": ["a fox", "a frog"]}, ("a fox", "a jay")),
        ({"left": ["x", "y"], "right": ["z", "w"]}, ("0", "1")),
    ]):  # fmt: skip
        pictures = hub(data_set(offline_hub / f"set{number}", [good, good], **columns), 8, "refuse")
        assert pictures.captions == captions
        assert ("row numbers" in pictures.notes[0]) == any(word.isdigit() for word in captions)


def test_rows_without_a_readable_picture_are_refused_or_skipped(offline_hub: Path) -> None:
    good = save(offline_hub / "good.png", 9).read_bytes()
    path = data_set(offline_hub / "set", [b"garbage", None, good], caption=["x", "y", "z"])
    with pytest.raises(ValueError, match="2 of 3 pictures cannot be read"):
        hub(path, 8, "refuse")
    kept = hub(path, 8, "skip")
    assert (kept.names, kept.captions) == (("row 2",), ("z",)) and (kept.read(0) == 9).all()
    assert kept.unreadable[1] == "row 1: no picture in this row"


def test_a_data_set_that_cannot_be_used_is_refused_in_one_line(offline_hub: Path) -> None:
    (offline_hub / "words").mkdir()
    (offline_hub / "words" / "train.csv").write_text("a,b\n1,2\n")
    for repo, message in [
        ("nobody/has-this", "cannot be loaded"),
        (str(offline_hub / "nowhere"), "cannot be loaded"),
        (str(offline_hub / "words"), "has no column of type Image, only a, b"),
    ]:
        with pytest.raises(ValueError) as error:
            hub(repo, 8, "refuse")
        assert message in str(error.value) and "\n" not in str(error.value)
