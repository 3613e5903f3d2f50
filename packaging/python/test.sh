#!/usr/bin/env bash
# The wheel that packaging/python/build.sh made: its package is held against ruff, mypy and pytest,
# and in a bare Debian, in an environment of nothing else, it runs the default sweep. From anywhere:
#   packaging/python/test.sh                          the whole sweep
#   packaging/python/test.sh --partition slice:1/16   options of `vq-host run`
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

target=$(realpath "${CARGO_TARGET_DIR:-target}")
wheels=("$target"/package/vq_host-*.whl)
wheel=${wheels[0]}
if [[ ! -f $wheel ]]; then
    printf 'there is no wheel in %s: packaging/python/build.sh makes it\n' "$target/package" >&2
    exit 1
fi
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

skip() {
    printf 'skipped: %s\n' "$1"
    exit 0
}

printf 'the package, in an environment with pandas, polars and tqdm\n'
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --only-binary=:all: "${wheel}[pandas,polars]" \
    tqdm==4.70.1 pytest==9.2.0 ruff==0.17.6 mypy==2.4.1 pandas-stubs types-tqdm hatchling==1.33.0 ||
    skip 'the package vq_host, as what its tests need cannot be installed'
(
    cd packaging/python
    export RUFF_NO_CACHE=true PYTHONDONTWRITEBYTECODE=1
    "$place/venv/bin/ruff" format --check .
    "$place/venv/bin/ruff" check .
    "$place/venv/bin/mypy" --cache-dir="$place/mypy" --python-executable "$place/venv/bin/python" \
        src tests hatch_build.py
    "$place/venv/bin/pytest" -q -p no:cacheprovider tests
)

# The wheel and what it depends on: the Debian gets no network.
"$place/venv/bin/pip" download --quiet --only-binary=:all: --dest "$place/wheels" "$wheel"

[[ $(id -u) -eq 0 ]] || skip 'the wheel in a bare Debian, which only root can make'
unshare --mount --pid --net --fork true 2>/dev/null ||
    skip 'the wheel in a bare Debian, as no /proc may be mounted here'
if ! command -v mmdebstrap >/dev/null; then
    { apt-get update && apt-get install -y --no-install-recommends mmdebstrap; } >/dev/null 2>&1 ||
        skip 'the wheel in a bare Debian, as mmdebstrap cannot be installed'
fi
root=$place/root
timeout 300 mmdebstrap --quiet --mode=root --variant=essential --dpkgopt=force-unsafe-io \
    --include=usr-is-merged,python3-venv --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
    bookworm "$root" >"$place/log" 2>&1 || {
    tail -n 3 "$place/log"
    skip 'the wheel in a bare Debian, as Debian cannot be reached'
}
printf 'someone:x:1000:1000::/home/someone:/bin/bash\n' >>"$root/etc/passwd"
install -d -o 1000 -g 1000 "$root/home/someone"
install -m 644 -t "$root/home/someone" "$place"/wheels/*.whl

printf 'the wheel in a bare Debian, by an ordinary user\n'
cat >"$root/home/someone/try.sh" <<'TRY'
set -euo pipefail
cd
if command -v cargo cc; then exit 1; fi
python3 -m venv env
env/bin/pip install --quiet --no-index --find-links . vq-host
source env/bin/activate
count=$(find env/lib/vq-host/plugins -name '*.so' | wc -l)
[[ $(vq-host methods --format json | grep -c "\"plugin_path\": \"$HOME/env/lib/vq-host/plugins/") -eq $count ]]
sweep=$(python -c 'import vq_host; print(vq_host.default_sweep())')
vq-host run "$sweep" --store first-look.db "$@"
# From Python the same cells are known: nothing is measured again.
cat >again.py <<'PYTHON'
import sys

import vq_host

options = dict(zip([a.removeprefix("--") for a in sys.argv[1::2]], sys.argv[2::2]))
store = vq_host.run(vq_host.default_sweep(), store="first-look.db", **options)
assert vq_host.recommend(store, recall=0.5)["answers"]
PYTHON
python again.py "$@" 2>&1 | tee again.txt
grep -q 'nothing to run' again.txt
pip uninstall --quiet --yes vq-host
left=$(find env -path '*vq-host*' ! -type d)
[[ -z $left ]] || { printf 'left by pip uninstall: %s\n' "$left"; exit 1; }
TRY
# shellcheck disable=SC2016 # The inner shell is to see these.
unshare --mount --pid --net --fork bash -c '
    root=$0
    mount -t proc proc "$root/proc"
    exec chroot --userspec=1000:1000 "$root" /usr/bin/env -i PATH=/usr/bin:/bin \
        HOME=/home/someone NO_COLOR=1 bash /home/someone/try.sh "$@"' "$root" "$@"
printf 'all is well\n'
