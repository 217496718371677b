"""Every kind of picture file against pixels known beforehand."""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from byheart.data.decode import MAX_PIXELS, opened, read_square, resize

GRADIENT = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def plain(mode: str, colour: object) -> Image.Image:
    return Image.new(mode, (16, 16), colour)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *more: bytes) -> bytes:
    """A PNG written by hand, for what Pillow reads but does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(more) + body


def tiff(width: int, bits: int, photometric: int, data: bytes) -> bytes:
    """A square uncompressed grey TIFF written by hand."""
    tags = [(256, width), (257, width), (258, bits), (259, 1), (262, photometric)]
    tags += [(273, 8 + 2 + 9 * 12 + 4), (277, 1), (278, width), (279, len(data))]
    entries = b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in tags)
    return b"II" + struct.pack("<HLH", 42, 8, 9) + entries + bytes(4) + data


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_rotated_file_equals_its_upright_twin(kind: str, orientation: int) -> None:
    upright = np.arange(15 * 22 * 3, dtype=np.uint8).reshape(15, 22, 3)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(stored.copy()), kind, exif=exif, **options)
    assert (read_square(data, 15) == upright[:, 3:18]).all()


def test_a_picture_of_the_right_size_keeps_every_pixel_even_with_a_broken_exif_block() -> None:
    assert (read_square(encoded(Image.fromarray(GRADIENT), "PNG"), 16) == GRADIENT).all()
    data = encoded(Image.fromarray(GRADIENT), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert (read_square(data, 16) == GRADIENT).all()


def test_the_crop_is_the_middle() -> None:
    stripes = np.zeros((10, 30, 3), np.uint8)
    stripes[:, 10:20] = 200
    assert (read_square(Image.fromarray(stripes), 10) == 200).all()
    assert (read_square(Image.fromarray(stripes.transpose(1, 0, 2)), 10) == 200).all()
    assert (read_square(Image.fromarray(stripes), 10, crop=(0, 0, 10, 10)) == 0).all()


def test_a_fine_pattern_is_averaged_and_does_not_alias() -> None:
    checks = np.indices((64, 64)).sum(0) % 2 * np.uint8(255)
    small = read_square(Image.fromarray(checks.astype(np.uint8)), 8)
    assert np.abs(small.astype(int) - 127).max() <= 2


def test_a_path_its_bytes_and_the_opened_picture_give_the_same(tmp_path: Path) -> None:
    file = tmp_path / "ein Bild ü.png"
    Image.fromarray(GRADIENT).save(file)
    with Image.open(file) as image:
        assert (read_square(image, 7) == read_square(file, 7)).all()
    assert (read_square(file.read_bytes(), 7) == read_square(file, 7)).all()
    with opened(file) as picture:
        assert (resize(picture.rgb(picture.centre), 7) == read_square(file, 7)).all()


@pytest.mark.parametrize(
    ("data", "rgb"),
    [
        (encoded(plain("CMYK", (0, 255, 255, 0)), "TIFF"), (255, 0, 0)),
        (encoded(plain("CMYK", (0, 255, 255, 0)), "JPEG", quality=100), (255, 0, 0)),
        (encoded(plain("L", 77), "PNG"), (77, 77, 77)),
        (encoded(plain("1", 1), "PNG"), (255, 255, 255)),
        (encoded(plain("RGB", (9, 8, 7)).quantize(4), "PNG"), (9, 8, 7)),
        (encoded(plain("RGB", (9, 8, 7)), "BMP"), (9, 8, 7)),
        (encoded(plain("RGB", (9, 8, 7)), "WEBP", lossless=True), (9, 8, 7)),
        (encoded(plain("RGB", (200, 30, 30)), "AVIF", quality=100), (200, 30, 30)),
        (encoded(plain("YCbCr", (76, 85, 255)), "JPEG", quality=100), (254, 0, 0)),
        (encoded(plain("LAB", (136, 208, 195)), "TIFF"), (250, 3, 11)),
        (encoded(plain("RGBA", (255, 0, 0, 128)), "PNG"), (255, 127, 127)),
        (encoded(plain("LA", (0, 51)), "PNG"), (204, 204, 204)),
        (encoded(plain("P", 0), "PNG", transparency=0), (255, 255, 255)),
        (encoded(plain("RGB", (1, 2, 3)), "PNG", transparency=(1, 2, 3)), (255, 255, 255)),
        (encoded(plain("RGB", (1, 2, 3)), "PNG", transparency=(1, 2, 4)), (1, 2, 3)),
        (encoded(plain("L", 5), "PNG", transparency=5), (255, 255, 255)),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else str(value),
)
def test_each_kind_of_pixel_becomes_the_right_rgb(data: bytes, rgb: tuple[int, ...]) -> None:
    pixels = read_square(data, 4)
    assert pixels.dtype == np.uint8 and pixels.shape == (4, 4, 3)
    assert np.abs(pixels.astype(int) - rgb).max() <= 2


@pytest.mark.parametrize(("value", "grey"), [(0, 0), (255, 1), (32768, 128), (65535, 255)])
def test_16_bit_values_are_scaled_and_not_clipped(value: int, grey: int) -> None:
    wide = np.full((4, 4), value, np.uint16)
    image = Image.fromarray(wide)
    rgb = png(1, 1, 16, 2, bytes(1) + 3 * struct.pack(">H", value))
    assert np.abs(read_square(rgb, 1).astype(int) - grey).max() <= 1
    for data in (encoded(image, "PNG"), encoded(image, "TIFF"), image):
        assert (read_square(data, 4) == grey).all()
    big_endian = Image.fromarray(wide.astype(">u2"))
    assert (read_square(encoded(big_endian, "TIFF"), 4) == grey).all()
    assert (read_square(Image.fromarray(wide.astype(np.int32)), 4) == grey).all()


def test_a_tiff_of_12_bits_or_one_that_counts_from_white_comes_out_right() -> None:
    twelve = bytes([0x00, 0x0F, 0xFF])  # two pixels, 0 and 4095
    assert read_square(tiff(2, 12, 1, twelve * 2), 2)[..., 0].tolist() == [[0, 255]] * 2
    sixteen = struct.pack("<4H", 0, 65535, 32768, 0)
    assert read_square(tiff(2, 16, 0, sixteen), 2)[..., 0].tolist() == [[255, 0], [127, 255]]


def test_the_transparent_value_of_16_bits_shows_white_and_its_neighbour_does_not() -> None:
    clear = struct.pack(">3H", 0x80FF, 0, 7)
    data = png(1, 1, 16, 2, bytes(1) + clear, chunk(b"tRNS", clear))
    assert (read_square(data, 1) == 255).all()
    rows = bytes(1) + struct.pack(">2H", 1000, 1001) + bytes(1) + struct.pack(">2H", 1001, 1000)
    data = png(2, 2, 16, 0, rows, chunk(b"tRNS", struct.pack(">H", 1000)))
    assert read_square(data, 2)[..., 0].tolist() == [[255, 4], [4, 255]]


def test_what_transparency_hides_does_not_bleed_into_its_neighbours() -> None:
    pixels = np.zeros((16, 16, 4), np.uint8)  # black where nothing shows
    pixels[:, 6:10] = (255, 0, 0, 255)
    small = read_square(Image.fromarray(pixels), 5)
    assert (small[..., 0] >= 254).all()  # only red and white, nowhere a dark fringe


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_an_animation_shows_its_first_frame(kind: str) -> None:
    frames = [plain("RGB", colour) for colour in ((0, 0, 255), (0, 255, 0), (255, 0, 0))]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert (read_square(data, 4) == (0, 0, 255)).all()


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def test_an_icc_profile_is_followed_into_srgb() -> None:
    profile = srgb_profile()
    # The places of the red and the blue primary exchanged: its red is our blue.
    count = struct.unpack(">I", profile[128:132])[0]
    places = {profile[at : at + 4]: at for at in range(132, 132 + 12 * count, 12)}
    red, blue = places[b"rXYZ"], places[b"bXYZ"]
    swapped = bytearray(profile)
    swapped[red : red + 4], swapped[blue : blue + 4] = b"bXYZ", b"rXYZ"
    for mode, colour in (("RGB", (255, 0, 0)), ("RGBA", (255, 0, 0, 255))):
        for carried, rgb in ((bytes(swapped), (0, 0, 255)), (profile, (255, 0, 0))):
            data = encoded(plain(mode, colour), "PNG", icc_profile=carried)
            assert np.abs(read_square(data, 4).astype(int) - rgb).max() <= 2


@pytest.mark.parametrize(("mode", "colour"), [("L", 77), ("RGB", (77,) * 3), ("P", 0), ("1", 0)])
def test_a_profile_that_is_broken_or_does_not_fit_is_ignored(mode: str, colour: object) -> None:
    image = plain(mode, colour)
    without = read_square(encoded(image, "PNG"), 4).astype(int)
    for profile in (b"garbage", srgb_profile()[:200], srgb_profile()):
        data = encoded(image, "PNG", icc_profile=profile)
        assert np.abs(read_square(data, 4) - without).max() <= 1
    cmyk = encoded(plain("CMYK", (0, 255, 255, 0)), "JPEG", quality=100, icc_profile=srgb_profile())
    assert np.abs(read_square(cmyk, 4).astype(int) - (255, 0, 0)).max() <= 2


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"not a picture at all", "not a picture in a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture in a known format"),
        (encoded(NOISE, "PNG")[:5000], "damaged: "),
        (encoded(NOISE, "JPEG")[:1000], "damaged: image file is truncated"),
        (encoded(NOISE, "GIF")[:900], "damaged: "),
        (encoded(plain("F", 0.5), "TIFF"), "float pixels (mode F)"),
        (plain("I", 70_000), "grey values 70000 to 70000 go beyond 16 bits"),
        (plain("I", -1), "grey values -1 to -1 go beyond 16 bits"),
        (png(12_000, 12_000, 1, 0, b""), "too large: more pixels than Pillow takes for safe"),
        (png(60_000, 60_000, 1, 0, b""), "too large: more pixels than Pillow takes for safe"),
        (Path("no such file.png"), "cannot be opened: no such file or directory"),
        (Path(), "cannot be opened: is a directory"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_what_cannot_be_read_says_why(data: bytes | Path | Image.Image, reason: str) -> None:
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(ValueError) as error:
        read_square(data, 4)
    assert str(error.value).startswith(reason) and "\n" not in str(error.value)
    assert before == Image.MAX_IMAGE_PIXELS


def test_the_bound_on_pixels_holds_when_pillow_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    side = int(MAX_PIXELS**0.5) + 1
    with pytest.raises(ValueError, match=r"^too large: 200 megapixels of at most 200$"):
        read_square(png(side, side, 1, 0, b""), 4)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "JPEG2000"])
def test_a_damaged_file_gives_a_picture_or_a_reason_and_nothing_else(kind: str) -> None:
    draw = random.Random(kind)
    whole = encoded(NOISE.resize((24, 24)), kind)
    for _ in range(60):
        data = bytearray(whole[: draw.randrange(1, len(whole) + 1)])
        for _ in range(draw.randrange(4)):
            data[draw.randrange(min(len(data), 200))] = draw.randrange(256)
        try:
            assert read_square(bytes(data), 4).shape == (4, 4, 3)
        except ValueError as error:
            assert "\n" not in str(error) and len(str(error)) < 200


def test_an_uncompressed_ycbcr_tiff_is_read() -> None:
    image = Image.fromarray(GRADIENT)
    found = read_square(encoded(image.convert("YCbCr"), "TIFF"), 16)
    expected = np.array(image.convert("YCbCr").convert("RGB"))
    assert (found == expected).all()


def test_a_grey_of_32_bits_is_as_bright_as_its_values_say() -> None:
    for top in (255, 65_535):
        values = np.linspace(0, top, 256).round().astype(np.int32).reshape(16, 16)
        found = read_square(encoded(Image.fromarray(values), "TIFF"), 16)
        assert np.abs(found[..., 0].astype(float) - values * (255 / top)).max() <= 0.51


def test_a_png_with_a_large_profile_or_text_is_read() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("workflow", "x" * 3_000_000, zip=True)
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile += bytes(3_000_000)
    profile[0:4] = struct.pack(">I", len(profile))
    for data in (
        encoded(Image.fromarray(GRADIENT), "PNG", pnginfo=text),
        encoded(Image.fromarray(GRADIENT), "PNG", icc_profile=bytes(profile)),
    ):
        assert np.abs(read_square(data, 16).astype(int) - GRADIENT).max() <= 1
