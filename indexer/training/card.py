"""The model card beside a weights file."""

from typing import Any

from engine.audio import FRAME_RATE
from engine.values import DIMENSION

_TEXT = """\
# Network `{name}`

Embeds sheet-music snippets ({rows} x {columns} px at a staff space of {staff_space:g} px) and audio excerpts
({excerpt_s:.1f} s) in one space of {dimension} dimensions, so that what sounds alike and looks alike lies close
together.

- Made by `scorefind train` at commit `{commit}`, from {start}. Licence of the weights: MIT, as the project's.
- Trained on {pieces} pieces ({onsets} onsets, {prints} prints, {recordings} recordings) that stand in no validation or
  test set, engraved in many fonts and layouts by Verovio (MusicXML, kern) and LilyPond (its own sources), degraded like
  prints and scans; performed expressively on {instruments} instruments (below), recorded in rooms and on old carriers.
- Sources of the scores, whose manifests name their licences: {manifests}.
- Validated on pieces by other composers of the same sources, synthetic pages, and instruments and rooms that were not
  heard in training where the corpus has such; {pairs:.0f} candidates:

| direction | MRR | R@1 |
|---|---|---|
| A2S | {a2s_mrr:.3f} | {a2s_r1:.3f} |
| S2A | {s2a_mrr:.3f} | {s2a_r1:.3f} |

Meant for finding piano music by its recordings and pages. It has seen neither handwriting nor other instruments,
and no real scan or recording in training.

Instruments that it has heard, with their licences and makers, to whom thanks are due:

{credits}

Settings, as in the file's metadata:

{settings}
"""


def text(name: str, record: dict[str, Any]) -> str:
    """The card of a network; `record` describes its training, as `save_weights` stores it."""
    settings, metrics = record["settings"], record["metrics"]
    front_end, start = settings["front_end"], settings["training"]["start"]
    return _TEXT.format(
        name=name,
        commit=record["commit"],
        start=f"the weights `{start}`" if start else "random weights",
        rows=front_end["strip_rows"],
        columns=front_end["snippet_px"],
        staff_space=front_end["staff_space_px"],
        excerpt_s=front_end["excerpt_frames"] / FRAME_RATE,
        dimension=DIMENSION,
        pieces=record["pieces"],
        prints=record["prints"],
        recordings=record["recordings"],
        onsets=record["onsets"],
        instruments=len(record["instruments"]),
        credits="\n".join(map(_credit, record["instruments"])),
        manifests=", ".join(f"`{manifest.split('/')[0]}`" for manifest in settings["corpus"]["manifests"]),
        pairs=metrics["pairs"],
        a2s_mrr=metrics["A2S MRR"],
        a2s_r1=metrics["A2S R@1"],
        s2a_mrr=metrics["S2A MRR"],
        s2a_r1=metrics["S2A R@1"],
        settings="\n".join(
            f"- {table}: {', '.join(f'{key} {value}' for key, value in values.items())}"
            for table, values in settings.items()
        ),
    )


def _credit(row: dict[str, str]) -> str:
    """Line of the card for one instrument."""
    name = row["instrument"].rpartition("/")[2]
    known = [row[key] for key in ("licence", "source") if row.get(key)]
    return f"- `{name}`" + (f": {', '.join(known)}" if known else "")
