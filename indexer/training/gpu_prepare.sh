#!/bin/bash
# Packs what gpu.sh needs on a machine without a network: wheels into .carry/, which git ignores, and the corpus into
# parts that are small enough to be carried one by one.
#
#     indexer/training/gpu_prepare.sh CORPUS PARTS [BANDS]
#
# CORPUS: folder of a corpus, as `python -m indexer.training.corpus` makes it.
# PARTS: folder for part.000 and so on, of at most 48 MB each. Files that its parts hold already are left out. Put the
#     parts of a command, and weights to start from, in .carry/ beside the wheels.
# BANDS: which spectrogram is packed (published).
#
# The wheels are for Python 3.12 on x86-64 Linux. The machine must have torch, numpy, SciPy, OpenCV, msgpack,
# safetensors and tqdm. It makes no graphs of the weights: `python -m indexer.training.export` makes them elsewhere.
set -euo pipefail
corpus=$(realpath "${1:?expected the folder of a corpus}")
parts=$(realpath -m "${2:?expected a folder for the parts}")
cd "$(dirname "$0")/../.."
mkdir -p .carry
platforms=()
for platform in manylinux_2_{28,27,17}_x86_64 manylinux2014_x86_64; do
    platforms+=(--platform "$platform")
done
python=${PYTHON:-python3}
"$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
    "${platforms[@]}" -c constraints.txt -d .carry soundfile soxr cffi pycparser
"$python" -m indexer.training.packing pack "$corpus" "$parts" --bands "${3:-published}"
du -sh .carry "$parts"
