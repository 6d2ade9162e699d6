"""Page images from files of every kind, and what is wrong with bad ones."""

import itertools
import logging
from pathlib import Path

import numpy as np
import pillow_heif
import pypdfium2
import pytest
from PIL import Image

from drawn_pages import drawn_page
from engine.config import MediaLimits
from engine.errors import PageError
from engine.score import pictures
from engine.score.pages import natural_order, numbered_pages, read_pages


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


def test_the_shorter_side_of_a_page_of_a_pdf_has_the_same_length(tmp_path: Path, drawn: Image.Image) -> None:
    others = [drawn.resize((500, 300)), drawn.resize((500, 100))]
    drawn.save(tmp_path / "score.pdf", save_all=True, append_images=others)
    assert [page.shape for page in read_pages(tmp_path / "score.pdf")] == [(2520, 1800), (1800, 3000), (720, 3600)]


def test_a_spread_is_reduced_until_each_of_its_pages_is_as_large_as_a_single_page(tmp_path: Path) -> None:
    for name, size in (("1", (2400, 3200)), ("2", (4800, 3200)), ("3", (4000, 800))):
        Image.new("L", size, 255).save(tmp_path / f"{name}.png")
    assert [page.shape for page in read_pages(tmp_path)] == [(2400, 1800), (1800, 2700), (720, 3600)]


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


def test_long_numbers_in_a_name_take_no_time() -> None:
    """Where digits may be split, 60 of them take longer than anybody waits."""
    stems = ["cover" + "1" * 60, "cover 300x200_2 (1)", "cover" + "1" * 60 + " p", "Folder 9783795711112 123456x7 scan"]
    pages = [Path(f"{stem}.png") for stem in stems]
    assert pictures.among(pages) == set(pages[:2])


def test_natural_order_counts_numbers_and_ignores_case() -> None:
    names = ["b2.png", "B10.png", "a.png", "3.png", "b1.png"]
    assert sorted(names, key=lambda name: natural_order(Path(name))) == [
        "3.png",
        "a.png",
        "b1.png",
        "b2.png",
        "B10.png",
    ]


def test_names_that_differ_in_case_or_zeros_alone_have_one_order() -> None:
    names = ["Page1.png", "page001.png", "page01.png", "page1.png", "page2.png"]
    for order in itertools.permutations(names):
        assert sorted(order, key=lambda name: natural_order(Path(name))) == names


def test_pages_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    Image.new("L", (100, 100), 255).save(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes(b"not an image")
    (tmp_path / "3.png").symlink_to(tmp_path / "1.png")
    reader = numbered_pages(tmp_path)
    number, page = next(reader)
    assert (number, page.shape) == (1, (100, 100))
    (tmp_path / "2.png").unlink()
    Image.new("L", (100, 200), 255).save(tmp_path / "2.png")
    assert [(number, page.shape) for number, page in reader] == [(2, (200, 100)), (3, (100, 100))]


def test_wide_images_are_reduced(tmp_path: Path) -> None:
    Image.new("L", (3600, 5000), 255).save(tmp_path / "wide.png")
    assert next(read_pages(tmp_path / "wide.png")).shape == (2500, 1800)


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"%PDF-1.7 nothing", b"%PDF-", bytes(range(256)) * 8])
def test_what_is_no_page_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.pdf").write_bytes(content)
    with pytest.raises(PageError, match=r"bad\.pdf: (empty file|not a )"):
        list(read_pages(tmp_path / "bad.pdf"))


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


@pytest.mark.parametrize("suffix", ["tga", "pcx", "dds", "sgi"])
def test_a_format_that_is_not_documented_is_refused_whatever_its_name(tmp_path: Path, suffix: str) -> None:
    """Pillow goes by content, too, and knows formats that start other programs."""
    Image.new("L", (200, 200), 255).convert("RGB").save(tmp_path / f"a.{suffix}")
    (tmp_path / f"a.{suffix}").rename(tmp_path / "a.png")
    with pytest.raises(PageError, match=r"a\.png: not a PDF or an image in a format that is read"):
        list(read_pages(tmp_path / "a.png"))


def test_a_postscript_file_named_png_starts_no_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    (tmp_path / "a.png").write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 200 200\n%%EndComments\nshowpage\n%%EOF\n"
    )
    with pytest.raises(PageError, match=r"a\.png: not a PDF or an image in a format that is read"):
        list(read_pages(tmp_path / "a.png"))
    assert not (tmp_path / "started").exists()


# --- pages that are passed over ---------------------------------------------------------------------------------------


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_a_page_that_cannot_be_read_is_passed_over_by_name_and_the_others_keep_their_numbers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, 3):
        Image.new("L", (100, 100), 255).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"no image")
    assert [number for number, _ in numbered_pages(tmp_path)] == [1, 3]
    (warning,) = warnings_of(caplog)
    assert warning.startswith(f"{tmp_path}/2.png: page 2 is passed over: not a PDF or an image")


def test_an_icon_and_a_banner_among_pages_are_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, size in (("1", (800, 1100)), ("2", (12, 12)), ("3", (2100, 100)), ("4", (800, 1100))):
        Image.new("L", size, 255).save(tmp_path / f"{name}.png")
    assert [number for number, _ in numbered_pages(tmp_path)] == [1, 3]
    assert [warning.partition("page ")[2][:16] for warning in warnings_of(caplog)] == ["2 is passed over"]


def test_thin_pages_of_a_pdf_are_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    document = pypdfium2.PdfDocument.new()
    for size in ((600, 800), (10, 900), (900, 10), (600, 800)):
        document.new_page(*size)
    document.save(tmp_path / "score.pdf")
    document.close()
    assert [number for number, _ in numbered_pages(tmp_path / "score.pdf")] == [1, 4]
    assert "score.pdf: page 2 is passed over: expected pages at most 20 times" in warnings_of(caplog)[0]
    assert len(warnings_of(caplog)) == 2


def test_a_document_without_a_readable_page_is_refused_for_its_first(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"no image")
    Image.new("L", (5, 5), 255).save(tmp_path / "2.png")
    with pytest.raises(PageError, match=r"1\.png: not a PDF or an image"):
        list(read_pages(tmp_path))


def test_pages_that_are_passed_over_count_towards_the_limit(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("L", (2100, 100), 255).save(tmp_path / f"{number}.png")
    with pytest.raises(PageError, match="more than 2 pages"):
        list(read_pages(tmp_path, MediaLimits(pages=2)))


def test_progress_is_told_after_each_page(tmp_path: Path, drawn: Image.Image) -> None:
    drawn.save(tmp_path / "score.pdf", save_all=True, append_images=[drawn, drawn])
    told: list[tuple[int, int]] = []
    for number, _ in numbered_pages(tmp_path / "score.pdf", progress=lambda done, total: told.append((done, total))):
        assert len(told) == number - 1
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_negative_becomes_a_page(tmp_path: Path, drawn: Image.Image) -> None:
    drawn.point(lambda grey: 255 - grey).save(tmp_path / "page.png")
    (page,) = read_pages(tmp_path / "page.png")
    np.testing.assert_array_equal(page, np.asarray(drawn))


def test_a_page_of_a_pdf_whose_image_is_damaged_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pages = [Image.fromarray(drawn_page([systems])[0]).convert("RGB") for systems in (2, 3)]
    blank = Image.new("RGB", pages[0].size, "white")
    pages[0].save(tmp_path / "score.pdf", save_all=True, append_images=[blank, pages[1]])
    content = (tmp_path / "score.pdf").read_bytes()
    start = content.index(b"\xff\xd8")
    (tmp_path / "score.pdf").write_bytes(content[:start] + bytes(2000) + content[start + 2000 :])
    assert len(list(read_pages(tmp_path / "score.pdf"))) == 3
    assert warnings_of(caplog) == [f"{tmp_path}/score.pdf: page 1: shows nothing: its image is damaged"]
