"""Small scores in symbols, as the text of a file."""

from collections.abc import Sequence

CONTAINER = """<?xml version="1.0"?><container><rootfiles>
<rootfile full-path="cover.pdf" media-type="application/pdf"/><rootfile full-path="{}"/></rootfiles></container>"""

ABC = """X:1
T:One
M:4/4
L:1/4
K:C
CDEF|GABc|cBAG|FEDC:|
X:2
T:Two
M:3/4
L:1/4
K:G
GGG|AAA|]
"""

MEI = """<?xml version="1.0"?><mei xmlns="http://www.music-encoding.org/ns/mei"><music><body>{}</body></music></mei>""".format(
    "".join(
        f"""<mdiv><score><scoreDef meter.count="4" meter.unit="4"><staffGrp>
<staffDef n="1" lines="5" clef.shape="G" clef.line="2"/></staffGrp></scoreDef><section><measure n="1"><staff n="1">
<layer n="1"><note dur="1" pname="{name}" oct="4"/></layer></staff></measure></section></score></mdiv>"""
        for name in "cde"
    )
)
"""Three movements of one note."""

_NAMES = ("C", "C", "D", "D", "E", "F", "F", "G", "G", "A", "A", "B")
_SHARP = (1, 3, 6, 8, 10)


def musicxml(pitches: Sequence[int], *, staves: int = 1, attributes: str = "", end: str = "") -> str:
    """A score in quarters; each part has the same pitches. attributes, end: XML of the first and last measure."""
    bars = [pitches[first : first + 4] for first in range(0, len(pitches), 4)]
    parts = "".join(
        f'<part id="P{part}">'
        + "".join(
            f'<measure number="{number}">'
            + (f"<attributes><divisions>1</divisions>{attributes}</attributes>" if number == 1 else "")
            + "".join(map(_note, bar))
            + (end if number == len(bars) else "")
            + "</measure>"
            for number, bar in enumerate(bars, start=1)
        )
        + "</part>"
        for part in range(staves)
    )
    listed = "".join(f'<score-part id="P{part}"><part-name/></score-part>' for part in range(staves))
    return (
        '<?xml version="1.0" encoding="UTF-8"?><!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 3.1 '
        'Partwise//EN" "http://www.musicxml.org/dtds/partwise.dtd"><score-partwise version="3.1"><work><work-title>'
        f"Étude</work-title></work><part-list>{listed}</part-list>{parts}</score-partwise>"
    )


def _note(pitch: int) -> str:
    octave, step = divmod(pitch, 12)
    alter = "<alter>1</alter>" if step in _SHARP else ""
    pitched = f"<pitch><step>{_NAMES[step]}</step>{alter}<octave>{octave - 1}</octave></pitch>"
    return f"<note>{pitched}<duration>1</duration><type>quarter</type></note>"
