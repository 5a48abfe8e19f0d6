#!/bin/sh
# Runs everything that needs a GPU from a bundle (see gpu-bundle.sh), and writes what came of it to a folder:
#
#   ./run-on-gpu.sh [RESULTS]
#
# Few files: summary.txt, log.txt with what every step said, and a JSON file of each bench.
#
# Made for a GPU that is lent for ten minutes. What tells most comes first: that kernels compile, that they are
# right, that models and gates are, then our own numbers, then PyTorch's. Each step has its seconds, and all of
# them together BUDGET_SECONDS (540); what they do not suffice for is left out, and said. Benches save each number
# as it is measured, so one that is ended leaves those it had. What was compiled stays beside the bundle, for the
# next call.
#
#   BUDGET_SECONDS=900           seconds of all steps
#   BENCH_8B_SECONDS=60          seconds of one step: its name in capitals, and _SECONDS
#   ONLY="bench-8b bench-peer"   these steps alone, in the order below
#   SKIP="bench-ops sanitizer"   without these
#   WITH_MODELS=1                fetches the models of golden values where the bundle has none
#
# A step that fails does not stop the next; the exit status says whether all went well. Without a GPU there are no
# steps: that is said at once. NVRTC and cuBLASLt are found by themselves, or in CENTO_CUDA_LIBS.
set -u

here=$(cd "$(dirname "$0")" && pwd)
results=${1:-$here/results}
mkdir -p "$results"
results=$(cd "$results" && pwd)
began=$(date +%s)
budget=${BUDGET_SECONDS:-540}
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
    CENTO_CACHE_DIR=${CENTO_CACHE_DIR:-$here/cache}
fi
# Tests keep what they compile in the temporary folder, benches in the cache: here it is one, and nothing is
# compiled twice.
TMPDIR=$here/tmp
mkdir -p "$CENTO_CACHE_DIR/cuda" "$TMPDIR"
[ -e "$TMPDIR/cento-test-kernels" ] || ln -s "$CENTO_CACHE_DIR/cuda" "$TMPDIR/cento-test-kernels"
REQUIRE_GPU=1
export CENTO_CACHE_DIR TMPDIR REQUIRE_GPU

say() {
    echo "$*" | tee -a "$results/summary.txt"
}

# is_in WORD WORDS: it is one of them.
is_in() {
    case " $2 " in *" $1 "*) return 0 ;; *) return 1 ;; esac
}

# step NAME SECONDS COMMAND...: runs it for so many seconds at most, keeps what it says in log.txt, and tells how
# it ended; of one that failed also its last lines.
step() {
    name=$1 limit=$2
    shift 2
    if [ -n "${ONLY:-}" ] && ! is_in "$name" "$ONLY"; then return; fi
    if is_in "$name" "${SKIP:-}"; then
        say "$name: left out, as asked"
        return
    fi
    left=$((began + budget - $(date +%s)))
    if [ "$left" -lt "$LEAST_SECONDS" ]; then
        say "$name: LEFT OUT, $left of $budget seconds are left"
        failed=1
        return
    fi
    [ "$limit" -le "$left" ] || limit=$left
    echo "==== $name" >>"$results/log.txt"
    start=$(date +%s)
    timeout -k 5 "$limit" "$@" >"$TMPDIR/step.log" 2>&1
    status=$?
    # A filter that fits no test would look well.
    ! grep -q '^test result: ok. 0 passed' "$TMPDIR/step.log" || status="no tests"
    cat "$TMPDIR/step.log" >>"$results/log.txt"
    seconds=$(($(date +%s) - start))
    case $status in
    0) say "$name: ok, $seconds s" ;;
    124 | 137) failed=1 && say "$name: ENDED after $limit s" ;;
    *) failed=1 && say "$name: FAILED ($status), $seconds s" ;;
    esac
    [ "$status" = 0 ] || tail -n 15 "$TMPDIR/step.log" | cut -c 1-400
}

# bench NAME SECONDS ARGS...: a step that saves its report in NAME.json.
bench() {
    name=$1 limit=$2
    shift 2
    # What it prints it has saved.
    step "$name" "$limit" sh -c 'exec "$@" >/dev/null' - "$here/bin/benches" gpu --save "$results/$name.json" "$@"
}

# A step that has fewer seconds is not worth its start.
LEAST_SECONDS=8

: >"$results/log.txt"
{
    echo "commit $(cat "$here/commit")"
    date -u
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv 2>&1
} >"$results/summary.txt"
cat "$results/summary.txt"

# Every step would fail, and say why at length.
lacks=$("$here/bin/kernels" cuda::tests::numbers_go_to_the_device 2>&1 | sed -n 's/^REQUIRE_GPU=1, and //p')
if [ -n "$lacks" ]; then
    say "no GPU to run on: $lacks"
    exit 1
fi

# Right?
step compile "${COMPILE_SECONDS:-150}" "$here/bin/kernels-it" gpu::every_source --nocapture
step kernels-unit "${KERNELS_UNIT_SECONDS:-40}" "$here/bin/kernels" cuda
step kernels-cases "${KERNELS_CASES_SECONDS:-90}" "$here/bin/kernels-it" gpu::every_case --nocapture
step models-gpu "${MODELS_GPU_SECONDS:-60}" "$here/bin/models-it" gpu:: --nocapture
step models-parity "${MODELS_PARITY_SECONDS:-60}" "$here/bin/models-it" on_a_gpu --nocapture --skip golden::
step engine-gates "${ENGINE_GATES_SECONDS:-60}" "$here/bin/engine-it" on_a_gpu --nocapture
if [ -d "$here/models" ] || [ "${WITH_MODELS:-0}" = 1 ]; then
    step models-golden "${MODELS_GOLDEN_SECONDS:-120}" "$here/bin/models-it" golden::models_on_a_gpu --nocapture
else
    say "models-golden: left out, the bundle has no models (WITH_MODELS=1 fetches them)"
fi

# Fast? Alone, KV may have all memory but the weights'. A step of decode and the joins are what is claimed.
bench bench-8b "${BENCH_8B_SECONDS:-150}" --alone --models 8b --kv-bytes 103079215104 \
    --parts decode,joined,shared,prefill
bench bench-1b "${BENCH_1B_SECONDS:-60}" --alone --models 1b --kv-bytes 103079215104 \
    --parts decode,joined,shared,prefill
bench bench-ops "${BENCH_OPS_SECONDS:-60}" --alone --parts ops
# PyTorch compiles for each new size, which takes longer than running it: few sizes.
bench bench-peer "${BENCH_PEER_SECONDS:-240}" --models 8b --parts decode,prefill \
    --prompts 4096 --batches 1,16 --depths 4096
if command -v compute-sanitizer >/dev/null; then
    step sanitizer "${SANITIZER_SECONDS:-240}" \
        compute-sanitizer --tool memcheck --error-exitcode 9 "$here/bin/kernels" cuda
else
    say "sanitizer: left out, there is no compute-sanitizer"
fi
say "all: $(($(date +%s) - began)) s; results are in $results"
exit $failed
