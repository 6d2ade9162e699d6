"""The demo's pieces: real compositions that music21 carries, and how each becomes two staves.

Keyboard music keeps its staves, songs give their piano part, quartets and chorales have two parts on each staff.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from indexer.errors import IndexerError

Staves = tuple[tuple[int, ...], tuple[int, ...]]
"""Numbers of the source's staves, from 1 at the top, that go onto the upper and onto the lower staff."""

PIANO: Staves = ((1,), (2,))
SONG: Staves = ((2,), (3,))
TRIO: Staves = ((1, 2), (3,))
FOUR_PARTS: Staves = ((1, 2), (3, 4))


class DemoError(IndexerError):
    """Something that the demo needs is missing, or the demo cannot go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPiece:
    """One piece, or the first measures of it."""

    id: str
    file: str
    """Path of the score in music21's corpus."""
    composer: str
    work: str
    title: str
    bars: int
    """Number of measures, from the first on: one to three pages, about a minute."""
    staves: Staves
    """Numbers of the source staves for each of the two new staves."""


def corpus() -> Path:
    """The folder of music21's corpus. Importing music21 would take seconds, so only its folder is searched.

    Raises DemoError if music21 is not installed, or comes without its corpus.
    """
    spec = importlib.util.find_spec("music21")
    folder = Path(spec.origin or "").parent / "corpus" if spec is not None else None
    if folder is None or not (folder / "bach").is_dir():
        raise DemoError("expected the package music21 with its corpus: pip install 'scorefind[demo]'")
    return folder


def _pieces(table: list[tuple[str, str, str, str, str, int, Staves]]) -> list[DemoPiece]:
    """The pieces in rows of id, file, composer, work, title, bars and staves."""
    return [
        DemoPiece(id=id, file=file, composer=composer, work=work, title=title, bars=bars, staves=staves)
        for id, file, composer, work, title, bars, staves in table
    ]


def _keyboard() -> list[DemoPiece]:
    """Music for piano."""
    return _pieces(
        [
            ("bach_prelude", "bach/bwv846.mxl", "J. S. Bach", "BWV 846", "Prelude in C major", 34, PIANO),
            ("cpebach_adagio", "cpebach/h186.mxl", "C. P. E. Bach", "H. 186", "Poco adagio", 16, PIANO),
            ("mozart_k545", "mozart/k545/movement1_exposition.mxl", "W. A. Mozart", "K. 545", "Allegro", 12, PIANO),
            ("chopin_mazurka", "chopin/mazurka06-2.krn", "Frédéric Chopin", "Op. 6 No. 2", "Mazurka", 56, PIANO),
            ("joplin_maple_leaf", "joplin/maple_leaf_rag.mxl", "Scott Joplin", "", "Maple Leaf Rag", 40, PIANO),
            ("verdi_donna", "verdi/laDonnaEMobile.mxl", "Giuseppe Verdi", "Rigoletto", "La donna è mobile", 35, PIANO),
            ("schoenberg_19_2", "schoenberg/opus19/movement2.mxl", "Arnold Schönberg", "Op. 19", "Langsam", 9, PIANO),
        ]
    )


def _songs() -> list[DemoPiece]:
    """Songs and pieces with an accompaniment, a trio sonata and a hymn."""
    return _pieces(
        [
            ("schubert_lindenbaum", "schubert/Lindenbaum.xml", "Franz Schubert", "D. 911", "Der Lindenbaum", 32, SONG),
            (
                "schumann_dichterliebe",
                "schumann_robert/opus48no2.mxl",
                "Robert Schumann",
                "Op. 48",
                "Aus meinen Tränen",
                18,
                SONG,
            ),
            (
                "handel_rinaldo",
                "handel/rinaldo/Lascia_chio_pianga.mxl",
                "G. F. Handel",
                "Rinaldo",
                "Lascia ch'io pianga",
                40,
                SONG,
            ),
            ("weber_concertino", "weber/concertino_clarinet.mxl", "C. M. von Weber", "Op. 26", "Concertino", 50, SONG),
            ("corelli_grave", "corelli/opus3no1/1grave.xml", "Arcangelo Corelli", "Op. 3 No. 1", "Grave", 19, TRIO),
            (
                "johnson_lift",
                "johnson_j_r/lift_every_voice.mxl",
                "J. Rosamond Johnson",
                "",
                "Lift Every Voice and Sing",
                32,
                FOUR_PARTS,
            ),
        ]
    )


def _polonaises() -> list[DemoPiece]:
    """Clara Schumann's four polonaises."""
    return [
        DemoPiece(
            id=f"clara_schumann_1_{number}",
            file=f"schumann_clara/polonaise_op1n{number}.mxl",
            composer="Clara Schumann",
            work=f"Op. 1 No. {number}",
            title="Polonaise",
            bars=bars,
            staves=PIANO,
        )
        for number, bars in ((1, 40), (2, 32), (3, 40), (4, 40))
    ]


def _quartets() -> list[DemoPiece]:
    """Movements of string quartets."""
    table: list[tuple[str, str, str, str, tuple[int, ...]]] = [
        # folder, id, composer, work; bars of each movement, 0 for a movement that is left out
        ("haydn/opus1no1", "haydn_1_1", "Joseph Haydn", "Op. 1 No. 1", (66, 62, 14, 46, 68)),
        ("haydn/opus74no1", "haydn_74_1", "Joseph Haydn", "Op. 74 No. 1", (36, 70, 60, 64)),
        ("mozart/k80", "mozart_k80", "W. A. Mozart", "K. 80", (40, 36, 52, 48)),
        ("mozart/k155", "mozart_k155", "W. A. Mozart", "K. 155", (36, 50, 60)),
        ("mozart/k156", "mozart_k156", "W. A. Mozart", "K. 156", (100, 24, 62, 24)),
        ("mozart/k458", "mozart_k458", "W. A. Mozart", "K. 458", (0, 63, 16, 0)),
        ("beethoven/opus18no1", "beethoven_18_1", "Ludwig van Beethoven", "Op. 18 No. 1", (60, 18, 80, 0)),
        ("beethoven/opus59no1", "beethoven_59_1", "Ludwig van Beethoven", "Op. 59 No. 1", (44, 0, 24, 50)),
        ("beethoven/opus59no2", "beethoven_59_2", "Ludwig van Beethoven", "Op. 59 No. 2", (40, 36, 60, 60)),
        ("beethoven/opus59no3", "beethoven_59_3", "Ludwig van Beethoven", "Op. 59 No. 3", (40, 40, 40, 0)),
        ("schumann_robert/opus41no1", "schumann_41_1", "Robert Schumann", "Op. 41 No. 1", (0, 50, 60, 32, 0)),
    ]
    return [
        DemoPiece(
            id=f"{name}_{number}",
            file=f"{folder}/movement{number}.mxl",
            composer=composer,
            work=f"String quartet {work}",
            title=f"Movement {number}",
            bars=bars,
            staves=FOUR_PARTS,
        )
        for folder, name, composer, work, movements in table
        for number, bars in enumerate(movements, 1)
        if bars
    ]


def _chorales() -> list[DemoPiece]:
    """Chorales by Bach."""
    titles = {
        267: "An Wasserflüssen Babylon",
        277: "Christ lag in Todes Banden",
        289: "Das alte Jahr vergangen ist",
        305: "Erbarm dich mein, o Herre Gott",
        309: "Es stehn vor Gottes Throne",
        317: "Gott, der Vater, wohn uns bei",
        325: "Heilig, heilig",
        349: "Ich dank dir schon durch deinen Sohn",
        357: "Jesu, Jesu, du bist mein",
        369: "Keinen hat Gott verlassen",
        385: "Nun bitten wir den heiligen Geist",
        389: "Nun lob, mein Seel, den Herren",
        401: "O Lamm Gottes, unschuldig",
        418: "Von Gott will ich nicht lassen",
        426: "Weltlich Ehr und zeitlich Gut",
        430: "Wenn mein Stündlein vorhanden ist",
    }
    return [
        DemoPiece(
            id=f"bach_bwv{number}",
            file=f"bach/bwv{number}.mxl",
            composer="J. S. Bach",
            work=f"BWV {number}",
            title=title,
            bars=99,
            staves=FOUR_PARTS,
        )
        for number, title in titles.items()
    ]


PIECES: tuple[DemoPiece, ...] = (*_keyboard(), *_songs(), *_polonaises(), *_quartets(), *_chorales())
