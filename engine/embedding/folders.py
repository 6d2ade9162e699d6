"""What lies in a folder, judged by names: scores, recordings, folders, and what is passed over, with the reason."""

import errno
import logging
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine import symbols
from engine.score import pages, pictures
from engine.values import Kind

logger = logging.getLogger(__name__)

RECORDING_SUFFIXES = frozenset(
    (
        ".wav .wave .w64 .rf64 .bwf .flac .ogg .oga .ogv .ogx .opus .spx .mp3 .mp2 .mpa .m2a .m4a .m4b .m4r .aac .adts"
        " .aif .aiff .aifc .au .snd .caf .voc .wma .asf .wmv .mp4 .m4v .mov .qt .3gp .3g2 .mkv .mka .webm .weba .avi"
        " .flv .mpg .mpeg .vob .mts .m2ts .amr .gsm .ac3 .eac3 .dts .dsf .ape .wv .mpc .tta .tak .shn .ra .rm .rmvb"
    ).split()
)
"""Suffixes of files that count as recordings. A file with another suffix is read only if the caller names its kind."""
UNREAD_SUFFIXES = frozenset(
    (
        ".djvu .djv .ps .eps .svg .psd .xcf .ai .jxl .jxr .jb2 .jbig2 .dng .cr2 .cr3 .nef .arw .orf .rw2 .raf"
        " .ly .mscz .mscx .sib .mus .musx .gp .gp3 .gp4 .gp5 .gpx .cap"
        " .dff .awb .oma .aa .aax .m4p .mod .xm .it .s3m"
    ).split()
)
"""Suffixes of scores and recordings in formats that are not read. They are named where they are passed over."""

_LITTER = frozenset(
    (
        "@eadir #recycle $recycle.bin __macosx thumbs.db ehthumbs.db desktop.ini thumbs thumbnails _thumbs lost+found"
    ).split()
)
"""Names, in lower case, of the files and folders that systems and cameras put beside those of people."""

MOST_NAMED = 10
"""Largest number of files of one reason that a log line names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderContents:
    """The contents of a folder. Litter, such as hidden files, is left out."""

    folders: tuple[Path, ...]
    media: tuple[Path, ...]
    """Scans and recordings, in natural order."""
    symbols: tuple[Path, ...]
    """Scores in symbols, in natural order."""
    unread: dict[Path, str]
    """Files that a person may miss and that are passed over, each with the reason."""
    pictures: tuple[Path, ...]
    """Covers, icons and thumbnails."""
    others: tuple[Path, ...]
    """Files that are neither scores nor recordings by their names, such as notes and lists."""

    @property
    def pages(self) -> tuple[Path, ...]:
        """Returns the pages in order if the folder is a score, which holds page images and no other media or folder.

        Symbols beside the pages are documents of their own.
        """
        images = all(path.suffix.lower() in pages.IMAGE_SUFFIXES for path in self.media)
        return self.media if images and not self.folders else ()


def contents(folder: Path) -> FolderContents:
    """Returns the contents of a folder. Raises OSError if the folder cannot be listed."""
    visible = sorted((path for path in folder.iterdir() if not is_litter(path)), key=pages.natural_order)
    unread = {path: cause for path in visible if (cause := fault(path))}
    sound = [path for path in visible if path not in unread]
    folders = tuple(path for path in sound if path.is_dir())
    files = [path for path in sound if path not in set(folders)]
    in_symbols = {path: symbols.fault(path) for path in files if symbols.is_symbolic(path)}
    media = [path for path in files if kind_by_suffix(path.suffix.lower()) and path not in in_symbols]
    no_pages = pictures.among(path for path in media if path.suffix.lower() in pages.IMAGE_SUFFIXES)
    foreign = {path for path in files if path.suffix.lower() in UNREAD_SUFFIXES}
    return FolderContents(
        folders=folders,
        media=tuple(path for path in media if path not in no_pages),
        symbols=tuple(path for path, cause in in_symbols.items() if not cause),
        unread=unread
        | dict.fromkeys(sorted(foreign), "a format that is not read")
        | {path: cause for path, cause in in_symbols.items() if cause},
        pictures=tuple(sorted(no_pages)),
        others=tuple(path for path in files if path not in {*media, *foreign, *in_symbols}),
    )


def kind_by_suffix(suffix: str, among: Kind | None = None) -> Kind | None:
    """Returns the kind of document in files with this suffix (lower case); None if the suffix shows no kind.

    among: see `engine.embedding.documents.kind_of`.
    """
    if suffix in pages.SUFFIXES:
        return "score"
    return "recording" if suffix in RECORDING_SUFFIXES else symbols.kind_by_suffix(suffix, among)


def is_litter(path: Path) -> bool:
    """Returns whether a file or folder is hidden, or is one that systems and cameras put beside those of people."""
    return path.name.startswith((".", "~$")) or path.name.lower() in _LITTER


def fault(path: Path) -> str:
    """Returns why a path can be neither read nor listed; empty if it is a file or a folder.

    A pipe or a device is never opened: reading it may never end.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return "a link that leads nowhere" if os.path.islink(path) else "no such file or folder"
    except OSError as exc:
        return "a link that leads to itself" if exc.errno == errno.ELOOP else f"cannot be opened: {exc.strerror}"
    except ValueError as exc:
        return f"cannot be opened: {exc}"  # a null character
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return ""
    return "a pipe, socket or device, which is never opened"


def warn(unread: Mapping[Path, str]) -> None:
    """Logs one warning for each reason for which files were passed over, with their names."""
    for cause in sorted(set(unread.values())):
        paths = [path for path, its_cause in unread.items() if its_cause == cause]
        logger.warning("passed over (%s): %s", cause, named(map(str, paths)))


def named(names: Iterable[str]) -> str:
    """Returns a list of names for a log line, cut after `MOST_NAMED`."""
    names = list(names)
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
