#!/usr/bin/env bash
# The wheel, of what packaging/build.sh made: the program, its plugins, the default sweep with its
# data, and the package vq_host. From anywhere; it lies beside the other packages, in target/package:
#   packaging/python/build.sh [FOLDER]   default: target/package/vq-host-*-linux
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

target=$(realpath "${CARGO_TARGET_DIR:-target}")
folders=("${1:-"$target"/package/vq-host-*-linux}")
# The default is a pattern.
[[ $# -ne 0 ]] || folders=("$target"/package/vq-host-*-linux)
folder=${folders[0]}
if [[ ! -x $folder/vq-host ]]; then
    printf 'there is no vq-host in %s: packaging/build.sh makes that folder\n' "$folder" >&2
    exit 1
fi

# Tools of another version are put into another folder.
hatchling=1.33.0 auditwheel=6.8.2
tools=$target/packaging-tools-hatchling-$hatchling-auditwheel-$auditwheel
if [[ ! -x $tools/bin/auditwheel ]]; then
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --only-binary=:all: \
        "hatchling==$hatchling" "auditwheel==$auditwheel"
fi

umask 022
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
cp -r packaging/python/{pyproject.toml,hatch_build.py,README.md,src} "$stage"
find "$stage" -name __pycache__ -prune -exec rm -r {} +

# As under a prefix, which an environment of Python is.
install -D -t "$stage/bin" "$folder/vq-host"
install -D -m 644 -t "$stage/lib/vq-host/plugins" "$folder"/plugins/*
share=$stage/share
install -D -m 644 -t "$share/vq-host" "$folder/sweeps.toml"
install -D -m 644 -t "$share/vq-host/examples/data" "$folder"/examples/data/*
install -D -m 644 -t "$share/man/man1" "$folder"/man/man1/*
install -D -m 644 "$folder/completions/vq-host.bash" "$share/bash-completion/completions/vq-host"
install -D -m 644 -t "$share/fish/vendor_completions.d" "$folder/completions/vq-host.fish"
install -D -m 644 -t "$share/zsh/site-functions" "$folder/completions/_vq-host"
install -D -m 644 -t "$share/doc/vq-host" "$folder/README.md"
cp -r "$folder/docs" "$share/doc/vq-host"
install -m 644 -t "$stage" "$folder"/{LICENSE-*,THIRD-PARTY-LICENCES.txt,COPYRIGHT-library.html}

# manylinux_2_N is a promise of glibc 2.N: the newest symbol that any file wants.
newest=$(readelf --version-info --wide "$stage/bin/vq-host" "$stage"/lib/vq-host/plugins/*.so |
    sed -n 's/.*Name: GLIBC_\([0-9.]*\) .*/\1/p' | sort -V | tail -1)
architecture=$(uname -m)
platform=manylinux_${newest/./_}_$architecture
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
wheel=$target/package/vq_host-$version-py3-none-$platform.whl
rm -f "$target"/package/vq_host-*.whl
(
    cd "$stage"
    SOURCE_DATE_EPOCH=$(git -C "$OLDPWD" log -1 --format=%ct 2>/dev/null || date +%s) \
        VQ_VERSION=$version VQ_PLATFORM=$platform \
        "$tools/bin/hatchling" build --target wheel --directory "$target/package" >/dev/null
)

# Symbols of glibc are one half of the promise: libraries that not every system has, the other.
"$tools/bin/auditwheel" show "$wheel" >"$stage/audit"
if ! tr '\n' ' ' <"$stage/audit" | grep -q "consistent with the following platform tag: *\"$platform\""; then
    cat "$stage/audit" >&2
    printf '%s is not what it is called\n' "$wheel" >&2
    exit 1
fi
du --apparent-size -h "$wheel"
