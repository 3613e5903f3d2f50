#!/usr/bin/env bash
# Compares our methods with independent implementations and prints the tables:
#   examples/peers/run.sh [--data DIR] [--markdown FILE] …            see README.md
# Builds ours in release and installs the libraries into an environment of its own, both under the target directory.
# Where that is done already: VQ_HOST=…/vq-host python3 examples/peers/peers.py …
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}

echo 'building ours …' >&2
cargo build --quiet --release --locked --manifest-path "$root/Cargo.toml"
# Not locked: its lock file follows what our crates depend on.
cargo build --quiet --release --manifest-path "$here/../compare/Cargo.toml"

venv=$CARGO_TARGET_DIR/peers-venv
if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
    python3 -m venv --clear "$venv"
    # One by one: what does not install here is skipped by name, the others are compared.
    while read -r package; do
        echo "installing $package …" >&2
        "$venv/bin/pip" install --quiet --disable-pip-version-check "$package" || echo "$package does not install here" >&2
    done < "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/installed.txt"
fi

PYTHONDONTWRITEBYTECODE=1 exec "$venv/bin/python" "$here/peers.py" \
    --host "$CARGO_TARGET_DIR/release/vq-host" "$@"
