"""Photos of every common kind, and the kinds of files that are none."""

from __future__ import annotations

import io

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms

from flexavatar.errors import UnreadableImage
from flexavatar.io.images import MAX_PIXELS, MIN_SIDE, read_image

RED, BLUE, WHITE = (200, 30, 40), (20, 60, 220), (255, 255, 255)
ORIENTATION = 0x0112


@pytest.fixture(scope="module", autouse=True)
def heif_encoder() -> None:
    pillow_heif.register_heif_opener()


def picture(width: int = 100, height: int = 80) -> Image.Image:
    """Red above, blue below."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[: height // 2], pixels[height // 2 :] = RED, BLUE
    return Image.fromarray(pixels)


def encoded(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def assert_color(pixel: np.ndarray, color: tuple[int, int, int], tolerance: int = 4) -> None:
    assert np.abs(pixel.astype(int) - color).max() <= tolerance, (pixel, color)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "HEIF", "AVIF", "TIFF", "GIF", "BMP", "PPM", "JPEG2000"])
def test_formats_agree(format):
    image = read_image(encoded(picture(), format))
    assert image.shape == (80, 100, 3) and image.dtype == np.uint8
    assert_color(image[5, 50], RED)
    assert_color(image[-5, 50], BLUE)


def test_sources_agree(tmp_path):
    data = encoded(picture(), "PNG")
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    expected = np.asarray(picture())
    for source in (data, path, str(path), picture(), expected):
        np.testing.assert_array_equal(read_image(source), expected)


def test_result_is_an_array_of_its_own():
    source = np.asarray(picture()).copy()
    read_image(source)[:] = 0
    assert source.any()


# Where EXIF says that the first row and column of the file belong, per orientation: rows of the upright picture.
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF"])
@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, lambda upright: upright),
        (2, np.fliplr),
        (3, lambda upright: np.rot90(upright, 2)),
        (4, np.flipud),
        (5, lambda upright: upright.swapaxes(0, 1)),
        (6, np.rot90),
        (7, lambda upright: np.rot90(upright, 2).swapaxes(0, 1)),
        (8, lambda upright: np.rot90(upright, -1)),
    ],
)
def test_exif_orientation(format, orientation, stored):
    upright = np.full((80, 100, 3), 128, np.uint8)
    upright[:40, :50] = RED
    upright[40:, 50:] = BLUE
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"quality": 95} if format in ("JPEG", "WEBP", "HEIF") else {}
    file = Image.fromarray(np.ascontiguousarray(stored(upright)))
    image = read_image(encoded(file, format, exif=exif.tobytes(), **options))
    assert image.shape == upright.shape
    assert_color(image[10, 10], RED, 8)
    assert_color(image[-10, -10], BLUE, 8)
    assert_color(image[-10, 10], (128, 128, 128), 8)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_is_left_out():
    image = read_image(encoded(picture(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"))
    assert_color(image[5, 50], RED)


@pytest.mark.parametrize(
    ("mode", "format"), [("RGBA", "PNG"), ("LA", "PNG"), ("RGBA", "WEBP"), ("RGBA", "HEIF"), ("RGBA", "TIFF")]
)
def test_alpha_is_composited_on_white(mode, format):
    image = picture().convert(mode)
    alpha = np.full((80, 100), 255, np.uint8)
    alpha[:, :50], alpha[:, 50:75] = 0, 128
    image.putalpha(Image.fromarray(alpha))
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    pixels = read_image(encoded(image, format, **options))
    solid = np.asarray(image.convert("RGB"))[5, 90].astype(int)
    assert_color(pixels[5, 5], WHITE, 2)
    assert_color(pixels[5, 90], tuple(solid), 6)
    assert_color(pixels[5, 62], tuple((solid + 255) // 2), 8)


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_transparent_color(mode):
    image = picture().quantize(4) if mode == "P" else picture().convert(mode)
    first = image.getpixel((0, 0))
    pixels = read_image(encoded(image, "PNG", transparency=first))
    assert_color(pixels[5, 5], WHITE)
    assert not np.array_equal(pixels[-5, 5], WHITE)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled(format):
    ramp = np.linspace(0, 65535, 6400).reshape(80, 80).astype(np.uint16)
    image = read_image(encoded(Image.fromarray(ramp), format))
    np.testing.assert_allclose(image[..., 0], ramp / 257.0, atol=0.51)


def test_16_bit_color_is_scaled():
    cv2 = pytest.importorskip("cv2")
    ramp = np.linspace(0, 65535, 6400).reshape(80, 80).astype(np.uint16)
    rgb = np.dstack([ramp, ramp[::-1], np.full_like(ramp, 30000)])
    image = read_image(cv2.imencode(".png", rgb[..., ::-1])[1].tobytes())
    np.testing.assert_allclose(image, rgb / 257.0, atol=1.01)


@pytest.mark.parametrize(("mode", "format"), [("L", "PNG"), ("1", "PNG"), ("P", "PNG"), ("CMYK", "JPEG")])
def test_color_modes(mode, format):
    source = picture().quantize(8) if mode == "P" else picture().convert(mode)
    image = read_image(encoded(source, format))
    assert image.shape == (80, 100, 3)
    expected = np.asarray(source.convert("RGB"))
    assert np.abs(image.astype(int) - expected).mean() < 3


def test_embedded_color_profile_is_applied():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # With the names of two primaries exchanged, red in the file is green in truth.
    swapped = srgb.replace(b"rXYZ", b"????", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"????", b"gXYZ", 1)
    image = read_image(encoded(Image.new("RGB", (80, 80), (255, 0, 0)), "PNG", icc_profile=swapped))
    assert_color(image[0, 0], (0, 255, 0), 6)
    damaged = read_image(encoded(Image.new("RGB", (80, 80), (255, 0, 0)), "PNG", icc_profile=b"no profile"))
    assert_color(damaged[0, 0], (255, 0, 0))


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_first_frame_of_an_animation(format):
    frames = [picture(), picture().rotate(180)]
    image = read_image(encoded(frames[0], format, save_all=True, append_images=frames[1:], duration=50))
    assert image.shape == (80, 100, 3)
    assert_color(image[5, 50], RED)


def test_arrays():
    pixels = np.asarray(picture())
    np.testing.assert_array_equal(read_image(pixels / 255.0), pixels)
    np.testing.assert_array_equal(read_image((pixels / 255).astype(np.float32)), pixels)
    np.testing.assert_array_equal(read_image(pixels.astype(np.uint16) * 257), pixels)
    np.testing.assert_array_equal(read_image(pixels[..., 0])[..., 2], pixels[..., 0])
    np.testing.assert_array_equal(read_image(pixels[..., :1])[..., 2], pixels[..., 0])
    clear = np.dstack([pixels, np.zeros((80, 100), np.uint8)])
    assert (read_image(clear) == 255).all()
    np.testing.assert_array_equal(read_image(pixels[:, ::-1]), pixels[:, ::-1])


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((80, 80, 3), 200.0), "0..1"),
        (np.full((80, 80), np.nan), "0..1"),
        (np.zeros((80, 80, 3), np.int64), "int64"),
        (np.zeros((80, 80, 5), np.uint8), "shape"),
        (np.zeros((4, 80, 80, 3), np.uint8), "shape"),
        (np.zeros((10, 80, 3), np.uint8), "64 px"),
    ],
)
def test_arrays_that_are_no_image(array, words):
    with pytest.raises(UnreadableImage, match=words):
        read_image(array)


def test_too_small():
    with pytest.raises(UnreadableImage, match="10 x 10 pixels.*64 px"):
        read_image(encoded(picture(10, 10), "PNG"))
    assert read_image(encoded(picture(MIN_SIDE, MIN_SIDE), "PNG")).shape == (MIN_SIDE, MIN_SIDE, 3)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_200_megapixels_are_never_decoded(format, monkeypatch):
    options = {"compression": "tiff_lzw"} if format == "TIFF" else {}
    bomb = encoded(Image.new("L", (20_000, 10_000)), format, **options)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    with pytest.raises(UnreadableImage, match="too large.*50 megapixels"):
        read_image(bomb)


@pytest.mark.parametrize("format", ["PNG", "HEIF"])
def test_a_little_over_the_limit(format, monkeypatch):
    monkeypatch.setattr("flexavatar.io.images.MAX_PIXELS", 7999)
    with pytest.raises(UnreadableImage, match="100 x 80 pixels"):
        read_image(encoded(picture(), format))
    assert MAX_PIXELS == 50_000_000


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "HEIF", "GIF", "TIFF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_files(format, share):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 100, 3), dtype=np.uint8))
    data = encoded(noise, format)
    with pytest.raises(UnreadableImage):
        read_image(data[: int(len(data) * share)])


@pytest.mark.parametrize(
    "content", [b"Dear reader, this is no photo.\n" * 50, b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"]
)
def test_files_that_only_look_like_images(content, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(UnreadableImage, match="photo.jpg"):
        read_image(path)


def test_formats_that_run_programs_are_refused():
    with pytest.raises(UnreadableImage, match="not an image"):
        read_image(encoded(picture(), "EPS"))


def test_paths_without_an_image(tmp_path):
    empty = tmp_path / "empty.png"
    empty.touch()
    for source in (empty, b""):
        with pytest.raises(UnreadableImage, match="empty"):
            read_image(source)
    with pytest.raises(UnreadableImage, match="no file"):
        read_image(tmp_path / "missing.png")
    with pytest.raises(UnreadableImage, match="folder"):
        read_image(tmp_path)
    with pytest.raises(UnreadableImage):
        read_image(empty / "below.png")
    with pytest.raises(TypeError):
        read_image(42)  # pyright: ignore[reportArgumentType]


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_never_raise_anything_else():
    rng = np.random.default_rng(1)
    files = [encoded(picture(), format) for format in ("JPEG", "PNG", "WEBP", "HEIF", "TIFF", "GIF")]
    refused = 0
    for index in range(1500):
        data = bytearray(files[index % len(files)])
        for _ in range(3):
            data[rng.integers(min(len(data), 300))] = rng.integers(256)
        try:
            read_image(bytes(data))
        except UnreadableImage:
            refused += 1
    assert refused > 100
