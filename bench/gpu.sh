#!/bin/bash
# Runs what needs an NVIDIA GPU, on a machine without a network: the tests, bench.gpu, and NVIDIA's checkers of memory
# accesses and races and its profiler. What hangs or fails leaves the other parts as they are.
#
#     bench/gpu.sh [PART...]
#
# The parts, in the order in which they run if none is named: neighbours (whether FAISS searches on the GPU), doctor,
# tests, alignment, others, memory, races, profile.
# The machine needs Python 3.12 with numpy, numba, scipy, torch, onnxruntime, safetensors, tqdm, pytest with its plugins
# xdist and timeout, and CuPy.
# CARRY: a folder (default: .carry) with wheels of the other packages, and with faiss-gpu*.tar.xz, which holds FAISS for
#     GPUs in site/. If that cannot be imported, the wheel of faiss_cpu takes its place. To pack the wheels for Python
#     3.12 on x86-64, on a machine that has a network:
#         pip download --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux_2_28_x86_64 \
#             --platform manylinux2014_x86_64 -d .carry lmdb soundfile soxr cffi pycparser pypdfium2 pi_heif faiss-cpu
# OUT: a folder for gpu.log, clocks.csv, alignment.json, others.json, memory.log, races.log and profile.log.
# SECONDS_LEFT: time limit in seconds (default: 570).
set -uo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
cd "$repository"
carry=$(realpath -m "${CARRY:-.carry}")
state=${STATE:-$HOME/scorefind-gpu}
python=${PYTHON:-python3}
mkdir -p "$state/site" "$state/cpu" "${OUT:=$state/out}"
out=$(realpath "$OUT")
exec > >(tee "$out/gpu.log") 2>&1
end=$((SECONDS + ${SECONDS_LEFT:-570}))

# Runs a command for at most the given seconds, and at most until the time limit.
within() {
    local most=$1 left=$((end - SECONDS))
    shift
    if [ $left -lt 10 ]; then
        echo "no time is left for: $*"
        return 1
    fi
    timeout -k 5 $((left < most ? left : most)) "$@" || echo "exit code $?: $*"
}

# Installs wheels into a folder.
install() {
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$@"
}

set_up() {
    local wheels
    mapfile -t wheels < <(find "$carry" -name '*.whl' ! -name 'faiss*')
    [ ${#wheels[@]} -gt 0 ] && install "$state/site" "${wheels[@]}"
    for bundle in "$carry"/faiss-gpu*.tar.xz; do
        [ -e "$bundle" ] && tar -C "$state" -xJf "$bundle"
    done
    if ! timeout 30 "$python" -c "import faiss" && compgen -G "$carry/faiss_cpu*.whl"; then
        install "$state/cpu" "$carry"/faiss_cpu*.whl
        rm -f "$state/site/sitecustomize.py"
        export PYTHONPATH="$state/cpu:$PYTHONPATH"
    fi
    nvidia-smi --query-gpu=name,memory.total,memory.used,driver_version,clocks.max.sm --format=csv
    nvidia-smi --query-gpu=timestamp,clocks.sm,power.draw,utilization.gpu --format=csv -lms 200 > "$out/clocks.csv" &
    trap "kill $! 2> /dev/null" EXIT
}

neighbours() {
    within 30 "$python" -X faulthandler -c "
import faiss, numpy
rows = numpy.random.default_rng(0).random((100_000, 32), numpy.float32)
index = faiss.IndexFlatIP(32)
index.add(rows)
copy = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
found, expected = (one.search(rows[:64], 5)[1] for one in (copy, index))
print('FAISS', faiss.__version__, 'on', faiss.get_num_gpus(), 'GPUs; the same as on the CPU:', (found == expected).mean())"
}

doctor() { within 20 "$python" -m scorefind doctor; }

# Runs the tests that need a GPU. Warnings of libraries do not fail them here. Several processes compile the kernels.
tests() {
    within 60 "$python" -X faulthandler -m pytest -q -W default -p no:cacheprovider --tb=short -rfEs --timeout=40 \
        --timeout-method=thread -n 12 \
        --continue-on-collection-errors tests/engine/test_gpu.py tests/engine/test_alignment.py \
        tests/engine/test_neighbours.py tests/engine/embedding/test_encoder.py tests/server/test_gpu.py \
        -k "gpu_equals or gpu_finds or gpu_embeds or gpu_gives or (test_alignment and gpu)"
}

alignment() {
    within 90 "$python" -X faulthandler -m bench.gpu --json "$out/alignment.json" \
        --only ceilings settings latency peers batches sweep
}

others() {
    within 45 "$python" -X faulthandler -m bench.gpu --json "$out/others.json" --only encoder faiss
}

# Runs tests whose blocks have several warps under one of NVIDIA's checkers.
check() {
    command -v compute-sanitizer > /dev/null || return
    within 40 compute-sanitizer --tool "$1" --log-file "$out/$2.log" "$python" -m pytest -q -W default \
        -p no:cacheprovider tests/engine/test_gpu.py -k "gpu_equals_the_cpu_on_a_few and (1000 or 1300)" | tail -2
    tail -3 "$out/$2.log"
}

memory() { check memcheck memory; }

races() { check racecheck races; }

# Profiles launches of one query, the longest documents first. A launch is repeated for each counter, some 20 times.
profile() {
    command -v ncu > /dev/null || return
    within 40 ncu --clock-control none --section SpeedOfLight --section Occupancy --section WarpStateStats \
        --section LaunchStats --kernel-name fused --launch-skip 6 --launch-count 6 --log-file "$out/profile.log" \
        "$python" -c "
import cupy
from bench import gpu
bench = gpu.GpuBench(cupy, quick=False)
bench.device.align(gpu.unit_rows(gpu.USUAL, bench.rng), bench.collection(10_000_000), gpu.WIDE)"
    grep -E "fused|Duration|Registers|Achieved Occ|No Eligible|Compute \(SM\) Throughput" "$out/profile.log"
}

export PYTHONPATH="$repository:$state/site" PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1
set_up
for part in ${*:-neighbours doctor tests alignment others memory races profile}; do
    echo "== $part, after $SECONDS s"
    "$part"
done
echo "== the end, after $SECONDS s"
ls -l "$out"
