"""Live segmentation: the passages of an evening while it is played, each as soon as it begins and as soon as it ends.

The chains of `engine.search.segmentation` go on with each few seconds of sound. The way of rows older than LAG is
settled: only the state of the chain after them is kept. The rows since then are aligned again with each step, because a
document is nominated, and its link likely, only some time after it began. So a step takes the same time however long
the evening is, and memory is that of the rows of one passage, at most MAX_ROWS.

A passage is told as soon as it is likely, and ends as soon as the chain has left it for ENDED_ROWS. Until it is settled
its borders may move, and it may vanish again.
"""

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from engine.alignment.chains import Cells, Link, Stage, State, advanced, links
from engine.audio import FRAME_RATE
from engine.audio.tonality import Tonality
from engine.config import FrontEnd
from engine.embedding.documents import recording_sequence
from engine.search import nomination
from engine.search.endings import Tones
from engine.search.passages import ENTRY_PRICE, MAX_PAUSE, Numbers, Passage, Searched, apart, is_likely, joined
from engine.search.stillness import WINDOW as STILL_WINDOW
from engine.search.stillness import without_still
from engine.values import DIMENSION, Embeddings, SnippetSequence

Key = tuple[int, int, int]
"""Document, first row and last row of a link."""

STEP = 6
"""Rows of a step, three seconds of sound."""
LAG = 80
"""Latest rows whose way is not settled, forty seconds: longer than it takes to tell that a piece has begun."""
WINDOWS = (nomination.WINDOW, nomination.WINDOW // 2)
"""Rows of the latest windows whose best matches are nominated. The short one knows a new piece earlier."""
REMEMBERED = 512
"""Rows for which a nomination, or a likely link, counts. A piece may go on for so long without being recognised."""
JUDGED_ROWS = 512
"""Latest rows of a passage by which it is judged, so that a long passage costs no more than a short one."""
ENDED_ROWS = 6
"""Rows that the chain leaves out after a passage before it is told to have ended."""
MAX_ROWS = 7200
"""Rows of the longest passage of which the whole way is kept, an hour."""
SHOWN_ROWS = 7200
"""Rows for which a passage that has ended is still told, an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePassage:
    """A passage of an evening that is still going on."""

    passage: Passage
    ended: bool
    """Whether the document is no longer played."""
    settled: bool
    """Whether the passage will stay as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Course:
    """One of the two chains: all that its further way needs, and the way of the settled rows that are kept."""

    state: State = field(default_factory=State.begun)
    """The state after the settled rows."""
    cells: Cells = field(default_factory=lambda: np.empty((0, 4), dtype=np.int32))
    """Way of the settled rows, (L, 4), see `chains.advanced`; rows are counted from the start of the evening."""

    def gone_on(
        self, rows: Embeddings, first: int, settled: int, numbers: Numbers, by: Searched
    ) -> tuple["_Course", list[Link]]:
        """Returns the course after the rows that become settled, and the links of all rows that are kept.

        rows: (N, 32), all rows that are not settled. first: number of the first one. settled: how many of them become
        settled. numbers: of the documents that may be played.
        """
        stage = Stage(rows=len(rows), documents=numbers)
        state, found = advanced(self.state, rows, settled, stage, by.documents, by.alignment, ENTRY_PRICE)
        found[:, 0] += first
        way = np.concatenate([self.cells, found])
        kept = way[: np.searchsorted(way[:, 0], first + settled)]
        return _Course(state=state, cells=kept), joined(links(way))

    def since(self, first: int) -> "_Course":
        """Returns the course without the way of rows before the one of this number."""
        return replace(self, cells=self.cells[np.searchsorted(self.cells[:, 0], first) :])

    def renumbered(self, numbers: dict[int, int]) -> "_Course":
        """Returns a course that begins anew after the same way. numbers: new numbers of the documents that stay."""
        kept = self.cells[np.isin(self.cells[:, 1], list(numbers))]
        kept[:, 1] = [numbers[number] for number in kept[:, 1].tolist()]
        return _Course(cells=kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Open:
    """A passage that is not settled, with its link."""

    link: Link
    told: LivePassage


class LiveSegmentation:
    """The passages of one recording that is still going on. Only one thread may use it."""

    def __init__(self, front_end: FrontEnd) -> None:
        self._front_end = front_end
        self._start_s = 0.0
        self._ids: tuple[str, ...] = ()
        """Ids of all documents, in the order of their numbers."""
        self._sizes = np.empty(0, np.int64)
        """Number of snippets of each."""
        self._waiting: Embeddings = np.empty((0, DIMENSION), np.float32)
        """The rows that were heard after the last step."""
        self._raw: Embeddings = np.empty((0, DIMENSION), np.float32)
        """The rows that are kept, as they were heard."""
        self._rows = self._raw
        """These rows up to the last step, without what is still."""
        self._tones: Tonality = np.empty(0, np.float32)
        """Tonality of the frames from the first row that is kept on."""
        self._first = 0
        """Number of the first row that is kept."""
        self._settled = 0
        """Number of the first row that is not settled."""
        self._nominated: deque[tuple[int, tuple[str, ...]]] = deque()
        """Ids that windows have nominated, with the number of rows at that time."""
        self._likely: dict[int, int] = {}
        """Documents that had a likely link, with the number of rows at that time."""
        self._all, self._chosen = _Course(), _Course()
        """The chain of all nominated documents, and that of the likely ones."""
        self._judged: dict[tuple[int, int, int], float | None] = {}
        """Confidences of the links of the last step, by document, first and last row."""
        self._cut: tuple[int, int, float] | None = None
        """Document, first row that is kept, and start in seconds, of a passage whose first rows are forgotten."""
        self._open: tuple[_Open, ...] = ()
        self._past: deque[tuple[int, LivePassage]] = deque()
        """Settled passages that are still told, each with the number of the row after it."""
        self._forgotten = 0
        """Number of settled passages before these."""

    @property
    def passages(self) -> tuple[LivePassage, ...]:
        """Returns the passages of the last hour, in order."""
        return (*(passage for _, passage in self._past), *(one.told for one in self._open))

    @property
    def forgotten(self) -> int:
        """Returns the number of passages before the first one of `passages`."""
        return self._forgotten

    @property
    def begun(self) -> bool:
        """Returns whether a row was heard."""
        return self._first + len(self._raw) + len(self._waiting) > 0

    def note(self, embeddings: Embeddings, tones: Tonality, start_s: float) -> None:
        """Notes further rows, which `find` goes on with.

        embeddings: float32 (n, 32). start_s: time of the first row of the evening.
        tones: (frames,), tonality of the frames that these rows are the first to have.
        """
        self._start_s = start_s
        self._waiting = np.concatenate([self._waiting, embeddings])
        self._tones = np.concatenate([self._tones, tones])

    def find(self, searched: Searched, *, all: bool = False) -> None:
        """Finds the passages anew if enough was heard. After an error, the next call tries again.

        searched: what the evening is searched for. Where it is another one than before, the chains begin anew; what is
            played of a document that stays is joined with what was played before.
        all: whether to go on though there are few rows, because the evening ends, or somebody asks.
        """
        while len(self._waiting) >= STEP or (all and len(self._waiting)):
            self._step(self._waiting[:STEP], searched)

    def _step(self, new: Embeddings, searched: Searched) -> None:
        """Goes on with both chains through the next rows. What changes is kept at the end, when nothing can fail."""
        if searched.ids is not self._ids:
            self._renumber(searched)
        raw, first = np.concatenate([self._raw, new]), self._settled
        heard, at = self._first + len(raw), first - self._first
        kept = np.concatenate([self._rows[:at], _moving(raw, at)])
        self._nominate(kept, heard, searched)
        rows, settled = kept[at:], max(0, heard - LAG - first)
        nominated = nomination.affordable((ids for _, ids in self._nominated), searched)
        judge = _Judge(rows=kept, first=self._first, known=self._judged, searched=searched)
        course, found = self._all.gone_on(rows, first, settled, nominated, searched)
        self._note_likely([link for link in found if link.path[-1, 0] >= first], heard, nominated, judge)
        likely = np.array(sorted(self._likely), dtype=np.int64)
        chosen, found = self._chosen.gone_on(rows, first, settled, likely, searched)
        judged = {_key(link): judge.confidence(link, np.union1d(nominated, likely)) for link in found}
        told = self._told([one for one in found if is_likely(judged[_key(one)])], heard, first + settled, judge)
        self._raw, self._rows, self._waiting = raw, kept, self._waiting[len(new) :]
        self._all, self._chosen, self._judged, self._settled = course, chosen, judged, first + settled
        self._keep(told, found, heard)

    def _renumber(self, searched: Searched) -> None:
        """Begins the chains anew, because the numbers of the documents are others than before."""
        numbers, old = searched.numbers, zip(self._ids, self._sizes.tolist(), strict=True)
        same = {
            number: numbers[id]
            for number, (id, size) in enumerate(old)
            if id in numbers and searched.sizes[numbers[id]] == size
        }
        self._ids, self._sizes = searched.ids, searched.sizes
        there = ((at, tuple(id for id in ids if id in numbers)) for at, ids in self._nominated)
        self._nominated = deque(there)
        self._all, self._chosen, self._judged = self._all.renumbered(same), self._chosen.renumbered(same), {}
        self._likely = {same[number]: at for number, at in self._likely.items() if number in same}
        if self._cut is not None:
            self._cut = (same[self._cut[0]], *self._cut[1:]) if self._cut[0] in same else None

    def _nominate(self, kept: Embeddings, heard: int, searched: Searched) -> None:
        """Notes the best matches of the latest rows, and forgets what was nominated, or likely, long ago."""
        for window in WINDOWS:
            rows = kept[-window:]
            if searched.ids and rows.any():
                self._nominated.append((heard, nomination.best(searched, rows)))
        while self._nominated and self._nominated[0][0] < heard - REMEMBERED:
            self._nominated.popleft()
        self._likely = {document: at for document, at in self._likely.items() if at >= heard - REMEMBERED}

    def _note_likely(self, found: Sequence[Link], heard: int, nominated: Numbers, judge: "_Judge") -> None:
        """Notes the documents of likely links. Those that were likely a short time ago are not judged again."""
        for link in found:
            known = heard - self._likely.get(link.document, -LAG) < LAG // 2
            if not known and is_likely(judge.confidence(link, nominated)):
                self._likely[link.document] = heard

    def _told(self, found: Sequence[Link], heard: int, settled: int, judge: "_Judge") -> tuple[_Open, ...]:
        """Returns the passages of likely links.

        heard: number of rows heard so far. settled: number of the first row that is not settled.
        """
        hop_s = self._front_end.excerpt_hop_frames / FRAME_RATE
        start_s = self._start_s + self._first * hop_s
        evening = recording_sequence(judge.rows, start_s, self._front_end)
        tones = Tones(values=self._tones, start_s=start_s, rate=FRAME_RATE)
        # The settled passages stay, so the next one begins after them.
        past_s = self._past[-1][1].passage.stretch.end_s if self._past else None
        passages = apart([self._passage(link, judge, evening) for link in found], past_s or 0.0)
        told: list[_Open] = []
        for number, (link, passage) in enumerate(
            zip(found, tones.prolonged(passages, found, judge.searched), strict=True)
        ):
            last, end_s = int(link.path[-1, 0]), passage.stretch.end_s or 0.0
            quiet = heard - 1 - last >= ENDED_ROWS and tones.end_s - end_s >= ENDED_ROWS * hop_s
            ended = number + 1 < len(found) or quiet
            # Where an ending is prolonged, another piece may still be recognised that begins before it.
            is_past = last + MAX_PAUSE < settled and end_s <= self._start_s + settled * hop_s
            live = LivePassage(passage=passage, ended=ended, settled=ended and is_past)
            told.append(_Open(link=link, told=live))
        return tuple(told)

    def _passage(self, link: Link, judge: "_Judge", evening: SnippetSequence) -> Passage:
        """Returns the passage of a link as the chain tells it. evening: the rows that are kept."""
        counted = Link(document=link.document, path=link.path - np.array([self._first, 0], dtype=np.int32))
        passage = judge.searched.passage(counted, judge.known[_key(link)], evening)
        if self._cut is not None and self._cut[:2] == (link.document, int(link.path[0, 0])):
            return replace(passage, stretch=replace(passage.stretch, start_s=self._cut[2]))
        return passage

    def _keep(self, told: Sequence[_Open], found: Sequence[Link], heard: int) -> None:
        """Keeps the passages, and forgets rows that none of them needs any more.

        found: all links of the second chain, the unlikely ones too.
        """
        done = list(itertools.takewhile(lambda one: one.told.settled, told))
        self._past += [(int(one.link.path[-1, 0]) + 1, one.told) for one in done]
        self._open = tuple(told[len(done) :])
        while self._past and self._past[0][0] < heard - SHOWN_ROWS:
            self._past.popleft()
            self._forgotten += 1
        going_on = [one.link for one in self._open]
        going_on += [link for link in found if link.path[-1, 0] + MAX_PAUSE >= self._settled]
        begun = [int(link.path[0, 0]) for link in going_on]
        self._chosen = self._chosen.since(min([self._settled, *begun]))
        first = max(self._first, min([self._settled - REMEMBERED, *begun]), heard - MAX_ROWS)
        for one in self._open:
            if one.link.path[0, 0] < first:
                rows = one.link.path[:, 0]
                row, start_s = int(rows[np.searchsorted(rows, first)]), one.told.passage.stretch.start_s
                self._cut = one.link.document, row, start_s or 0.0
        gone = first - self._first
        self._raw, self._rows, self._first = self._raw[gone:], self._rows[gone:], first
        self._tones = self._tones[gone * self._front_end.excerpt_hop_frames :]
        self._chosen, self._all = self._chosen.since(first), self._all.since(self._settled - REMEMBERED)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judge:
    """Judges links by their latest rows."""

    rows: Embeddings
    """All rows that are kept, without what is still."""
    first: int
    """Number of the first one."""
    known: dict[Key, float | None]
    """Confidences of links, by their keys: a link that has not gone on keeps the one it had."""
    searched: Searched

    def confidence(self, link: Link, compared: Numbers) -> float | None:
        """Returns the confidence of a link, and notes it. compared: numbers of other documents."""
        if (key := _key(link)) not in self.known:
            _, first, last = key
            rows = self.rows[max(first, last + 1 - JUDGED_ROWS) - self.first : last + 1 - self.first]
            numbers = np.union1d(compared, [link.document])
            self.known[key] = self.searched.confidence(rows, numbers, link.document)
        return self.known[key]


def _moving(raw: Embeddings, at: int) -> Embeddings:
    """Returns the rows from one on without what is still, which the rows before help to tell."""
    before = min(at, STILL_WINDOW - 1)
    return without_still(raw[at - before :])[before:]


def _key(link: Link) -> Key:
    """Returns document, first and last row of a link."""
    return link.document, int(link.path[0, 0]), int(link.path[-1, 0])
