#!/bin/sh
# Runs everything that needs a GPU from a bundle (see gpu-bundle.sh), and writes what came of it to a folder:
#
#   ./run-on-gpu.sh [RESULTS]
#
# A step that fails does not stop the next; the exit status says whether all went well. NVRTC and cuBLASLt are
# found by themselves, or in CENTO_CUDA_LIBS.
set -u

here=$(cd "$(dirname "$0")" && pwd)
results=${1:-$here/results}
mkdir -p "$results"
results=$(cd "$results" && pwd)
failed=0

# Tests look for their data where they were built: it is linked there, or they are left out.
built=$(cat "$here/built-in")
if [ ! -e "$built/models/tests/data" ]; then
    { mkdir -p "$built/models/tests" && ln -s "$here/tree/models/tests/data" "$built/models/tests/data"; } 2>/dev/null ||
        echo "no $built/models/tests/data can be made here: tests of tiny models will fail" >&2
fi
if [ -d "$here/models" ]; then
    CENTO_CACHE_DIR=$here/models
else
    CENTO_CACHE_DIR=${CENTO_CACHE_DIR:-$results/cache}
fi
export CENTO_CACHE_DIR
REQUIRE_GPU=1
export REQUIRE_GPU

# step NAME COMMAND...: runs it, keeps what it says in NAME.log, and tells how it ended.
step() {
    name=$1
    shift
    began=$(date +%s)
    if "$@" >"$results/$name.log" 2>&1; then verdict=ok; else verdict="FAILED ($?)" failed=1; fi
    echo "$name: $verdict, $(($(date +%s) - began)) s" | tee -a "$results/summary.txt"
}

{
    echo "commit $(cat "$here/commit")"
    date -u
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv 2>&1
} >"$results/summary.txt"

step kernels-unit "$here/bin/kernels" cuda
step kernels-cases "$here/bin/kernels-it" gpu:: --nocapture
step models-gpu "$here/bin/models-it" gpu:: --nocapture
step models-parity "$here/bin/models-it" on_a_gpu --nocapture --skip golden::
step engine-gates "$here/bin/engine-it" on_a_gpu --nocapture
if [ -d "$here/models" ] || [ "${WITH_MODELS:-0}" = 1 ]; then
    step models-golden "$here/bin/models-it" golden::models_on_a_gpu --nocapture
else
    echo "models-golden: left out, the bundle has no models (WITH_MODELS=1 fetches them)" | tee -a "$results/summary.txt"
fi
if [ "${SANITIZE:-1}" = 1 ] && command -v compute-sanitizer >/dev/null; then
    step sanitizer timeout "${SANITIZE_SECONDS:-1200}" \
        compute-sanitizer --tool memcheck --error-exitcode 9 "$here/bin/kernels" cuda
fi
if [ "${BENCH:-1}" = 1 ]; then
    began=$(date +%s)
    # shellcheck disable=SC2086  # BENCH_ARGS are several words
    if "$here/bin/benches" gpu --json ${BENCH_ARGS:-} >"$results/gpu.json" 2>"$results/bench.log"; then
        verdict=ok
    else
        verdict="FAILED ($?)" failed=1
    fi
    echo "bench: $verdict, $(($(date +%s) - began)) s" | tee -a "$results/summary.txt"
fi
echo "results are in $results"
exit $failed
