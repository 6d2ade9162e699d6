#!/bin/bash
# Runs all that needs an NVIDIA GPU in less than ten minutes, on a machine without a network: the tests and bench.gpu,
# then, if time is left, NVIDIA's checkers of memory accesses and races, and NVIDIA's profiler.
#
#     bench/gpu.sh [OPTION OF bench.gpu...]
#
# The machine needs Python 3.12 with numpy, numba, scipy, torch, safetensors, tqdm, pytest and CuPy.
# CARRY: a folder (default: .carry) with wheels of the other packages, and with faiss-gpu*.tar.xz, which holds FAISS for
#     GPUs in site/. Parts that need a missing package are left out, and the log says why. To pack the wheels for Python
#     3.12 on x86-64, on a machine that has a network:
#         pip download --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux_2_28_x86_64 \
#             --platform manylinux2014_x86_64 -d .carry lmdb librosa soundfile soxr cffi pycparser pooch platformdirs \
#             decorator audioread lazy_loader pypdfium2
# OUT: a folder for gpu.log, gpu.json, memory.log, races.log and profile.log.
# SECONDS_LEFT: time limit in seconds (default: 570).
set -uo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
cd "$repository"
carry=$(realpath -m "${CARRY:-.carry}")
state=${STATE:-$HOME/scorefind-gpu}
python=${PYTHON:-python3}
mkdir -p "$state/site" "${OUT:=$state/out}"
out=$(realpath "$OUT")
exec > >(tee "$out/gpu.log") 2>&1
end=$((SECONDS + ${SECONDS_LEFT:-570}))

# Runs a command for at most the given seconds, and at most until the time limit.
within() {
    local most=$1 left=$((end - SECONDS))
    shift
    if [ $left -lt 10 ]; then
        echo "no time is left for: $*"
        return
    fi
    timeout -k 5 $((left < most ? left : most)) "$@" || echo "exit code $?: $*"
}

if compgen -G "$carry/*.whl" > /dev/null; then
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade \
        --target "$state/site" "$carry"/*.whl
fi
for bundle in "$carry"/faiss-gpu*.tar.xz; do
    [ -e "$bundle" ] && tar -C "$state" -xJf "$bundle"
done
export PYTHONPATH="$repository:$state/site" PYTHONUNBUFFERED=1 OMP_NUM_THREADS=16
nvidia-smi --query-gpu=name,memory.total,memory.used,driver_version,clocks.max.sm --format=csv

# Warnings of libraries do not fail the tests here.
within 150 "$python" -m pytest -q -W default -p no:cacheprovider -rs --continue-on-collection-errors \
    tests/engine/test_gpu.py tests/engine/test_alignment.py tests/engine/test_neighbours.py \
    -k "gpu_equals or gpu_finds or (test_alignment and gpu)"
within 420 "$python" -m bench.gpu --json "$out/gpu.json" "$@"

small='gpu_equals_the_cpu_on_a_few'
if command -v compute-sanitizer > /dev/null; then
    for check in memcheck:memory racecheck:races; do
        within 60 compute-sanitizer --tool "${check%:*}" --log-file "$out/${check#*:}.log" \
            "$python" -m pytest -q -W default -p no:cacheprovider tests/engine/test_gpu.py -k "$small" | tail -2
        tail -3 "$out/${check#*:}.log"
    done
fi
if command -v ncu > /dev/null; then
    within 60 ncu --clock-control none --section SpeedOfLight --section ComputeWorkloadAnalysis --section Occupancy \
        --section WarpStateStats --section LaunchStats --kernel-name fused --launch-skip 60 --launch-count 4 --log-file "$out/profile.log" \
        "$python" -m bench.gpu --quick --only latency | tail -5
    grep -E "fused|Duration|Registers|Achieved Occ|Issue Slots Busy|highest-utilized|Executed Ipc Active" "$out/profile.log"
fi
ls -l "$out"
