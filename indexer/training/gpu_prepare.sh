#!/bin/bash
# Packs the files that gpu.sh needs on a machine without a network into .carry/, which git ignores.
#
#     indexer/training/gpu_prepare.sh ARCHIVES [SOUNDFONT...]
#
# ARCHIVES: folder with splits.csv, train_*.tar.xz (each a folder of scores with its manifest.csv), and pianos.tar.xz
#     (the instruments and responses that instruments.csv and gpu.toml name).
# SOUNDFONT: files named as in instruments.csv.
#
# The wheels are for Python 3.12 on x86-64 Linux. The machine must have torch, numpy, SciPy, OpenCV, Pillow, safetensors
# and tqdm. It makes no graphs of the weights: `python -m indexer.training.export` makes them elsewhere. To go on from the checkpoints of an earlier run, join the parts of its runs.tar in .carry/:
# `cat runs.tar.* > .carry/runs.tar`.
set -euo pipefail
archives=${1:?expected a folder with splits.csv and train_*.tar.xz}
shift
cd "$(dirname "$0")/../.."
mkdir -p .carry/soundfonts

platforms=()
for platform in manylinux_2_{39,35,34,31,28,27,24,17}_x86_64 manylinux2014_x86_64 manylinux1_x86_64; do
    platforms+=(--platform "$platform")
done
"${PYTHON:-python3}" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
    "${platforms[@]}" -c constraints.txt -d .carry verovio resvg_py midirenderer mido soundfile soxr cffi pycparser
cp --no-preserve=mode "$archives/splits.csv" "$archives"/train_{lieder_piano,polish_kern}.tar.xz "$archives/pianos.tar.xz" .carry/
for soundfont in "$@"; do
    cp --no-preserve=mode "$soundfont" .carry/soundfonts/
done
du -sh .carry
