"""The answer to a recording in another tuning, another key, or at another speed than the documents.

The networks know music as it is printed, at A = 440 Hz. The further a recording is from that, the less sure they are.
An orchestra of old instruments plays at 392 to 430 Hz, a singer transposes a song, and a tape runs fast or slow. So a
recording that seems not to be in the collection is searched for again, higher and lower. Each try is one more chance
for a piece that is not there to look right, so the confidence pays for the number of tries: its odds are divided by
that number.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from engine import audio
from engine.audio import Recording
from engine.embedding import documents
from engine.embedding.documents import Encoder
from engine.search.confidence import verdict
from engine.search.searcher import Query, Searcher
from engine.values import Answer, Match, SnippetSequence

SHIFTS = (-3.0, -1.5, 1.5, 3.0)
"""Semitones that are tried. The network forgives about one and a half, so this reaches four semitones up and down: A =
392 to 466 Hz, and neighbouring keys. Six tries of at most two semitones found less, because each try has its price."""
ALL_TRIES = 1 + len(SHIFTS)
"""Number of tries of a recording that is not found as it is."""
PROBE_S = 120.0
"""Seconds in the middle of a recording that are tried, so that tries of a long recording cost little beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transposer:
    """Searches for recordings as they are, or transposed."""

    searcher: Searcher
    encoder: Encoder
    query: Callable[[SnippetSequence], Query]
    """Makes the query of embedded snippets, with the options of the search."""

    def answer(self, recording: Recording, shifts: Sequence[float] | None) -> Answer:
        """Returns the answer to a recording. Its stage `transpose` is the time that tries took.

        shifts: semitones by which the recording is transposed; of several, the likeliest. None: the recording is tried
            as it is and, if it seems not to be in the collection, transposed by each of `SHIFTS`. A try counts only if
            it finds the piece.
        Raises ValueError if a shift is not between -12 and 12.
        """
        if shifts:
            return self.likeliest(recording, shifts)
        return self.retried(recording, self.likeliest(recording, (0.0,)))

    def retried(self, recording: Recording, answer: Answer) -> Answer:
        """Returns the answer to a recording that was searched for as it is, or to a try that finds what `answer` lacks.

        A recording that seems to be in the collection, or of which nothing is known, is not tried again.
        """
        if answer.in_collection is not False:
            return answer
        started = time.perf_counter()
        retried = self.likeliest(recording, SHIFTS, tries=ALL_TRIES)
        chosen = answer if retried.in_collection is False else retried
        took_ms = (time.perf_counter() - started) * 1000
        return dataclasses.replace(chosen, timings_ms=answer.timings_ms | {"transpose": took_ms})

    def likeliest(self, recording: Recording, shifts: Sequence[float], tries: int | None = None) -> Answer:
        """Returns the answer to the likeliest transposition of a recording. Its confidences pay for the tries.

        shifts: semitones, at least one number. tries: the number of tries; by default that of the shifts.
        Raises ValueError if a shift is not between -12 and 12.
        """
        if len(shifts) == 1:
            best, (query,) = 0, self._queries(recording, shifts)
        else:
            middle = _middle(recording)
            queries = self._queries(middle, shifts)
            best = int(np.argmax([_likelihood(answer) for answer in self.searcher.answers(map(_brief, queries))]))
            query = queries[best] if middle is recording else self._queries(recording, [shifts[best]])[0]
        (answer,) = self.searcher.answers([query])
        return priced(dataclasses.replace(answer, transposed=shifts[best]), tries or len(shifts))

    def _queries(self, recording: Recording, shifts: Sequence[float]) -> list[Query]:
        """Returns the query of each transposition."""
        bands = self.encoder.identity.front_end.bands
        media = [audio.transposed(recording, shift, bands) for shift in shifts]
        return [self.query(sequence) for sequence in documents.sequences(media, self.encoder)]


def _brief(query: Query) -> Query:
    """Returns the query for its best match alone, and not for the place of that match."""
    return dataclasses.replace(query, top=1, locate=False, path=False)


def priced(answer: Answer, tries: int) -> Answer:
    """Returns the answer with confidences that pay for the number of tries."""
    if tries == 1:
        return answer
    matches = tuple(_priced(match, tries) for match in answer.matches)
    if not matches or matches[0].confidence is None:
        return dataclasses.replace(answer, matches=matches)
    return dataclasses.replace(answer, matches=matches, in_collection=verdict(matches[0].confidence))


def _priced(match: Match, tries: int) -> Match:
    return dataclasses.replace(match, confidence=dearer(match.confidence, tries))


def dearer(confidence: float | None, tries: int) -> float | None:
    """Returns a confidence that pays for the number of tries: its odds are divided by that number."""
    return None if confidence is None else confidence / (confidence + tries * (1 - confidence))


def _likelihood(answer: Answer) -> float:
    """Returns a number that is larger the likelier the best match is: its confidence or, without one, its low cost."""
    if not answer.matches:
        return -np.inf
    best = answer.matches[0]
    return best.confidence if best.confidence is not None else -(best.cost or 0.0)


def _middle(recording: Recording) -> Recording:
    """Returns the middle of a long recording; a short one is returned itself."""
    frames, count = round(PROBE_S * audio.FRAME_RATE), recording.spectrogram.shape[1]
    if count <= frames:
        return recording
    first = (count - frames) // 2
    return dataclasses.replace(recording, spectrogram=recording.spectrogram[:, first : first + frames])
