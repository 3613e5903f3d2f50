#!/usr/bin/env bash
# Runs the notebook anew, in an environment with the wheel that packaging/python/build.sh made, and
# stores it with its outputs. From anywhere:
#   examples/notebook/run.sh
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=$(realpath "${CARGO_TARGET_DIR:-$here/../../target}")
wheels=("$target"/package/vq_host-*.whl)
if [[ ! -f ${wheels[0]} ]]; then
    printf 'there is no wheel in %s: packaging/python/build.sh makes it\n' "$target/package" >&2
    exit 1
fi
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --only-binary=:all: "${wheels[0]}[notebook]" \
    nbclient==0.11.0 ipykernel
mkdir "$place/work"
cd "$place/work"
HOME=$place PATH=$place/venv/bin:$PATH \
    "$place/venv/bin/python" "$here/run.py" "$here/choose.ipynb"
