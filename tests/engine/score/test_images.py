"""Image files: kinds of pixels, further images in a file, and damage."""

import logging
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from drawn_pages import drawn_page
from engine.errors import PageError
from engine.score.levels import Grey
from engine.score.pages import numbered_pages, read_pages

PAGE = drawn_page([2, 2])[0]
INK = 255 - PAGE


def shares(samples: int) -> np.ndarray:
    """The page as float (h, w, samples) in 0..1."""
    return np.repeat(PAGE[..., None] / 255, samples, axis=2)


def only(path: Path) -> Grey:
    (page,) = read_pages(path)
    return page


def close(page: Grey) -> bool:
    """Whether a page shows what was drawn."""
    return page.shape == PAGE.shape and float(np.abs(page.astype(int) - PAGE).mean()) < 2


# --- pixels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("ink", [0, 255])
def test_ink_on_transparency_is_seen_whether_it_is_black_or_white(tmp_path: Path, mode: str, ink: int) -> None:
    image = Image.new("L", (1000, 1400), ink).convert(mode)
    image.putalpha(Image.fromarray(INK))
    image.save(tmp_path / "page.png")
    assert close(only(tmp_path / "page.png"))


def test_paper_with_transparent_margins_is_on_white(tmp_path: Path) -> None:
    alpha = np.zeros_like(PAGE)
    alpha[50:650, 200:800] = 255
    image = Image.fromarray(PAGE).convert("RGBA")
    image.putalpha(Image.fromarray(alpha))
    image.save(tmp_path / "page.png")
    page = only(tmp_path / "page.png")
    assert page[700:].min() == 255
    np.testing.assert_array_equal(page[50:650, 200:800], PAGE[50:650, 200:800])


def test_the_lightness_of_lab_is_the_page(tmp_path: Path) -> None:
    neutral = Image.new("L", (1000, 1400), 128)
    Image.merge("LAB", (Image.fromarray(PAGE), neutral, neutral)).save(tmp_path / "page.tif")
    assert close(only(tmp_path / "page.tif"))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "float16", "float32"])
@pytest.mark.parametrize(
    ("photometric", "samples", "alpha"),
    [("rgb", 3, False), ("rgb", 4, True), ("minisblack", 2, True), ("cielab", 3, False)],
)
def test_tiffs_of_unusual_pixels_are_read(
    tmp_path: Path, dtype: str, photometric: str, samples: int, alpha: bool
) -> None:
    values = shares(samples)
    if alpha:
        values[..., -1] = 1
    if photometric == "cielab":
        values[..., 1:] = 0
    write_tiff(tmp_path / "page.tif", values, dtype, photometric, alpha)
    assert close(only(tmp_path / "page.tif"))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("alpha", [False, True])
def test_four_inks_are_read_with_and_without_transparency(tmp_path: Path, dtype: str, alpha: bool) -> None:
    values = np.zeros((*PAGE.shape, 4 + alpha))
    values[..., 3] = INK / 255
    values[..., 4:] = 1
    write_tiff(tmp_path / "page.tif", values, dtype, "separated", alpha)
    assert close(only(tmp_path / "page.tif"))


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint32", "uint64", "float16", "float32", "float64"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_numbers_of_every_size_become_grey(tmp_path: Path, dtype: str, photometric: str) -> None:
    page = PAGE if photometric == "minisblack" else INK
    values = (page / 255).astype(dtype) if dtype.startswith("float") else (page // 2).astype(dtype)
    tifffile.imwrite(tmp_path / "page.tif", values, photometric=photometric)
    assert close(only(tmp_path / "page.tif"))


def write_tiff(path: Path, values: np.ndarray, dtype: str, photometric: str, alpha: bool) -> None:
    """Writes values in 0..1 as a TIFF of this type."""
    scale = 1 if dtype.startswith("float") else np.iinfo(dtype).max
    extra = ["unassalpha"] if alpha else None
    tifffile.imwrite(
        path,
        np.rint(values * scale).astype(dtype) if scale > 1 else values.astype(dtype),
        photometric=photometric,
        extrasamples=extra,
        planarconfig="contig",
    )


def test_a_plane_a_sample_is_read(tmp_path: Path) -> None:
    planes = np.moveaxis(shares(3), -1, 0).astype(np.float32)
    tifffile.imwrite(tmp_path / "page.tif", planes, photometric="rgb", planarconfig="separate")
    assert close(only(tmp_path / "page.tif"))


def test_a_tiff_of_a_kind_that_is_not_read_is_named_by_its_kind(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "page.tif", np.zeros((40, 40), np.uint8), photometric=32844)
    with pytest.raises(PageError, match=r"page\.tif: a TIFF of a kind that is not read \(LOGL, 1 x uint8, NONE\)"):
        only(tmp_path / "page.tif")


# --- several images in a file -----------------------------------------------------------------------------------------


def test_reduced_images_of_a_pyramid_are_no_pages(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "score.tif") as writer:
        for _ in range(2):
            writer.write(PAGE, photometric="minisblack")
            for factor in (2, 4, 100):
                writer.write(PAGE[::factor, ::factor], photometric="minisblack", subfiletype=1)
    found = [(number, page.shape) for number, page in numbered_pages(tmp_path / "score.tif")]
    assert found == [(1, (1400, 1000)), (2, (1400, 1000))]


def test_an_unusual_page_among_others_is_read_in_its_place(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "score.tif") as writer:
        writer.write(PAGE, photometric="minisblack")
        writer.write(PAGE[:1000] / 255, photometric="minisblack")
        writer.write(PAGE[:900], photometric="minisblack")
    assert [len(page) for page in read_pages(tmp_path / "score.tif")] == [1400, 1000, 900]


def test_a_camera_s_previews_are_no_pages(tmp_path: Path) -> None:
    image = Image.fromarray(PAGE).convert("RGB")
    image.save(tmp_path / "page.jpg", format="MPO", save_all=True, append_images=[image.resize((500, 700))])
    assert [page.shape for page in read_pages(tmp_path / "page.jpg")] == [(1400, 1000)]


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_an_animation_is_its_first_image_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str
) -> None:
    image = Image.fromarray(PAGE)
    image.save(tmp_path / f"page{suffix}", save_all=True, append_images=[image.rotate(180)])
    assert close(only(tmp_path / f"page{suffix}"))
    assert "page 1: only the first image of an animation is read" in caplog.text


# --- damage -----------------------------------------------------------------------------------------------------------


def encoded(suffix: str, **options: object) -> bytes:
    stream = BytesIO()
    Image.fromarray(PAGE).save(stream, {".jpg": "JPEG", ".png": "PNG", ".tif": "TIFF"}[suffix], **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("suffix", "options"),
    [(".jpg", {}), (".jpg", {"progressive": True}), (".png", {}), (".tif", {})],
    ids=["jpeg", "progressive jpeg", "png", "tiff"],
)
@pytest.mark.parametrize("missing", [40, 0.5])
def test_a_truncated_image_is_read_as_far_as_it_goes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str, options: dict[str, object], missing: float
) -> None:
    content = encoded(suffix, **options)
    left = len(content) - 40 if missing == 40 else len(content) // 2
    (tmp_path / f"cut{suffix}").write_bytes(content[:left])
    page = only(tmp_path / f"cut{suffix}")
    wrong = np.abs(page.astype(int) - PAGE).mean(axis=1)
    assert wrong[: 1380 if missing == 40 else 200].max() < 12
    if missing != 40 and not options:
        assert page[-1].min() > 200  # what is missing is paper
    (record,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert f"cut{suffix}: page 1: damaged image" in record.getMessage()
    assert "read as far as it goes" in record.getMessage()


def test_a_tiff_in_strips_is_read_up_to_the_strip_that_breaks_off(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "cut.tif", PAGE, rowsperstrip=100, compression="zlib", photometric="minisblack")
    content = (tmp_path / "cut.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(content[: len(content) * 2 // 3])
    page = only(tmp_path / "cut.tif")
    np.testing.assert_array_equal(page[:300], PAGE[:300])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_an_image_of_which_hardly_anything_is_left_is_refused_by_name(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"cut{suffix}").write_bytes(encoded(suffix)[:60])
    with pytest.raises(PageError, match=rf"cut\{suffix}: "):
        only(tmp_path / f"cut{suffix}")
