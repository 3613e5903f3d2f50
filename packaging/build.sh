#!/usr/bin/env bash
# What is given to who has no Rust: a folder that runs wherever it is put, the same as a tarball,
# and a package for Debian. From anywhere:
#   packaging/build.sh          for every Linux with glibc 2.28 or newer, built with zig
#   packaging/build.sh --here   for the glibc of this machine: what `cargo build --release` builds
# All of it lies in target/package afterwards; packaging/python/build.sh makes a wheel of it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

glibc=2.28
target=${CARGO_TARGET_DIR:-target}
out=$target/package
triple=$(rustc -vV | sed -n 's/^host: //p')
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
name=vq-host-$version-${triple%%-*}-linux

case ${1-} in
'')
    # A static binary could load no plugin; zig links against the symbols of an older glibc.
    # Tools of another version are put into another folder.
    zigbuild=0.24.1 zig=0.17.1
    tools=$target/packaging-tools-$zigbuild-$zig
    if [[ ! -x $tools/bin/cargo-zigbuild ]]; then
        python3 -m venv "$tools"
        "$tools/bin/pip" install --quiet --only-binary=:all: \
            "cargo-zigbuild==$zigbuild" "ziglang==$zig"
    fi
    PATH=$(realpath "$tools/bin"):$PATH cargo zigbuild --release --locked --target "$triple.$glibc"
    built=$target/$triple/release
    ;;
--here)
    cargo build --release --locked
    built=$target/release
    glibc=
    ;;
*)
    printf 'usage: packaging/build.sh [--here]\n' >&2
    exit 2
    ;;
esac

rm -rf "$out"
mkdir -p "$out"
# Readable by all, whoever builds: a plugin that anybody may write is refused.
umask 022

# The folder: the binary beside `plugins`.
folder=$out/$name
mkdir "$folder"
install -D -t "$folder" "$built/vq-host"
for manifest in plugins/*/Cargo.toml; do
    plugin=${manifest#plugins/}
    plugin=libvq_${plugin%/Cargo.toml}.so
    install -D -m 644 -t "$folder/plugins" "$built/${plugin//-/_}"
done
strip --strip-unneeded "$folder/vq-host" "$folder"/plugins/*.so

newest=0
for file in "$folder/vq-host" "$folder"/plugins/*.so; do
    needs=$(readelf --version-info --wide "$file" |
        sed -n 's/.*Name: GLIBC_\([0-9.]*\) .*/\1/p' | sort -V | tail -1)
    newest=$(printf '%s\n' "$newest" "$needs" | sort -V | tail -1)
    if [[ -n $glibc && $(printf '%s\n' "$glibc" "$needs" | sort -V | tail -1) != "$glibc" ]]; then
        printf '%s needs glibc %s, which is newer than %s\n' "$file" "$needs" "$glibc" >&2
        exit 1
    fi
done
printf 'the newest symbol of glibc that is needed is of %s\n' "$newest"

install -D -m 644 -t "$folder" README.md sweeps.toml LICENSE-APACHE LICENSE-MIT
install -D -m 644 -t "$folder/examples/data" examples/data/README.md examples/data/*.f16bin
cp -r docs "$folder"
"$folder/vq-host" man "$folder/man/man1"
mkdir "$folder/completions"
"$folder/vq-host" completions bash >"$folder/completions/vq-host.bash"
"$folder/vq-host" completions fish >"$folder/completions/vq-host.fish"
"$folder/vq-host" completions zsh >"$folder/completions/_vq-host"
packaging/licences.py "$triple" >"$folder/THIRD-PARTY-LICENCES.txt"
standard=$(rustc --print sysroot)/share/doc/rust/COPYRIGHT-library.html
install -m 644 -t "$folder" "$standard"

# The same files under a prefix, where Debian wants them.
root=$out/deb
doc=$root/usr/share/doc/vq-host
share=$root/usr/share
install -D -t "$root/usr/bin" "$folder/vq-host"
install -D -m 644 -t "$root/usr/lib/vq-host/plugins" "$folder"/plugins/*
install -D -m 644 -t "$share/vq-host" sweeps.toml
install -D -m 644 -t "$share/vq-host/examples/data" "$folder"/examples/data/*
install -D -m 644 -t "$share/man/man1" "$folder"/man/man1/*
gzip -9n "$share"/man/man1/*
install -D -m 644 "$folder/completions/vq-host.bash" "$share/bash-completion/completions/vq-host"
install -D -m 644 -t "$share/fish/vendor_completions.d" "$folder/completions/vq-host.fish"
install -D -m 644 -t "$share/zsh/vendor-completions" "$folder/completions/_vq-host"
install -D -m 644 -t "$doc" README.md "$folder/COPYRIGHT-library.html"
cp -r docs "$doc"
cat LICENSE-MIT LICENSE-APACHE "$folder/THIRD-PARTY-LICENCES.txt" >"$doc/copyright"
mkdir "$root/DEBIAN"
# libgcc1 is what libgcc-s1 was called before Debian 11.
cat >"$root/DEBIAN/control" <<CONTROL
Package: vq-host
Version: $version
Architecture: $(dpkg --print-architecture)
Maintainer: the vq-host developers <vq-host@localhost>
Section: science
Priority: optional
Depends: libc6 (>= $newest), libgcc-s1 | libgcc1
Installed-Size: $(du -k -s "$root/usr" | cut -f1)
Description: neutral referee for vector quantization
 Measures any number of quantizers on the same data, at the same true bits per
 dimension, with the same metrics, and keeps every result. Every method is a
 plugin behind one small C interface.
CONTROL

dated=$(git log -1 --format=%ct 2>/dev/null || date +%s)
tar --create --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$dated" \
    --directory "$out" "$name" | gzip -9n >"$out/$name.tar.gz"
SOURCE_DATE_EPOCH=$dated dpkg-deb --root-owner-group -Zxz --build "$root" "$out" >/dev/null
rm -r "$root"
du --apparent-size -h "$folder/vq-host" "$out"/*.tar.gz "$out"/*.deb
