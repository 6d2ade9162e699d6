"""The model card that lies beside a weights file."""

from typing import Any

_TEXT = """\
# Network `{name}`

Embeds sheet-music snippets (160 x 200 px at a staff space of 7 px) and audio excerpts (4.2 s) in one space of 32
dimensions, so that what sounds alike and looks alike lies close together.

- Made by `scorefind train` at commit `{commit}`, from random weights. Licence of the weights: MIT, as the project's.
- Trained on {takes} takes ({onsets} onsets) of scores that stand in no validation or test set, engraved by
  Verovio in five fonts and many layouts, degraded like prints and scans; performed expressively, synthesised
  through {soundfonts} SoundFont(s), degraded like recordings in rooms and on old carriers.
- Sources of the scores: {manifests} (CC0 and CC-BY 4.0).
- Validated on pieces by other composers of the same sources, synthetic pages and audio, {pairs:.0f} candidates:

| direction | MRR | R@1 |
|---|---|---|
| A2S | {a2s_mrr:.3f} | {a2s_r1:.3f} |
| S2A | {s2a_mrr:.3f} | {s2a_r1:.3f} |

Meant for finding piano music by its recordings and pages. It has seen neither handwriting nor other instruments,
and no real scan or recording in training.

Settings, as in the file's metadata:

{settings}
"""


def text(name: str, record: dict[str, Any]) -> str:
    """The card of a network; `record` is what `save_weights` keeps of its training."""
    settings, metrics = record["settings"], record["metrics"]
    return _TEXT.format(
        name=name,
        commit=record["commit"],
        takes=record["takes"],
        onsets=record["onsets"],
        soundfonts=max(1, len(settings["corpus"]["soundfonts"])),
        manifests=", ".join(f"`{manifest.split('/')[0]}`" for manifest in settings["corpus"]["manifests"]),
        pairs=metrics["pairs"],
        a2s_mrr=metrics["A2S MRR"],
        a2s_r1=metrics["A2S R@1"],
        s2a_mrr=metrics["S2A MRR"],
        s2a_r1=metrics["S2A R@1"],
        settings="\n".join(
            f"- {table}: {', '.join(f'{key} {value}' for key, value in values.items() if key not in _LOCAL)}"
            for table, values in settings.items()
        ),
    )


_LOCAL = ("data", "folder", "run", "soundfonts")
"""Settings that name places on one machine."""
