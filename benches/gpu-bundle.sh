#!/bin/sh
# Builds and strips the tests and the bench, and bundles them, so that a machine with a GPU, its driver and
# NVRTC, and no Rust runs all that needs one:
#
#   benches/gpu-bundle.sh [BUNDLE.tar.gz]        here
#   tar xzf BUNDLE.tar.gz && ./gpu/run-on-gpu.sh [RESULTS]        there
#
# BUNDLE_MODELS="smollm2-135m gemma-3-270m" puts models from the cache into the bundle, for golden values on a
# machine without a network; they are not small. A bundle of more than BUNDLE_MIB (48) is made and refused: GPUs that
# are lent take no large ones. The GPU's machine needs this machine's glibc or a later one.
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
cargo test --release --locked --no-run --message-format=json -p kernels -p models -p engine --lib --test it \
    >"$work/tests.json"
python3 - "$work/tests.json" "$gpu/bin" <<'PYTHON'
import json, pathlib, shutil, sys

# Those that have tests which need a GPU: each is tens of megabytes.
WANTED = {"kernels", "kernels-it", "models-it", "engine-it"}
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
    if name in WANTED:
        shutil.copy(message["executable"], to / name)
missing = WANTED - {path.name for path in to.iterdir()}
if missing:
    sys.exit(f"no test binaries were built of {sorted(missing)}")
PYTHON
cargo build --release --locked -p benches
cp "${CARGO_TARGET_DIR:-$root/target}/release/benches" "$gpu/bin/benches"
strip "$gpu"/bin/*
cp -R models/tests/data "$gpu/tree/models/tests/data"
# Tests look for their data where they were built.
printf '%s\n' "$root" >"$gpu/built-in"
# Of this checkout, not of a repository that the sources were unpacked in.
{ [ -e .git ] && git rev-parse HEAD 2>/dev/null; } >"$gpu/commit" || echo unknown >"$gpu/commit"
if [ -n "${BUNDLE_MODELS:-}" ]; then
    cargo build --release --locked -p cento
    cento=${CARGO_TARGET_DIR:-$root/target}/release/cento
    for model in $BUNDLE_MODELS; do CENTO_CACHE_DIR=$gpu/models "$cento" pull "$model"; done
fi
cp benches/run-on-gpu.sh "$gpu/run-on-gpu.sh"
chmod +x "$gpu/run-on-gpu.sh"
tar -C "$work" -cf - gpu | gzip -9 >"$bundle"
ls -lh "$gpu/bin" "$bundle"
mib=$(($(wc -c <"$bundle") / 1048576 + 1))
if [ "$mib" -gt "${BUNDLE_MIB:-48}" ]; then
    echo "$bundle has $mib MiB of ${BUNDLE_MIB:-48} (BUNDLE_MIB)" >&2
    exit 1
fi
