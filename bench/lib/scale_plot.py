"""The picture of `bench.scale`: time and accuracy against the size of the collection."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

STYLES = {
    "exhaustive": ("0.4", "D"),
    "vote": ("C1", "^"),
    "fingerprint": ("C2", "s"),
    "refine": ("C0", "o"),
    "librosa": ("C3", "*"),
}
TIMED_ONLY = ("librosa",)
"""Methods that get too few queries to have an accuracy."""


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draws the rows as a PNG: a column for each kind of query, milliseconds above, MRR below."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    forms = list(dict.fromkeys((row["direction"], row["query"]) for row in rows))
    figure, axes = pyplot.subplots(2, len(forms), figsize=(4 * len(forms), 7), sharex=True, sharey="row", squeeze=False)
    for column, (direction, form) in enumerate(forms):
        for method, (colour, marker) in STYLES.items():
            line = [row for row in rows if (row["direction"], row["query"], row["method"]) == (direction, form, method)]
            snippets = [row["snippets"] for row in line]
            style = {"color": colour, "marker": marker, "markersize": 4, "label": method}
            axes[0][column].plot(snippets, [row["p50_ms"] for row in line], **style)
            if method not in TIMED_ONLY:
                axes[1][column].plot(snippets, [row["MRR"] for row in line], **style)
        axes[0][column].set(title=f"{direction}, {form}", xscale="log", yscale="log")
        axes[1][column].set(xlabel="snippets of the kind searched", ylim=(0, 1.02))
        for axis in axes[:, column]:
            axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("milliseconds a query (median)")
    axes[1][0].set_ylabel("MRR")
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
