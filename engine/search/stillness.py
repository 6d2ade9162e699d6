"""Stretches of a query in which nothing changes: applause, noise, silence. They hold no music.

The embeddings of music change with its harmony. Those of applause, of the noise of a room or a record, and of silence
stay the same, whatever they are like; some documents are like them by chance. So their rows are set to zero before a
search: a zero row is like no snippet, and the piece is found by the rest of the query. Speech changes nearly as music
does, and is left to the alignment with rests.
"""

import numpy as np
from numpy.typing import NDArray

from engine.values import Embeddings

WINDOW = 20
"""Snippets of a stretch that is judged: ten seconds. A shorter query is judged as a whole."""
MIN_WINDOW = 8
"""Length of the shortest query that is judged, in snippets. In fewer, a held chord is as still as noise."""
STILL = 0.95
"""Mean cosine of the pairs of a stretch from which on nothing changes in it. Applause, rooms, hum, hiss, tape and
shellac have .97 to 1; of the stretches of the rags on four pianos none has more than .87, of synthetic validation none
more than .86 (.98 in 8 snippets), and of scores none more than .95."""


def without_still(embeddings: Embeddings) -> Embeddings:
    """Returns the embeddings with zeros in place of the rows of still stretches; the same array if there are none.

    embeddings: of a query, float32 (n, 32), rows of unit length.
    """
    still = still_rows(embeddings)
    return np.where(still[:, None], np.float32(0), embeddings) if still.any() else embeddings


def still_rows(embeddings: Embeddings) -> NDArray[np.bool_]:
    """Returns whether each row lies in a stretch of WINDOW rows in which nothing changes, (n,)."""
    count = len(embeddings)
    still = np.zeros(count, dtype=np.bool_)
    window = min(WINDOW, count)
    if window < MIN_WINDOW:
        return still
    sums = np.concatenate([np.zeros((1, embeddings.shape[1])), np.cumsum(embeddings, axis=0, dtype=np.float64)])
    within = np.sum((sums[window:] - sums[:-window]) ** 2, axis=1)
    for start in np.flatnonzero((within - window) / (window * (window - 1)) >= STILL):
        still[start : start + window] = True
    return still
