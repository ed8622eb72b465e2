"""Photos of any common kind in, as upright sRGB, uint8 [H, W, 3]; pictures out."""

from __future__ import annotations

import io
import logging
import struct
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from flexavatar.errors import CannotWrite, UnreadableImage
from flexavatar.files import atomic_path, expanded

logger = logging.getLogger(__name__)

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")  # of the files that are taken from a folder
MIN_SIDE = 64  # pixels
MAX_PIXELS = 50_000_000

# Only picture formats that Pillow decodes itself: others, such as EPS, start external programs.
_FORMATS = ("JPEG", "PNG", "WEBP", "HEIF", "AVIF", "GIF", "TIFF", "BMP", "PPM", "JPEG2000")
_ADVICE = "Use a JPEG, PNG, WebP or HEIC photo."
_ORIENTATION_TAG = 0x0112
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's decoders raise for files that are cut off or damaged, besides OSError.
_DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError, RuntimeError, IndexError, OverflowError, struct.error)
_WRITTEN = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"quality": 95}),
}


def photo_files(folder: Path) -> list[Path]:
    """The photos in a folder, by name."""
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in PHOTO_SUFFIXES)


def read_image(source: str | Path | bytes | np.ndarray | Image.Image) -> np.ndarray:
    """Read a photo from a path, the bytes of a file, a Pillow image or an array: upright sRGB, uint8 [H, W, 3].

    The orientation in the EXIF data is applied, an embedded colour profile is converted to sRGB, transparency is
    composited on white, of an animation the first frame is taken. Arrays are [H, W], [H, W, 1], [H, W, 3] or
    [H, W, 4] of uint8, uint16 or floats in 0..1. A new array is returned.

    Raises UnreadableImage for what is no image, is damaged, has a side under 64 pixels or more than 50 megapixels
    (checked before decoding).
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return _from_pillow(source, "The image")
    if isinstance(source, bytes):
        return _from_file(io.BytesIO(source), "The image", len(source))
    if isinstance(source, (str, Path)):
        path = expanded(source)
        if path.is_dir():
            raise UnreadableImage(f"{path} is a folder. Give the path of a photo.")
        try:
            with path.open("rb") as file:
                return _from_file(file, path.name, path.stat().st_size)
        except FileNotFoundError as error:
            raise UnreadableImage(f"There is no file {path}. Check the path.") from error
        except OSError as error:
            raise UnreadableImage(f"Cannot read {path}: {error.strerror or error}.") from error
    raise TypeError(f"An image is a path, bytes, a NumPy array or a Pillow image, not {type(source).__name__}.")


def _from_file(file, name: str, size: int) -> np.ndarray:
    import pillow_heif

    if not size:
        raise UnreadableImage(f"{name} is empty. {_ADVICE}")
    pillow_heif.register_heif_opener()
    try:
        with Image.open(file, formats=_FORMATS) as image:
            return _from_pillow(image, name)
    except UnidentifiedImageError as error:
        raise UnreadableImage(f"{name} is not an image that can be read. {_ADVICE}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImage(_too_large(name)) from error
    except _DECODING_ERRORS as error:
        raise UnreadableImage(f"{name} is damaged or incomplete. Save or download it again.") from error


def _from_pillow(image: Image.Image, name: str) -> np.ndarray:
    _check_size(image.width, image.height, name)
    image.load()  # before the EXIF data, which PNG may hold behind the pixels
    orientation = _orientation(image)
    if image.mode == "F" or image.mode.startswith("I"):
        upright = _transposed(Image.fromarray(_grey_to_uint8(np.asarray(image), name)), orientation)
        return np.array(upright.convert("RGB"))
    has_alpha = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    alpha = image.convert("RGBA").getchannel("A") if has_alpha else None
    rgb = _to_srgb(image)
    if alpha is not None:
        rgb = Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)
    return np.array(_transposed(rgb, orientation))


def _from_array(array: np.ndarray) -> np.ndarray:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise UnreadableImage(f"The array has the shape {list(array.shape)}; use [H, W], [H, W, 3] or [H, W, 4].")
    _check_size(array.shape[1], array.shape[0], "The image")
    if array.dtype == np.uint16:
        array = np.round(array / 257.0).astype(np.uint8)
    elif np.issubdtype(array.dtype, np.floating):
        # A little outside is the ringing of a resampling filter; far outside is another range.
        if not np.isfinite(array).all() or array.min() < -0.1 or array.max() > 1.1:
            raise UnreadableImage("The values of the array are not in 0..1. Scale them, or give uint8 in 0..255.")
        array = np.round(np.clip(array, 0, 1) * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise UnreadableImage(f"The array holds {array.dtype}; give uint8 in 0..255 or floats in 0..1.")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    return _from_pillow(Image.fromarray(np.ascontiguousarray(array)), "The image")


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise UnreadableImage(_too_large(name, f" ({width} x {height} pixels)"))
    if min(width, height) < MIN_SIDE:
        raise UnreadableImage(
            f"{name} has only {width} x {height} pixels; the minimum is {MIN_SIDE} px per side. Use a larger photo."
        )


def _too_large(name: str, size: str = "") -> str:
    return f"{name} is too large{size}; the maximum is {MAX_PIXELS // 1_000_000} megapixels. Make it smaller first."


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except _DECODING_ERRORS as error:
        logger.info("The EXIF data of the image are damaged and left out: %s", error)
        return 1


def _transposed(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_TRANSPOSES[orientation]) if orientation in _TRANSPOSES else image


def _to_srgb(image: Image.Image) -> Image.Image:
    """RGB in sRGB, through the embedded colour profile where there is a sound one."""
    profile = image.info.get("icc_profile")
    if image.mode in ("P", "PA", "RGBA", "RGBa", "RGBX"):
        image = image.convert("RGBA").convert("RGB")  # by way of RGBA, which palettes with transparency need
    elif image.mode in ("LA", "La"):
        image = image.convert("L")
    if profile and image.mode in ("RGB", "CMYK", "L"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError) as error:
            logger.info("The colour profile of the image is left out: %s", error)
    return image.convert("RGB")


def _grey_to_uint8(values: np.ndarray, name: str) -> np.ndarray:
    """Grey values [H, W] of 16 or 32 bits, or floats, scaled to uint8 rather than clipped as Pillow does."""
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or values.min() < 0:
            raise UnreadableImage(f"{name} holds values that are no brightness. {_ADVICE}")
        full = 1.0 if values.max() <= 1 else 255.0 if values.max() <= 255 else 65535.0
    else:
        full = 65535.0
    return np.round(np.clip(values / full, 0, 1) * 255).astype(np.uint8)


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write `image`, uint8 [H, W, 3] (or [H, W, 4] with alpha), in the format of the suffix. Raises CannotWrite."""
    suffix = Path(path).suffix.lower()
    if suffix not in _WRITTEN:
        raise CannotWrite(f"Cannot write {path}: pictures are written as {', '.join(_WRITTEN)}. Change the suffix.")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (3, 4):
        raise ValueError(f"An image is uint8 [H, W, 3] or [H, W, 4], not {image.dtype} {list(image.shape)}.")
    name, options = _WRITTEN[suffix]
    shown = image[..., :3] if name == "JPEG" else image
    with atomic_path(path) as temporary:
        iio.imwrite(temporary, np.ascontiguousarray(shown), plugin="pillow", format=name, **options)
