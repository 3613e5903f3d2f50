#!/usr/bin/env bash
# Measures our kernels and FAISS alternately, in one run, and prints the ratios:
#   examples/compare/run.sh --data DIR [--only REGEX] [--repeats N] [--threads 1,2] [--markdown FILE]
# Builds ours in release and installs FAISS into an environment of its own, both under the target directory.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}

echo 'building ours …' >&2
cargo build --quiet --release --locked --manifest-path "$root/Cargo.toml" \
    -p vq-compare -p vq-pq -p vq-opq -p vq-rq -p vq-lsq -p vq-sq -p vq-cast

venv=$CARGO_TARGET_DIR/compare-venv
if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
    echo 'installing FAISS …' >&2
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/installed.txt"
fi

PYTHONDONTWRITEBYTECODE=1 exec "$venv/bin/python" "$here/compare.py" \
    --program "$CARGO_TARGET_DIR/release/vq-compare" --plugins "$CARGO_TARGET_DIR/release" "$@"
