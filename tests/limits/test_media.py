"""What a file may hold, as shipped: each limit is reached, and then passed by one."""

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pypdfium2
import pytest
import soundfile
from PIL import Image

from engine.audio import SAMPLE_RATE, read_audio, recording_of
from engine.audio.listening import Listener
from engine.config import GENEROUS, FrontEnd, MediaLimits
from engine.errors import AudioError, PageError
from engine.score.levels import Grey, normalise_grey
from engine.score.pages import pages_of, read_pages
from server.config import ADD_MEDIA, QUERY_MEDIA


def write_silence(path: Path, seconds: float) -> Path:
    soundfile.write(path, np.zeros(round(seconds * 2000), np.int16), 2000, subtype="PCM_U8")
    return path


def header_of_png(width: int, height: int) -> bytes:
    """A PNG that says how large it is, and then breaks off."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"")


def write_pages(folder: Path, count: int) -> Path:
    """A folder of so many empty pages, as small as they may be in a folder."""
    folder.mkdir()
    Image.new("L", (64, 64), 255).save(folder / "1.png")
    for number in range(2, count + 1):
        (folder / f"{number}.png").hardlink_to(folder / "1.png")
    return folder


def write_pdf(path: Path, size: tuple[float, float]) -> None:
    """A PDF of one empty page of this size in points."""
    document = pypdfium2.PdfDocument.new()
    document.new_page(*size)
    document.save(path)
    document.close()


# --- recordings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [2000, 768_000])
def test_the_lowest_and_the_highest_sampling_rate_are_read(tmp_path: Path, rate: int) -> None:
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 5 * rate).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", sound[:rate], rate)
    assert len(read_audio(tmp_path / "a.wav")) == pytest.approx(SAMPLE_RATE, abs=2)
    assert recording_of(sound, rate, FrontEnd()).duration_s == pytest.approx(5, abs=0.001)
    assert Listener(rate, FrontEnd()).heard_s == 0.0


@pytest.mark.parametrize("rate", [1999, 768_001])
def test_a_sampling_rate_below_or_above_is_refused(tmp_path: Path, rate: int) -> None:
    sound = np.full(rate, 0.5, np.float32)
    soundfile.write(tmp_path / "a.wav", sound, rate)
    told = rf"expected a sampling rate of 2000\.\.768000 Hz, got {rate}"
    with pytest.raises(AudioError, match=told):
        read_audio(tmp_path / "a.wav")
    with pytest.raises(AudioError, match=told):
        recording_of(sound, rate, FrontEnd())
    with pytest.raises(ValueError, match=told):
        Listener(rate, FrontEnd())


def test_three_steps_of_16_bits_are_silence_and_four_are_sound(tmp_path: Path) -> None:
    for steps in (3, -3, 4, -4):
        soundfile.write(tmp_path / f"{steps}.wav", np.full(SAMPLE_RATE, steps, np.int16), SAMPLE_RATE)
    for steps in (4, -4):
        assert len(read_audio(tmp_path / f"{steps}.wav")) == SAMPLE_RATE
    for steps in (3, -3):
        with pytest.raises(AudioError, match=r"is silent \(peak 9\.2e-05 of full scale\)"):
            read_audio(tmp_path / f"{steps}.wav")


def test_a_stream_begins_with_its_first_sample_that_is_no_silence() -> None:
    samples = np.full(2 * SAMPLE_RATE, 3 / 32768, np.float32)
    samples[SAMPLE_RATE:] = 4 / 32768
    listener = Listener(SAMPLE_RATE, FrontEnd())
    listener.hear(samples)
    assert listener.silent_s == 1.0


def test_a_recording_that_breaks_off_loses_three_seconds_at_most(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 60 * SAMPLE_RATE).astype(np.float32)
    soundfile.write(tmp_path / "a.flac", noise, SAMPLE_RATE)
    content = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(content[: len(content) // 2])
    assert 27 < len(read_audio(tmp_path / "a.flac")) / SAMPLE_RATE <= 30


def test_a_query_may_last_half_an_hour(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="is silent"):
        read_audio(write_silence(tmp_path / "a.wav", 1800), limits=QUERY_MEDIA)
    with pytest.raises(AudioError, match="longer than 1800 s, the maximum"):
        read_audio(write_silence(tmp_path / "b.wav", 1800.5), limits=QUERY_MEDIA)


def test_an_addition_may_last_two_hours_and_a_file_of_ones_own_as_long_as_it_likes() -> None:
    """They are not read, which would take 1.3 GB."""
    assert ADD_MEDIA.seconds == 7200.0
    assert (GENEROUS.seconds, GENEROUS.pages) == (np.inf, sys.maxsize)


# --- scores -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limits", "most"), [(QUERY_MEDIA, 40), (ADD_MEDIA, 1000)], ids=["query", "addition"])
def test_a_score_may_have_so_many_pages(tmp_path: Path, limits: MediaLimits, most: int) -> None:
    assert len(list(read_pages(write_pages(tmp_path / "most", most), limits))) == most
    more = write_pages(tmp_path / "more", most + 1)
    with pytest.raises(PageError, match=f"more than {most} pages, the largest number accepted"):
        list(read_pages(more, limits))


@pytest.mark.parametrize(
    ("limits", "width", "height"),
    [(QUERY_MEDIA, 10_000, 10_000), (ADD_MEDIA, 15_000, 20_000), (GENEROUS, 15_000, 20_000)],
    ids=["query", "addition", "own"],
)
def test_a_page_may_have_so_many_pixels(tmp_path: Path, limits: MediaLimits, width: int, height: int) -> None:
    (tmp_path / "a.png").write_bytes(header_of_png(width, height))
    with pytest.raises(PageError, match="damaged image"):  # it was not refused for its size
        list(read_pages(tmp_path / "a.png", limits))
    (tmp_path / "b.png").write_bytes(header_of_png(width, height + 1))
    with pytest.raises(PageError, match=f"{width} x {height + 1} px: too large for a page"):
        list(read_pages(tmp_path / "b.png", limits))


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((1800, 2400), (2400, 1800)),
        ((1801, 2400), (2399, 1800)),
        ((3600, 1800), (1800, 3600)),
        ((2500, 1801), (1800, 2499)),
        ((3601, 200), (200, 3600)),
        ((7200, 400), (200, 3600)),
    ],
)
def test_images_keep_their_size_up_to_1800_pixels_of_the_shorter_side_and_3600_of_width(
    tmp_path: Path, size: tuple[int, int], shape: tuple[int, int]
) -> None:
    Image.new("L", size, 255).save(tmp_path / "page.png")
    assert [page.shape for page in read_pages(tmp_path / "page.png")] == [shape]
    assert [page.shape for page in pages_of([np.full(size[::-1], 255, np.uint8)])] == [shape]


@pytest.mark.parametrize("size", [(16, 40), (40, 16)])
def test_a_side_of_a_page_has_16_pixels_at_least(tmp_path: Path, size: tuple[int, int]) -> None:
    least, less = Image.new("L", size, 255), Image.new("L", (size[0] - 1, size[1] - 1), 255)
    least.save(tmp_path / "a.png")
    assert len(list(read_pages(tmp_path / "a.png"))) == len(list(pages_of([np.asarray(least)]))) == 1
    less.save(tmp_path / "b.png")
    with pytest.raises(PageError, match="expected pages of at least 16 px a side"):
        list(read_pages(tmp_path / "b.png"))
    with pytest.raises(PageError, match="of at least 16 px a side"):
        list(pages_of([np.asarray(less)]))


def test_a_page_is_20_times_as_wide_as_high_at_most(tmp_path: Path) -> None:
    for height in (60, 59):
        Image.new("L", (1200, height), 255).save(tmp_path / f"{height}.png")
    assert [page.shape for page in read_pages(tmp_path / "60.png")] == [(60, 1200)]
    with pytest.raises(PageError, match="1200 x 59 px: too large for a page"):
        list(read_pages(tmp_path / "59.png"))


def test_a_page_is_20_times_as_high_as_wide_at_most(tmp_path: Path) -> None:
    for height in (2000, 2001):
        Image.new("L", (100, height), 255).save(tmp_path / f"{height}.png")
    assert [page.shape for page in read_pages(tmp_path / "2000.png")] == [(2000, 100)]
    with pytest.raises(PageError, match="100 x 2001 px: too large for a page"):
        list(read_pages(tmp_path / "2001.png"))
    for height in (200, 201):
        write_pdf(tmp_path / f"{height}.pdf", (10, height))
    assert [page.shape for page in read_pages(tmp_path / "200.pdf")] == [(16_383, 820)]
    with pytest.raises(PageError, match="expected pages at most 20 times as high as wide, got 10 x 201"):
        list(read_pages(tmp_path / "201.pdf"))


def lined(ink: int) -> Grey:
    """White paper with black staff lines' worth of ink of this grey."""
    page = np.full((300, 300), 255, np.uint8)
    page[50::20, 20:280] = page[51::20, 20:280] = ink
    return page


@pytest.mark.parametrize(("ink", "becomes"), [(0, 0), (100, 0), (191, 0), (223, 127), (239, 191)])
def test_ink_down_to_a_quarter_of_full_contrast_becomes_black_and_fainter_marks_stay_faint(
    ink: int, becomes: int
) -> None:
    page = normalise_grey(lined(ink))
    assert int(np.median(page[lined(ink) == ink])) == pytest.approx(becomes, abs=2)
    assert int(page.max()) == 255
