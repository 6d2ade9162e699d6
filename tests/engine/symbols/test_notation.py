"""Texts of scores: which files hold one, and what hostile ones cost."""

import io
import zipfile
from pathlib import Path

import pytest

from engine.errors import PageError
from engine.symbols import fault, formats, notation
from engine.symbols.notation import read_notation
from small_scores import write_kern
from small_symbols import ABC, CONTAINER, MEI, musicxml

PARTWISE = musicxml([60])


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def archive(path: Path, **members: str | bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr({"container": "META-INF/container.xml"}.get(name, f"{name}.xml"), content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "form"),
    [
        ("a.xml", PARTWISE, "xml"),
        ("a.musicxml", PARTWISE.encode("utf-16"), "xml"),
        ("a.musicxml", b"\xef\xbb\xbf" + PARTWISE.encode(), "xml"),
        ("a.musicxml", PARTWISE.replace("UTF-8", "ISO-8859-1").replace("Étude", "\xc9tude").encode("latin-1"), "xml"),
        ("a.xml", MEI, "mei"),
        ("a.krn", ABC, "abc"),  # the content decides
        ("a.abc", "%abc-2.1\r\n" + ABC.replace("\n", "\r\n"), "abc"),
    ],
)
def test_the_content_says_what_a_file_is(tmp_path: Path, name: str, content: str | bytes, form: str) -> None:
    read = read_notation(written(tmp_path / name, content))
    assert read.format == form
    assert "<?xml" not in read.text  # what it declares no longer holds
    assert ("Étude" in read.text) == (form == "xml")


@pytest.mark.parametrize(
    ("encoding", "title"),
    [("windows-1251", "Чайковский"), ("KOI8-R", "Чайковский"), ("Shift_JIS", "運命"), ("iso-8859-2", "Dvořák")],
)
def test_xml_is_read_in_the_encoding_that_it_declares(tmp_path: Path, encoding: str, title: str) -> None:
    content = PARTWISE.replace("UTF-8", encoding).replace("Étude", title).encode(encoding)
    text = read_notation(written(tmp_path / "a.xml", content)).text
    assert title in text
    assert "<?xml" not in text


@pytest.mark.parametrize("encoding", ["undefined", "punycode", "unicode_escape", "rot13", "UTF-16", "no-such", "UTF-8"])
def test_xml_that_is_not_in_the_encoding_that_it_declares_is_latin_1(tmp_path: Path, encoding: str) -> None:
    content = PARTWISE.replace("UTF-8", encoding).encode("latin-1")
    assert "Étude" in read_notation(written(tmp_path / "a.xml", content)).text


def test_a_stylesheet_is_no_declaration(tmp_path: Path) -> None:
    sheet = '<?xml-stylesheet href="a.css" encoding="x"?>'
    assert read_notation(written(tmp_path / "a.xml", sheet + "<score-partwise/>")).text.startswith(sheet)


@pytest.mark.parametrize(
    ("start", "repeated", "end"),
    [
        ("<mei><!-- ", "<?xml ", " --></mei>"),
        ("<mei>", " ", "</mei>"),
        ("X:1\nK:C\n", "\n", "c"),
    ],
)
def test_what_repeats_itself_is_read_in_a_moment(tmp_path: Path, start: str, repeated: str, end: str) -> None:
    """Each of them takes more than ten minutes if time grows with the square or cube of the length."""
    content = start + repeated * 300_000 + end
    assert read_notation(written(tmp_path / "a.mei", content)).text == content


def test_each_tune_has_one_empty_line_before_it(tmp_path: Path) -> None:
    content = ABC + "\nX:2\nK:C\nc\n\n\n\nX:3\nK:C\nd\n\n\ne"
    read = read_notation(written(tmp_path / "a.abc", content)).text
    assert read.endswith("\n\nX:2\nK:C\nc\n\nX:3\nK:C\nd\n\n\ne")


def test_kern_is_known_by_its_spines(tmp_path: Path) -> None:
    assert read_notation(write_kern(tmp_path / "a.krn", seed=0)).format == "humdrum"


def test_compressed_musicxml_is_the_file_that_its_container_names(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.mxl", cover="<cover/>", container=CONTAINER.format("score.xml"), score=PARTWISE)
    assert read_notation(path).text.endswith("</score-partwise>")
    without = archive(tmp_path / "b.mxl", score=PARTWISE)
    assert read_notation(without).format == "xml"


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "empty file"),
        (b"\x00\x01\x02 nothing", "expected MusicXML, MEI, kern or ABC, got something else"),
        (b"<html><body/></html>", "XML that is neither MusicXML nor MEI (its first element is 'html')"),
        (b"<score-timewise/>", "MusicXML ordered by time; export it ordered by part (score-partwise)"),
        (b"<score-partwise><part>", "damaged XML: no element found"),
        (b"<score-partwise>" + b"<a>" * 100_000, "XML with elements more than 200 deep"),
        (
            b'<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]><score-partwise>&c;</score-partwise>',
            "XML that declares entities ('b'), which are not expanded",
        ),
        (
            b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><score-partwise>&b;</score-partwise>',
            "XML that declares entities ('b'), which are not expanded",
        ),
        (b"PK\x03\x04 and no more", "damaged compressed MusicXML"),
    ],
)
def test_what_cannot_be_a_score_is_told(tmp_path: Path, content: bytes, cause: str) -> None:
    with pytest.raises(PageError) as error:
        read_notation(written(tmp_path / "a.musicxml", content))
    assert str(error.value).startswith(f"{tmp_path / 'a.musicxml'}: {cause}")


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "nothing.xml"])
def test_a_container_that_names_another_file_finds_none(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path / "a.mxl", container=CONTAINER.format(name), score=PARTWISE)
    with pytest.raises(PageError, match=r"a\.mxl: compressed MusicXML without the score that it names"):
        read_notation(path)


def test_an_archive_is_unpacked_as_far_as_a_text_may_be_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notation, "MAX_BYTES", 1 << 20)
    path = archive(tmp_path / "bomb.mxl", score=b"<score-partwise>" + b" " * (1 << 26))
    assert path.stat().st_size < 1 << 17
    with pytest.raises(PageError, match=r"bomb\.mxl: unpacks to more than 1,048,576 bytes"):
        read_notation(path)
    with pytest.raises(PageError, match=r"a\.krn: larger than 1,048,576 bytes"):
        read_notation(written(tmp_path / "a.krn", b" " * (1 << 20) + b"x"))


def test_an_archive_inside_an_archive_is_no_score(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as file:
        file.writestr("score.xml", PARTWISE)
    with pytest.raises(PageError, match="expected MusicXML, MEI, kern or ABC"):
        read_notation(archive(tmp_path / "a.mxl", score=inner.getvalue()))


@pytest.mark.parametrize(
    ("content", "is_foreign"),
    [
        (PARTWISE, False),
        (MEI, False),
        ("<score-timewise/>", False),
        ("<?xml version='1.0'?><TEI/>", True),
        ("", True),
        ("no XML", True),
        ('<!DOCTYPE a [<!ENTITY b "b">]><score-partwise/>', False),  # it is refused when it is read, with the cause
    ],
)
def test_xml_of_other_things_is_passed_over(tmp_path: Path, content: str, is_foreign: bool) -> None:
    path = written(tmp_path / "a.xml", content)
    assert fault(path) == ("XML that is neither MusicXML nor MEI" if is_foreign else "")


def test_without_the_extra_symbols_are_passed_over_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    formats.missing.cache_clear()
    monkeypatch.setattr(formats, "_PACKAGES", ("numpy", "no_such_engraver"))
    assert fault(tmp_path / "a.mid") == "symbols, which need no_such_engraver: pip install 'scorefind[symbols]'"
    formats.missing.cache_clear()
