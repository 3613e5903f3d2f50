#!/usr/bin/env bash
# What packaging/build.sh made, in a bare Debian without Rust: the tarball unpacked runs the default
# sweep for an ordinary user, and so does the package installed. From anywhere:
#   packaging/test.sh                      the whole sweep, twice
#   packaging/test.sh --partition slice:1/16   options of `vq-host run`
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

package=$(realpath "${CARGO_TARGET_DIR:-target}/package")

skip() {
    printf 'skipped: %s\n' "$1"
    exit 0
}

[[ $(id -u) -eq 0 ]] || skip 'the package in a bare Debian, which only root can make'
unshare --mount --pid --fork true 2>/dev/null ||
    skip 'the package in a bare Debian, as no /proc may be mounted here'
if ! command -v mmdebstrap >/dev/null; then
    { apt-get update && apt-get install -y --no-install-recommends mmdebstrap; } >/dev/null 2>&1 ||
        skip 'the package in a bare Debian, as mmdebstrap cannot be installed'
fi

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
root=$place/root
# Nobody needs this root after a power cut, and without the hook perl comes with it.
timeout 300 mmdebstrap --quiet --mode=root --variant=essential --dpkgopt=force-unsafe-io \
    --include=usr-is-merged --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
    bookworm "$root" >"$place/log" 2>&1 || {
    tail -n 3 "$place/log"
    skip 'the package in a bare Debian, as Debian cannot be reached'
}

# A line for the shell in that root, whose mounts and processes end with it.
inside() {
    # shellcheck disable=SC2016 # The inner shell is to see these.
    unshare --mount --pid --fork bash -c '
        mount -t proc proc "$0/proc"
        exec chroot --userspec="$1" "$0" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin \
            HOME=/home/someone NO_COLOR=1 bash -euo pipefail -c "cd; $2"' "$root" "$1" "$2"
}
printf 'someone:x:1000:1000::/home/someone:/bin/bash\n' >>"$root/etc/passwd"
install -d -o 1000 -g 1000 "$root/home/someone"
install -m 644 -t "$root/home/someone" "$package"/*.tar.gz "$package"/*.deb
inside 0:0 '! command -v cargo rustc cc ld'

# The plugins that `vq-host methods` finds have to be those of the package, where they are.
count=$(find "$package"/*/plugins -name '*.so' | wc -l)
found() {
    # shellcheck disable=SC2016 # The shell in the root is to see these.
    printf '[[ $(%s methods --format json | grep -c '"'\"plugin_path\": \"%s/libvq_'"') -eq %s ]]' \
        "$1" "$2" "$count"
}

printf 'the tarball, by an ordinary user\n'
unpacked=$(basename "$package"/*.tar.gz .tar.gz)
inside 1000:1000 "tar -xf $unpacked.tar.gz
    cd $unpacked
    $(found ./vq-host "/home/someone/$unpacked/plugins")
    ./vq-host run sweeps.toml $*
    ./vq-host run sweeps.toml $* 2>&1 | grep 'nothing to run'"

printf 'the same folder elsewhere, through a link\n'
inside 1000:1000 "mv $unpacked elsewhere
    ln -s elsewhere/vq-host vq
    $(found ./vq /home/someone/elsewhere/plugins)
    rm -r elsewhere"

printf 'the Debian package\n'
inside 0:0 'dpkg --install vq-host_*.deb'
inside 1000:1000 "$(found vq-host /usr/lib/vq-host/plugins)
    vq-host run /usr/share/vq-host/sweeps.toml --store installed.db $*
    vq-host results installed.db --best | tail -n 3"
inside 0:0 'dpkg --remove vq-host; [[ ! -e /usr/bin/vq-host && ! -e /usr/lib/vq-host ]]'
