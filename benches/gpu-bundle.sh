#!/bin/sh
# Builds and strips the tests and the bench, and bundles them, so that a machine with a GPU, its driver and
# NVRTC, and no Rust runs all that needs one:
#
#   benches/gpu-bundle.sh [BUNDLE.tar.gz]        here
#   tar xzf BUNDLE.tar.gz && ./gpu/run-on-gpu.sh [RESULTS]        there
#
# BUNDLE_MODELS="smollm2-135m gemma-3-270m" puts models from the cache into the bundle, for golden values on a
# machine without a network; they are not small.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
bundle=${1:-$root/gpu-bundle.tar.gz}
case $bundle in /*) ;; *) bundle=$PWD/$bundle ;; esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
gpu=$work/gpu
mkdir -p "$gpu/bin" "$gpu/tree/models/tests"

cd "$root"
# Lines of JSON: of each test binary its crate, its target and where it lies.
cargo test --release --no-run --message-format=json -p kernels -p models -p engine >"$work/tests.json"
python3 - "$work/tests.json" "$gpu/bin" <<'PYTHON'
import json, pathlib, shutil, sys

lines, to = open(sys.argv[1]), pathlib.Path(sys.argv[2])
for line in lines:
    message = json.loads(line)
    if message.get("reason") != "compiler-artifact" or not message.get("executable"):
        continue
    if not message["profile"]["test"]:
        continue
    crate = pathlib.Path(message["manifest_path"]).parent.name
    kind = message["target"]["kind"][0]
    name = crate if kind in ("lib", "rlib") else f"{crate}-{message['target']['name']}"
    shutil.copy(message["executable"], to / name)
PYTHON
cargo build --release -p benches
cp "${CARGO_TARGET_DIR:-$root/target}/release/benches" "$gpu/bin/benches" 2>/dev/null ||
    cp "${CARGO_TARGET_DIR:-$root/target}/release/cento-bench" "$gpu/bin/benches"
strip "$gpu"/bin/*
cp -R models/tests/data "$gpu/tree/models/tests/data"
# Tests look for their data where they were built.
printf '%s\n' "$root" >"$gpu/built-in"
git rev-parse HEAD >"$gpu/commit" 2>/dev/null || echo unknown >"$gpu/commit"
if [ -n "${BUNDLE_MODELS:-}" ]; then
    cargo build --release -p cento
    cento=${CARGO_TARGET_DIR:-$root/target}/release/cento
    for model in $BUNDLE_MODELS; do CENTO_CACHE_DIR=$gpu/models "$cento" pull "$model"; done
fi
cp benches/run-on-gpu.sh "$gpu/run-on-gpu.sh"
chmod +x "$gpu/run-on-gpu.sh"
tar -C "$work" -czf "$bundle" gpu
ls -lh "$bundle"
