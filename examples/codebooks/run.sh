#!/usr/bin/env bash
# Compares our codebook methods with those of FAISS at equal bytes:
#   examples/codebooks/run.sh --data DIR [--markdown FILE] …            see README.md
# Builds ours in release and installs FAISS into an environment of its own, both under the target directory.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}

echo 'building ours …' >&2
cargo build --quiet --release --locked --manifest-path "$root/Cargo.toml"

requirements=$here/../compare/requirements.txt
venv=$CARGO_TARGET_DIR/compare-venv
if ! cmp -s "$requirements" "$venv/installed.txt"; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"
    cp "$requirements" "$venv/installed.txt"
fi

PYTHONDONTWRITEBYTECODE=1 exec "$venv/bin/python" "$here/codebooks.py" \
    --host "$CARGO_TARGET_DIR/release/vq-host" "$@"
