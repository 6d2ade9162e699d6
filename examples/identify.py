"""Says what a file or, without one, the microphone plays: python examples/identify.py music.sf [take.flac]"""

import sys

import soundfile

import engine

if len(sys.argv) > 2:
    samples, rate = soundfile.read(sys.argv[2])
else:
    import sounddevice  # pip install sounddevice

    rate = 44100
    samples = sounddevice.rec(15 * rate, rate, channels=1, blocking=True)
with engine.open(sys.argv[1]) as finder:
    answer = finder.query_samples(samples, rate, among="score", top=1)
for match in answer.matches:
    print("likely not in this collection" if answer.in_collection is False else match.document.title)
