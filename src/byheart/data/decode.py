"""Any picture file -> the 8-bit sRGB square that the rest of the program computes with.

The order matters: upright first, then the crop, then the colours, then white behind what is
transparent, and only then the resize, so that every step sees what the one before has made right.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from byheart.runtime.errors import short

# Above this a file is refused unread. Pillow, as it ships, already warns at 89 megapixels; its
# warning is taken at its word here, so the lower of the two bounds counts.
MAX_PIXELS = 200_000_000

# Raster formats that Pillow decodes itself. EPS is not among them: Pillow hands it to Ghostscript,
# and a picture must not be able to run a program.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM", "QOI")

# Lanczos over the whole support of the source, which is what keeps a reduction free of aliasing.
FILTER = Image.Resampling.LANCZOS

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def draw(svg: str, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """An SVG drawing, size x size pixels, on white."""
    import resvg_py

    # Without system fonts the drawing cannot depend on the machine; OpenMoji's letters are paths.
    png = resvg_py.svg_to_bytes(
        svg_string=svg, width=size, height=size, background="#ffffff", skip_system_fonts=True
    )
    return np.array(Image.open(io.BytesIO(png)).convert("RGB"))


def picture_suffixes() -> frozenset[str]:
    """Lower-case file endings, each with its dot, of the formats that `read_square` reads."""
    names = {*FORMATS, "MPO"}  # MPO: what Pillow calls a JPEG with more than one picture
    endings = Image.registered_extensions()
    return frozenset(ending for ending, name in endings.items() if name in names)


def is_picture(file: Path) -> bool:
    """Whether a file begins as a picture of such a format, whatever its ending."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=FORMATS):
                return True
    except Exception:  # what Pillow's decoders make of another file's first bytes
        return False


def frames(data: Path | bytes) -> int:
    """How many pictures a readable file shows one after another; what a telephone adds to a JPEG
    (MPO) is not shown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as image:
            return 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))


def read_square(
    data: Path | bytes | Image.Image,
    size: int,
    crop: tuple[int, int, int, int] | None = None,
) -> UInt8[np.ndarray, "size size 3"]:
    """A picture as sRGB, cropped to a square and resized to size x size pixels (Lanczos).

    data: a file, its bytes, or an opened picture; of an animation the first frame.
    crop: left, upper, right, lower in pixels of the upright picture; the largest centred square
    where it is None.

    EXIF orientation is applied; an ICC profile is followed into sRGB, and ignored where it is
    broken or does not fit the pixels, as browsers do; 16-bit values are scaled, not clipped;
    transparency shows white.

    ValueError: whatever cannot be read, with the reason in a few words and without a file's name.
    """
    return resize(open_square(data, crop), size)


def resize(square: Image.Image, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """An RGB square from `open_square` at size x size pixels. Its own size returns it unchanged."""
    assert size >= 1 and square.mode == "RGB"
    return np.array(square.resize((size, size), FILTER))


def open_square(
    data: Path | bytes | Image.Image, crop: tuple[int, int, int, int] | None = None
) -> Image.Image:
    """The square RGB picture of `read_square` before the resize, to reduce to several sizes."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of odd metadata; only the warning of a decompression bomb is a reason.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return _decode(data, crop)
    except Exception as error:  # Pillow's decoders raise nearly anything on a hostile file
        raise ValueError(_reason(error)) from error


def _reason(error: Exception) -> str:
    """A few words on one line about why a picture could not be read."""
    words = short(error)
    match error:
        case UnidentifiedImageError():
            return "not a picture in a known format"
        case Image.DecompressionBombWarning() | Image.DecompressionBombError():
            return "too large: more pixels than Pillow takes for safe"
        case MemoryError():
            return "too large for this machine's memory"
        case _Unreadable():
            return words
        case OSError(strerror=str(why)):
            return f"cannot be opened: {why.lower()}"
    return f"damaged: {words[:120]}"


class _Unreadable(Exception):
    """A reason that is ours, not Pillow's."""


def _decode(
    data: Path | bytes | Image.Image, crop: tuple[int, int, int, int] | None
) -> Image.Image:
    if isinstance(data, Image.Image):
        return _square(data, crop)
    if isinstance(data, Path):
        if data.stat().st_size == 0:
            raise _Unreadable("empty file")
        with Image.open(data, formats=FORMATS) as image:
            return _square(image, crop)
    if len(data) == 0:
        raise _Unreadable("empty file")
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return _square(image, crop)


def _square(image: Image.Image, crop: tuple[int, int, int, int] | None) -> Image.Image:
    if image.width * image.height > MAX_PIXELS:
        megapixels = image.width * image.height // 1_000_000
        raise _Unreadable(f"too large: {megapixels} megapixels of at most {MAX_PIXELS // 10**6}")
    image.load()
    if min(image.size) < 1:
        raise _Unreadable("no pixels")
    # Read before the crop, which drops some of it.
    profile = image.info.get("icc_profile")
    ends = _grey_ends(image)
    upright = _upright(image)
    if crop is None:
        side = min(upright.size)
        left, upper = (upright.width - side) // 2, (upright.height - side) // 2
        crop = (left, upper, left + side, upper + side)
    assert crop[2] - crop[0] == crop[3] - crop[1] > 0
    pixels = _eight_bits(upright.crop(crop), *ends)
    if not pixels.has_transparency_data:
        return _srgb(pixels, profile)
    # White goes behind before the resize: what a transparent pixel hides must not bleed into its
    # neighbours, and averaging colours weighted by their alpha comes to the same.
    rgba = pixels.convert("RGBA")
    white = Image.new("RGB", rgba.size, "white")
    return Image.composite(_srgb(rgba.convert("RGB"), profile), white, rgba.getchannel("A"))


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # broken EXIF says nothing about the pixels, so the picture stays as it is
        orientation = None
    turn = UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _grey_ends(image: Image.Image) -> tuple[int, int]:
    """The values that mean black and white, of greys with more than 8 bits.

    Pillow scales such greys to 16 bits, save in a TIFF, which may hold 12, or count from white.
    """
    tags = getattr(image, "tag_v2", {})
    depth = tags.get(ExifTags.Base.BitsPerSample, (16,))[0]
    top = 2**depth - 1 if depth in range(9, 16) else 65_535
    counts_from_white = tags.get(ExifTags.Base.PhotometricInterpretation) == 0
    return (top, 0) if counts_from_white else (0, top)


def _eight_bits(image: Image.Image, black: int, white: int) -> Image.Image:
    """Greys with more than 8 bits scaled to 8; any other picture, of 8 or fewer, as it is."""
    clear = image.info.get("transparency")
    if isinstance(clear, tuple) and max(clear) > 255:
        # Pillow reduces 16-bit colours to 8 bits, but not the one that stands for transparent.
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    if image.mode == "F":
        raise _Unreadable("float pixels (mode F) have no fixed range: save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > (top := max(black, white)):
        raise _Unreadable(f"grey values {values.min()} to {values.max()} go beyond 16 bits")
    grey = Image.fromarray(((np.abs(values - black) * 255 + top // 2) // top).astype(np.uint8))
    if clear is None:
        return grey
    # The transparent grey is one of 65,536, and must be told from its neighbours before scaling.
    return Image.merge("LA", (grey, Image.fromarray(np.uint8(255) * (values != clear))))


def _srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB in sRGB, from the picture's own colour space where a profile names one."""
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            space = source.profile.xcolor_space.strip()
            # A grey picture may carry an RGB profile, but a profile for ink or for grey describes
            # only such pixels.
            pixels = image.convert("RGB") if space == "RGB" and image.mode != "CMYK" else image
            if {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(space) == pixels.mode:
                srgb = ImageCms.createProfile("sRGB")
                turned = ImageCms.profileToProfile(pixels, source, srgb, outputMode="RGB")
                assert turned is not None
                return turned
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass
    return image.convert("RGB")
