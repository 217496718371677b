"""Any picture file -> the 8-bit sRGB square that the rest of the program computes with.

The order matters: upright first, then the crop, then the colours, then white behind what is
transparent, and only then the resize, so that every step sees what the one before has made right.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageCms, PngImagePlugin, UnidentifiedImageError

from byheart.runtime.errors import short

# Above this a file is refused unread. Pillow, as it ships, already warns at 89 megapixels; its
# warning is taken at its word here, so the lower of the two bounds counts.
MAX_PIXELS = 200_000_000

# Raster formats that Pillow decodes itself. EPS is not among them: Pillow hands it to Ghostscript,
# and a picture must not be able to run a program.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM", "QOI")

# Of a PNG, in bytes: comments and colour profiles above Pillow's own limit of 1 MiB are common.
PngImagePlugin.MAX_TEXT_CHUNK = 2**26
PngImagePlugin.MAX_TEXT_MEMORY = 2**28

# Lanczos over the whole support of the source, which is what keeps a reduction free of aliasing.
FILTER = Image.Resampling.LANCZOS

Box = tuple[int, int, int, int]  # left, upper, right, lower

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


def read_square(
    data: Path | bytes | Image.Image,
    size: int,
    crop: Box | None = None,
) -> UInt8[np.ndarray, "size size 3"]:
    """A picture as sRGB, cropped to a square and resized to size x size pixels (Lanczos).

    data: a file, its bytes, or an opened picture; of an animation the first frame.
    crop: in pixels of the upright picture; the largest centred square where it is None.

    EXIF orientation is applied; an ICC profile is followed into sRGB, and ignored where it is
    broken or does not fit the pixels, as browsers do; 16-bit values are scaled, not clipped;
    transparency shows white.

    ValueError: whatever cannot be read, with the reason in a few words and without a file's name.
    """
    with opened(data) as picture:
        return resize(picture.rgb(crop or picture.centre), size)


def resize(image: Image.Image, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """An RGB picture at size x size pixels, squashed where it is no square. Its own size returns it
    unchanged."""
    assert size >= 1 and image.mode == "RGB"
    return np.array(image.resize((size, size), FILTER))


@dataclass(frozen=True)
class Picture:
    """An upright picture before its crop and its colours."""

    image: Image.Image  # in whatever mode the file has
    profile: bytes | None
    ends: tuple[int, int]  # of its greys, see `_grey_ends`
    turned: Image.Transpose | None  # what made it upright
    frames: int = 1  # that the file shows one after another; this is the first

    @property
    def size(self) -> tuple[int, int]:
        return self.image.size

    @property
    def centre(self) -> Box:
        """The largest centred square."""
        side = min(self.size)
        left, upper = (self.size[0] - side) // 2, (self.size[1] - side) // 2
        return left, upper, left + side, upper + side

    @property
    def transparent(self) -> bool:
        return self.image.has_transparency_data

    def reduced(self, side: int) -> Picture:
        """Smaller by a whole factor, the short side twice `side` and more, where that can be told
        from the colours alone."""
        factor = min(self.size) // (2 * side)
        if factor < 2 or self.image.mode not in {"RGB", "L", "CMYK"} or self.transparent:
            return self
        return replace(self, image=self.image.reduce(factor))

    def rgb(self, crop: Box, behind: str | None = "white") -> Image.Image:
        """Part of it as sRGB. behind: what shows through; None: the colours that transparency
        hides, which is what `convert("RGB")` trains on."""
        pixels = _eight_bits(self.image.crop(crop), *self.ends)
        if not pixels.has_transparency_data:
            return _srgb(pixels, self.profile)
        # Put behind before the resize: what a transparent pixel hides must not bleed into its
        # neighbours, and averaging colours weighted by their alpha comes to the same.
        rgba = pixels.convert("RGBA")
        colours = _srgb(rgba.convert("RGB"), self.profile)
        if behind is None:
            return colours
        return Image.composite(colours, Image.new("RGB", rgba.size, behind), rgba.getchannel("A"))


@contextmanager
def opened(data: Path | bytes | Image.Image) -> Iterator[Picture]:
    """A picture of `read_square`. ValueError: as there, in whatever is done with it too."""
    try:
        with warnings.catch_warnings(), ExitStack() as stack:
            # Pillow warns of odd metadata; only the warning of a decompression bomb is a reason.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if isinstance(data, Image.Image):
                image = data
            else:
                empty = data.stat().st_size == 0 if isinstance(data, Path) else len(data) == 0
                if empty:
                    raise _Unreadable("empty file")
                file = data if isinstance(data, Path) else io.BytesIO(data)
                image = stack.enter_context(Image.open(file, formats=FORMATS))
            yield _upright(image)
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


def _upright(image: Image.Image) -> Picture:
    if image.width * image.height > MAX_PIXELS:
        megapixels = image.width * image.height // 1_000_000
        raise _Unreadable(f"too large: {megapixels} megapixels of at most {MAX_PIXELS // 10**6}")
    # What a telephone adds to a JPEG (MPO) is not shown.
    frames = 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))
    image = _loaded(image)
    if min(image.size) < 1:
        raise _Unreadable("no pixels")
    # Read before the crop, which drops some of it.
    profile, ends = image.info.get("icc_profile"), _grey_ends(image)
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # broken EXIF says nothing about the pixels, so the picture stays as it is
        orientation = None
    turn = UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    upright = image if turn is None else image.transpose(turn)
    return Picture(upright, profile, ends, turn, frames)


def _loaded(image: Any) -> Any:
    tags = getattr(image, "tag_v2", {})
    luma = tags.get(ExifTags.Base.PhotometricInterpretation) == 6
    if luma and [tile[0] for tile in image.tile] == ["raw"] * len(image.tile):
        # An uncompressed YCbCr TIFF, of which Pillow expects a fourth byte for each pixel.
        image.tile = [tile._replace(args=("RGB", *tile.args[1:])) for tile in image.tile]
        image.load()
        pixels = Image.frombytes("YCbCr", image.size, image.tobytes()).convert("RGB")
        pixels.info = image.info
        return pixels
    image.load()
    return image


def _grey_ends(image: Image.Image) -> tuple[int, int]:
    """The values that mean black and white, of greys with more than 8 bits.

    Pillow scales such greys to 16 bits, save in a TIFF, which may hold 12, or count from white. One
    of 32 bits does not say what means white: 255 where no value is higher.
    """
    tags = getattr(image, "tag_v2", {})
    depth = tags.get(ExifTags.Base.BitsPerSample, (16,))[0]
    top = 2**depth - 1 if depth in range(9, 16) else 65_535
    if depth == 32 and image.mode == "I" and np.asarray(image).max() <= 255:
        top = 255
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
