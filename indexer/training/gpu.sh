#!/bin/bash
# Trains on a machine with an NVIDIA GPU and no network, on a corpus that gpu_prepare.sh packed.
#
#     indexer/training/gpu.sh [CONFIG=SECONDS...]
#
# Each command unpacks the parts of the corpus that CARRY holds, beside those of earlier commands. So a corpus can be
# carried in several commands, the first ones without a CONFIG. CONFIG is the name of a configuration in CARRY or in this
# folder, without .toml; SECONDS is its time limit. The trainings of a command run at the same time and share the GPU. The
# same CONFIG in a later command goes on from the last checkpoint. So a trial tells how many steps there is time for:
#
#     gpu.sh gpu=60
#     SET="training.steps=9000" gpu.sh gpu=540
#
# Environment variables, with defaults in brackets:
# SET: settings that override those of the configurations, as TABLE.NAME=VALUE separated by blanks.
# CARRY: folder with wheels, part.* and, if any, configurations, and weights that they start from (.carry). Only the first
#     command needs the wheels.
# STATE: folder of corpus and checkpoints, kept between commands ($HOME/scorefind).
# OUT: folder for job.log and, in parts of 15 MiB, CONFIG.tar: weights, card and log, or else the checkpoint ($STATE/out).
set -euo pipefail
repository=$(cd "$(dirname "$0")/../.." && pwd)
carry=$(realpath "${CARRY:-.carry}")
state=${STATE:-$HOME/scorefind}
python=${PYTHON:-python3}
mkdir -p "$state" "${OUT:=$state/out}"
out=$(realpath "$OUT")
cd "$state"
exec > >(tee -a job.log) 2>&1

if [ ! -e site ]; then
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade --target site \
        "$carry"/*.whl
fi
export PYTHONPATH="$repository:$state/site" PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1
! compgen -G "$carry/*.safetensors" > /dev/null || cp "$carry"/*.safetensors .
if compgen -G "$carry/part.*" > /dev/null; then
    "$python" -m indexer.training.packing unpack corpus "$carry"/part.*
fi

train() {  # CONFIG SECONDS
    local config=$repository/indexer/training/$1.toml settings=()
    [ -e "$carry/$1.toml" ] && config=$carry/$1.toml
    for setting in corpus.folder=corpus "training.run=runs/$1" ${SET:-}; do
        settings+=(--set "$setting")
    done
    timeout -k 10 "$2" "$python" -m indexer.training.train "$config" --no-corpus "${settings[@]}" 2>&1 |
        sed -u "s/^/$1: /" || echo "$1 was stopped at its time limit, or failed"
    local kept=('--exclude=*.unfinished')
    compgen -G "runs/$1/*.safetensors" > /dev/null && kept+=('--exclude=*.pt')  # a run that has ended
    rm -f "$out/$1".tar.*  # an earlier command may have left more parts
    [ ! -e "runs/$1" ] || tar -c "${kept[@]}" -C runs "$1" | split -b 15M - "$out/$1.tar."
}
running=()
for stage in "$@"; do
    train "${stage%%=*}" "${stage#*=}" &
    running+=($!)
done
for training in "${running[@]}"; do  # a bare `wait` would wait for tee too
    wait "$training"
done
cp job.log "$out/"
ls -l "$out"
