#!/bin/bash
# Makes the corpus and trains on a machine with an NVIDIA GPU and no network; gpu_prepare.sh packs what it needs.
#
#     indexer/training/gpu.sh STAGE=SECONDS...
#
# A stage is `corpus` or a configuration of this folder: `gpu`, `attention`, `baseline`. SECONDS is the time limit of
# the stage. The same stage in a later command goes on where it stopped. Three commands of ten minutes:
#
#     gpu.sh corpus=420 gpu=120
#     SET="training.steps=9000" gpu.sh gpu=540
#     gpu.sh attention=270 baseline=270
#
# Environment variables, with defaults in brackets:
# SET: settings that override those of the configurations, as TABLE.NAME=VALUE separated by blanks.
# CARRY: folder that gpu_prepare.sh packed (.carry).
# STATE: folder of corpus and checkpoints, kept between commands ($HOME/scorefind).
# OUT: folder for job.log and, in parts of 15 MiB, runs.tar ($STATE/out). runs.tar has weights, cards, logs, and the
#     checkpoints of runs that have not ended.
# PIECES, RECORDINGS: number of training pieces (5000), and of recordings of each (4).
set -euo pipefail
repository=$(cd "$(dirname "$0")/../.." && pwd)
carry=$(realpath "${CARRY:-.carry}")
state=${STATE:-$HOME/scorefind}
python=${PYTHON:-python3}
mkdir -p "$state/runs" "${OUT:=$state/out}"
out=$(realpath "$OUT")
cd "$state"
exec > >(tee -a job.log) 2>&1

keep() {
    rm -f "$out"/runs.tar.*
    local done=()  # a run with weights has ended and needs no checkpoint
    for weights in $(find runs -name '*.safetensors'); do
        done+=(--exclude="$(dirname "$weights")/*.pt")
    done
    tar -c --exclude='*.unfinished' "${done[@]}" runs | split -b 15M - "$out/runs.tar."
    cp job.log "$out/"
    ls -l "$out"
}
trap keep EXIT

if [ ! -e installed ]; then
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade --target site \
        "$carry"/*.whl
    mkdir -p data
    for archive in "$carry"/train_*.tar.xz; do
        tar -xJf "$archive" -C data
    done
    cp "$carry/splits.csv" data/
    cp -r "$carry/soundfonts" data/
    mkdir -p data/pianos && tar -xJf "$carry/pianos.tar.xz" -C data/pianos
    if [ -e "$carry/runs.tar" ]; then
        tar -xf "$carry/runs.tar"
    fi
    touch installed
fi
export PYTHONPATH="$repository:$state/site" PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1
loaders=$(($(nproc) > 3 ? $(nproc) - 2 : 1))
settings=()
for setting in "training.loaders=$loaders" ${SET:-}; do
    settings+=(--set "$setting")
done

for stage in "$@"; do
    name=${stage%%=*} limit=${stage#*=}
    echo "$(date +%T) $name, at most $limit s"
    if [ "$name" = corpus ]; then
        sed "s/^train_pieces = .*/train_pieces = ${PIECES:-5000}/; s/^recordings = .*/recordings = ${RECORDINGS:-4}/" \
            "$repository/indexer/training/gpu.toml" > corpus.toml
        command=(indexer.training.corpus corpus.toml --jobs "$(nproc)")
    else  # all configurations train on the one corpus, as far as it is made
        command=(indexer.training.train "$repository/indexer/training/$name.toml" --no-corpus "${settings[@]}")
    fi
    timeout -k 10 "$limit" "$python" -m "${command[@]}" 2>&1 | tr '\r' '\n' | grep -v 'take/s\|s/take' ||
        echo "$(date +%T) $name was stopped at its time limit, or failed"
    echo "$(date +%T) prints and recordings: $(find corpus -name '*.npz' | wc -l)"
done
