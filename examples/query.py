"""Finds the score of a recording, or the recordings of a page: python examples/query.py music.sf take.flac"""

import sys

import engine

collection, source = sys.argv[1:]
with engine.open(collection) as finder:
    answer = finder.query(source)
for match in answer.matches:
    place = match.place
    where = f"pages {place.pages}" if place.pages else f"from {place.start_s:.0f} to {place.end_s:.0f} s"
    print(match.rank, match.document.title, match.confidence, where)
