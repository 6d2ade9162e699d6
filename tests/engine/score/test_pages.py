"""Page images from files of every kind, and what is wrong with bad ones."""

from pathlib import Path

import numpy as np
import pillow_heif
import pypdfium2
import pytest
from PIL import Image

from drawn_pages import drawn_page, shaded
from engine.config import MediaLimits
from engine.errors import PageError
from engine.score.pages import natural_order, normalise_grey, read_pages


@pytest.fixture(scope="module")
def drawn() -> Image.Image:
    return Image.fromarray(drawn_page([2, 2])[0])


@pytest.mark.parametrize("name", ["page.png", "page.jpg", "page.tif", "page.pdf", "no_suffix"])
def test_a_page_comes_back_from_every_format(tmp_path: Path, drawn: Image.Image, name: str) -> None:
    drawn.save(tmp_path / name, format=None if "." in name else "PNG")
    (page,) = read_pages(tmp_path / name)
    assert page.dtype == np.uint8
    assert page.shape[0] / page.shape[1] == pytest.approx(1.4, abs=0.01)
    assert page.mean() == pytest.approx(np.asarray(drawn).mean(), abs=4)
    assert page.max() == 255


@pytest.mark.parametrize("mode", ["1", "P", "RGB", "RGBA", "LA", "CMYK", "I;16"])
def test_every_kind_of_pixel_becomes_grey(tmp_path: Path, drawn: Image.Image, mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.asarray(drawn).astype(np.uint16) * 257)
    else:
        image = drawn.convert(mode)
    image.save(tmp_path / "page.tif")
    (page,) = read_pages(tmp_path / "page.tif")
    np.testing.assert_allclose(page.mean(), np.asarray(drawn).mean(), atol=2)


def test_transparent_paper_is_white(tmp_path: Path, drawn: Image.Image) -> None:
    ink = Image.new("RGBA", drawn.size, (0, 0, 0, 0))
    ink.paste((0, 0, 0, 255), mask=drawn.point(lambda grey: 255 - grey))
    ink.save(tmp_path / "page.png")
    (page,) = read_pages(tmp_path / "page.png")
    np.testing.assert_array_equal(page, np.asarray(drawn))


def test_every_page_of_a_tiff_in_group_4_is_read(tmp_path: Path, drawn: Image.Image) -> None:
    frames = [drawn.convert("1"), Image.new("1", (300, 400), 1)]
    frames[0].save(tmp_path / "score.tif", compression="group4", save_all=True, append_images=frames[1:])
    assert [page.shape for page in read_pages(tmp_path / "score.tif")] == [(1400, 1000), (400, 300)]


def test_every_page_of_a_pdf_is_rendered_at_the_same_width(tmp_path: Path, drawn: Image.Image) -> None:
    drawn.save(tmp_path / "score.pdf", save_all=True, append_images=[drawn.resize((500, 300))])
    assert [page.shape for page in read_pages(tmp_path / "score.pdf")] == [(2520, 1800), (1080, 1800)]


def test_a_folder_is_read_in_natural_order_without_what_is_no_image(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        Image.new("L", (100, 100 + number), 255).save(tmp_path / f"p{number}.png")
    (tmp_path / "notes.txt").write_text("no page")
    (tmp_path / ".hidden.png").write_text("no page")
    assert [page.shape[0] for page in read_pages(tmp_path)] == [101, 102, 110]


@pytest.mark.parametrize("suffix", ["heic", "webp", "jp2", "avif", "bmp", "gif", "pgm"])
def test_other_image_formats_are_read_as_png_is(tmp_path: Path, drawn: Image.Image, suffix: str) -> None:
    drawn = drawn.convert("L")
    drawn.save(tmp_path / "page.png")
    if suffix == "heic":
        pillow_heif.from_pillow(drawn).save(tmp_path / "page.heic", quality=95)
    else:
        drawn.save(tmp_path / f"page.{suffix}")
    (expected,), (page,) = read_pages(tmp_path / "page.png"), read_pages(tmp_path / f"page.{suffix}")
    assert page.shape == expected.shape
    assert np.abs(page.astype(int) - expected).mean() < 4


def test_covers_icons_and_thumbnails_in_a_folder_are_no_pages(tmp_path: Path, drawn: Image.Image) -> None:
    for name in ("p1.png", "p2.png", "cover.png", "p1_thumb.png"):
        drawn.resize((900, 1200)).save(tmp_path / name)
    drawn.resize((9, 12)).save(tmp_path / "rss.png")
    drawn.resize((240, 320)).save(tmp_path / "small.png")
    assert len(list(read_pages(tmp_path))) == 2


def test_natural_order_counts_numbers_and_ignores_case() -> None:
    names = ["b2.png", "B10.png", "a.png", "3.png", "b1.png"]
    assert sorted(names, key=lambda name: natural_order(Path(name))) == [
        "3.png",
        "a.png",
        "b1.png",
        "b2.png",
        "B10.png",
    ]


def test_pages_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    Image.new("L", (100, 100), 255).save(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes(b"not an image")
    reader = read_pages(tmp_path)
    assert next(reader).shape == (100, 100)
    with pytest.raises(PageError, match=r"2\.png: not a PDF, PNG, JPEG or TIFF file"):
        next(reader)


def test_wide_images_are_reduced(tmp_path: Path) -> None:
    Image.new("L", (3600, 5000), 255).save(tmp_path / "wide.png")
    assert next(read_pages(tmp_path / "wide.png")).shape == (2500, 1800)


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"%PDF-1.7 nothing", b"%PDF-", bytes(range(256)) * 8])
def test_what_is_no_page_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.pdf").write_bytes(content)
    with pytest.raises(PageError, match=r"bad\.pdf: (empty file|not a )"):
        list(read_pages(tmp_path / "bad.pdf"))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_a_truncated_image_is_refused_by_name(tmp_path: Path, drawn: Image.Image, suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    drawn.save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(PageError, match=rf"cut\{suffix}: "):
        list(read_pages(path))


def test_a_pdf_without_pages_is_refused(tmp_path: Path) -> None:
    document = pypdfium2.PdfDocument.new()
    document.save(tmp_path / "empty.pdf")
    document.close()
    with pytest.raises(PageError, match=r"empty\.pdf: "):
        list(read_pages(tmp_path / "empty.pdf"))


def test_a_locked_pdf_is_refused_as_such(tmp_path: Path) -> None:
    (tmp_path / "locked.pdf").write_bytes(_locked_pdf())
    with pytest.raises(PageError, match=r"locked\.pdf: protected by a password"):
        list(read_pages(tmp_path / "locked.pdf"))


def _locked_pdf() -> bytes:
    """A PDF whose encryption entries no empty password fits."""
    body = (
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\n"
        b"3 0 obj<</Filter/Standard/V 1/R 2/P -4/O<" + b"11" * 32 + b">/U<" + b"22" * 32 + b">>>endobj\n"
    )
    offsets = [body.index(b"%d 0 obj" % number) for number in (1, 2, 3)]
    table = b"xref\n0 4\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer<</Size 4/Root 1 0 R/Encrypt 3 0 R/ID[<00><00>]>>\nstartxref\n%d\n%%%%EOF" % len(body)
    return body + table + trailer


def test_a_page_too_large_to_decode_is_refused_before_it_is(tmp_path: Path, drawn: Image.Image) -> None:
    drawn.save(tmp_path / "bomb.png")
    with pytest.raises(PageError, match=r"bomb\.png: 1000 x 1400 px: too large for a page"):
        list(read_pages(tmp_path / "bomb.png", MediaLimits(pixels=1_000_000)))


def test_our_limit_of_pixels_holds_without_pillows_and_pillows_is_told_as_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (1000, 1400)).save(tmp_path / "bomb.png")
    for pixels, message in ((None, "1000 x 1400 px: too large"), (1000, "too large for a page: Image size")):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels)
        with pytest.raises(PageError, match=message):
            list(read_pages(tmp_path / "bomb.png", MediaLimits(pixels=1_000_000)))


def test_a_scan_as_large_as_they_come_is_read(tmp_path: Path) -> None:
    Image.new("1", (13_000, 14_000), 1).save(tmp_path / "large.png")
    assert [page.shape for page in read_pages(tmp_path / "large.png")] == [(1938, 1800)]


def test_a_score_of_too_many_pages_is_refused(tmp_path: Path, drawn: Image.Image) -> None:
    drawn.save(tmp_path / "score.tif", save_all=True, append_images=[drawn])
    assert len(list(read_pages(tmp_path / "score.tif", MediaLimits(pages=2)))) == 2
    with pytest.raises(PageError, match=r"score\.tif: more than 1 pages, the largest number accepted"):
        list(read_pages(tmp_path / "score.tif", MediaLimits(pages=1)))


def test_a_pdf_page_of_absurd_shape_is_refused(tmp_path: Path) -> None:
    document = pypdfium2.PdfDocument.new()
    document.new_page(10, 10_000)
    document.save(tmp_path / "thread.pdf")
    document.close()
    with pytest.raises(PageError, match=r"thread\.pdf: expected pages at most 20 times as high as wide"):
        list(read_pages(tmp_path / "thread.pdf"))


def test_a_tiny_image_is_refused(tmp_path: Path) -> None:
    Image.new("L", (5, 5), 255).save(tmp_path / "dot.png")
    with pytest.raises(PageError, match=r"dot\.png: expected pages of at least 16 px a side"):
        list(read_pages(tmp_path / "dot.png"))


def test_missing_files_and_folders_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PageError, match="no such file or folder"):
        list(read_pages(tmp_path / "nowhere.pdf"))
    with pytest.raises(PageError, match="expected page images"):
        list(read_pages(tmp_path))


def test_black_on_white_is_left_as_it_is() -> None:
    page, _ = drawn_page([2])
    assert normalise_grey(page) is page


def test_grey_paper_becomes_white_and_grey_ink_black() -> None:
    page, _ = drawn_page([2, 2])
    levelled = normalise_grey(shaded(page))
    assert np.percentile(levelled[page == 255], 5) == 255
    assert np.median(levelled[page == 0]) < 40


@pytest.mark.parametrize("shade", [0, 60, 128, 255])
def test_an_empty_page_stays_without_ink(shade: int) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(-3, 4, (400, 300))
    levelled = normalise_grey(np.clip(shade + noise, 0, 255).astype(np.uint8))
    assert levelled.std() < 30


@pytest.mark.parametrize("suffix", ["tga", "pcx", "dds", "sgi"])
def test_a_format_that_is_not_documented_is_refused_whatever_its_name(tmp_path: Path, suffix: str) -> None:
    """Pillow goes by content, too, and knows formats that start other programs."""
    Image.new("L", (200, 200), 255).convert("RGB").save(tmp_path / f"a.{suffix}")
    (tmp_path / f"a.{suffix}").rename(tmp_path / "a.png")
    with pytest.raises(PageError, match=r"a\.png: not a PDF, PNG, JPEG or TIFF file"):
        list(read_pages(tmp_path / "a.png"))


def test_a_postscript_file_named_png_starts_no_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    (tmp_path / "a.png").write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 200 200\n%%EndComments\nshowpage\n%%EOF\n"
    )
    with pytest.raises(PageError, match=r"a\.png: not a PDF, PNG, JPEG or TIFF file"):
        list(read_pages(tmp_path / "a.png"))
    assert not (tmp_path / "started").exists()
