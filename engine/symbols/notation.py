"""Files of notation -> the text of a score, checked: what Verovio gets is small, shallow, and names no other file."""

import codecs
import io
import re
import xml.parsers.expat as expat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.errors import PageError

Format = Literal["xml", "mei", "humdrum", "abc"]
"""Name of a format, as Verovio calls it; `xml` is MusicXML."""

MAX_BYTES = 64 << 20
"""Size of a text. The score of a whole opera has 60 MB."""
MAX_DEPTH = 200
"""Depth of the elements of XML. MEI of a page of full score has some 25."""
_START_BYTES = 1 << 16
"""What is read of a file to tell its format."""

_ROOTS: dict[str, Format] = {"score-partwise": "xml", "mei": "mei"}
_TIMEWISE = "score-timewise"
_CONTAINER = "META-INF/container.xml"
_ZIP = b"PK\x03\x04"
_DECLARATION = re.compile(r"\s*<\?xml\s[^>]*\?>")
"""Matches at the start of XML alone. Sought anywhere in a text, it would take the square of the text's length."""
_ENCODING = re.compile(r"\sencoding\s*=\s*[\"']([\w.:-]+)")
_NO_ENCODINGS = frozenset("idna punycode raw-unicode-escape undefined unicode-escape".split())
"""Codecs of Python that no file is written in. Some of them take the square of the text's length."""
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError)
"""What zipfile raises of damaged, encrypted and unusual archives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notation:
    """A score in symbols."""

    path: Path
    format: Format
    text: str


def read_notation(path: Path) -> Notation:
    """Returns the score in a file of MusicXML (also compressed), MEI, kern or ABC, whatever its suffix.

    Raises PageError if the file is none of these, is damaged, or exceeds a limit of this module.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as exc:
        raise PageError(path, f"cannot be read: {exc.strerror}") from exc
    _require(path, len(data) <= MAX_BYTES, f"larger than {MAX_BYTES:,} bytes, the largest score that is read")
    if data.startswith(_ZIP):
        data = _unpacked(path, data)
    _require(path, data.strip() != b"", "empty file")
    return _notation(path, _decoded(data))


def is_foreign_xml(path: Path) -> bool:
    """Returns whether a file is no score in XML, by its first element. What is hostile or compressed may be a score."""
    try:
        with path.open("rb") as file:
            data = file.read(_START_BYTES)
        return not data.startswith(_ZIP) and _checked(path, _decoded(data), whole=False) not in (*_ROOTS, _TIMEWISE)
    except (OSError, PageError):
        return False  # reading it says why


def _require(path: Path, is_right: bool, cause: str) -> None:
    if not is_right:
        raise PageError(path, cause)


# --- formats ----------------------------------------------------------------------------------------------------------


def _notation(path: Path, text: str) -> Notation:
    """Returns the score in a text, by its content."""
    if text.lstrip().startswith("<"):
        root = _checked(path, text, whole=True)
        _require(path, root != _TIMEWISE, "MusicXML ordered by time; export it ordered by part (score-partwise)")
        _require(path, root in _ROOTS, f"XML that is neither MusicXML nor MEI (its first element is {root[:40]!r})")
        return Notation(path=path, format=_ROOTS[root], text=_undeclared(text))
    if re.search(r"^\*\*(kern|mens|recip)", text, re.MULTILINE):
        return Notation(path=path, format="humdrum", text=text)
    if re.search(r"^X:\s*\d", text, re.MULTILINE) and re.search(r"^K:", text, re.MULTILINE):
        return Notation(path=path, format="abc", text=_apart(text))
    raise PageError(path, "expected MusicXML, MEI, kern or ABC, got something else")


def _undeclared(xml: str) -> str:
    """Returns XML without its declaration, because the encoding that it names is no longer that of the text."""
    declaration = _DECLARATION.match(xml)
    return xml[declaration.end() :] if declaration else xml


def _apart(abc: str) -> str:
    """Returns tunes with an empty line before each: without it, Verovio dies of the second one."""
    lines = abc.replace("\r\n", "\n").replace("\r", "\n")
    return re.sub(r"(?<!\n)\n++(?=X:)", "\n\n", lines)  # a run of empty lines is tried once, not from each line


def _decoded(data: bytes) -> str:
    """Returns the text of a file: UTF-16 with a mark, UTF-8, the encoding that XML declares, or else Latin-1.

    UTF-8 comes first, because editors write it below declarations of other encodings. The other way round is rare.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return _declared(data) or data.decode("latin-1")


def _declared(data: bytes) -> str:
    """Returns the text of XML in the encoding that it declares; empty if it declares none, or is in another one."""
    declaration = _DECLARATION.match(data[:200].decode("latin-1"))
    encoding = _ENCODING.search(declaration[0]) if declaration else None
    if encoding is None:
        return ""
    try:
        if codecs.lookup(encoding[1]).name in _NO_ENCODINGS:
            return ""
        text = data.decode(encoding[1])
    except (UnicodeError, LookupError):
        return ""
    return text if _DECLARATION.match(text) else ""  # UTF-16 cannot be declared in ASCII


def _checked(path: Path, text: str, *, whole: bool) -> str:
    """Returns the name of the first element of XML. Raises PageError for XML that is damaged or hostile.

    whole: whether all of the text is there; otherwise its start is judged.
    """
    names: list[str] = []
    depth = 0

    def start(name: str, _: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if not names:
            names.append(name.rpartition(":")[2])
        _require(path, depth <= MAX_DEPTH, f"XML with elements more than {MAX_DEPTH} deep")

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    def declare(name: str, *_: object) -> None:
        raise PageError(path, f"XML that declares entities ({name[:40]!r}), which are not expanded")

    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler, parser.EndElementHandler, parser.EntityDeclHandler = start, end, declare
    try:
        parser.Parse(text.encode("utf-8", "replace"), whole)
    except expat.ExpatError as exc:
        if whole:
            raise PageError(path, f"damaged XML: {exc}") from exc
    return names[0] if names else ""


# --- compressed MusicXML ----------------------------------------------------------------------------------------------


def _unpacked(path: Path, data: bytes) -> bytes:
    """Returns the score in an archive. Nothing is written, so names that lead elsewhere find nothing."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _member(path, archive, _main(path, archive))
    except _DAMAGE as exc:
        raise PageError(path, f"damaged compressed MusicXML: {exc}") from exc


def _main(path: Path, archive: zipfile.ZipFile) -> str:
    """Returns the name of the score in an archive: what the container says, or else the first file of XML."""
    names = archive.namelist()
    if _CONTAINER in names:
        container = _decoded(_member(path, archive, _CONTAINER))
        _checked(path, container, whole=True)
        for root in re.findall(r"<(?:\w+:)?rootfile\b[^>]*>", container):
            found = re.search(r"full-path\s*=\s*(?:\"([^\"]*)\"|'([^']*)')", root)
            kind = re.search(r"media-type\s*=\s*[\"']([^\"']*)", root)
            if found and (kind is None or "musicxml" in kind[1]):
                name = found[1] or found[2] or ""
                _require(path, name in names, f"compressed MusicXML without the score that it names, {name[:80]!r}")
                return name
    others = [name for name in names if name.lower().endswith((".xml", ".musicxml")) and "META-INF" not in name]
    _require(path, bool(others), "an archive without a score")
    return others[0]


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    """Returns a file of an archive. No more of it is unpacked than a text may have."""
    with archive.open(name) as file:
        data = file.read(MAX_BYTES + 1)
    _require(path, len(data) <= MAX_BYTES, f"unpacks to more than {MAX_BYTES:,} bytes, the largest score that is read")
    return data
