#!/usr/bin/env bash
# Build QEMU with emulated AMD SEV; print the path of the binary as last line.
# SPDX-License-Identifier: GPL-2.0-or-later
set -euo pipefail
umask 022 # what is built here is run: nobody else may write to it

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${SEVKIT_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/sevkit}/emulator
binary=qemu-system-x86_64
objects=(sev-tcg-guest sev-snp-tcg-guest)
packages=(gcc libc6-dev flex bison patch xz-utils pkg-config python3 python3-venv
          libglib2.0-dev libslirp-dev libfdt-dev zlib1g-dev)

usage() {
    cat <<EOF
usage: emulator/build.sh [options]

Builds $binary with the objects ${objects[*]} into
$cache/HASH/bin/ and prints its path. HASH covers
the engine, the patches, the pinned source and the configure options, so that
a second call does nothing.

  --print-path         only print the path; status 4 if it is not built
  --print-packages     only print the Debian packages that the build needs
  --source PATH|URL    a QEMU source tarball instead of Debian's
  --source-sha256 HEX  its checksum, where it is not in source.pins
  --sanitize           with AddressSanitizer and UndefinedBehaviorSanitizer, as
                       a build of its own (slow; for tests of the emulator)
  --jobs N             parallel jobs (default: processors)
  --help               this text

status: 0 done, 2 usage, 4 something is missing here, 5 the build failed
EOF
}

note() { printf '%s\n' "$*" >&2; }

# die STATUS ERROR [HINT]
die() {
    note "error: $2"
    [[ -z ${3-} ]] || note "hint: $3"
    exit "$1"
}

# ---- what is to be built ----

# Non-comment lines of a file.
lines() { grep -v -e '^#' -e '^$' "$1"; }

sha() { sha256sum "$1" | cut -d' ' -f1; }

# tree_sha DIR: one checksum for the names and contents of all files below.
tree_sha() {
    (cd "$1" && find . -type f -print0 | LC_ALL=C sort -z |
        xargs -0 sha256sum | sha256sum | cut -d' ' -f1)
}

configure_flags() {
    lines "$here/configure.flags"
    [[ -z $sanitize ]] || printf '%s\n' --enable-asan --enable-ubsan
}

content_hash() {
    {
        tree_sha "$here/engine"
        tree_sha "$here/patches"
        configure_flags
        if [[ -n $source ]]; then echo "$source_sha"; else lines "$here/source.pins"; fi
    } | sha256sum | cut -c1-16
}

# ---- what the build needs ----

missing_packages() {
    local tool
    for tool in gcc flex bison patch xz pkg-config python3; do
        command -v "$tool" >/dev/null || echo "$tool"
    done
    python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    for tool in glib-2.0 slirp zlib; do
        pkg-config --exists "$tool" 2>/dev/null || echo "$tool"
    done
    gcc -E - <<<'#include <libfdt.h>' >/dev/null 2>&1 || echo libfdt # no pipe: it breaks if gcc ends before it reads
}

need_packages() {
    local missing command="apt-get install --no-install-recommends ${packages[*]}"
    missing=$(missing_packages | tr '\n' ' ')
    [[ -n $missing ]] || return 0
    if ! command -v apt-get >/dev/null; then
        die 4 "missing: $missing" "install the development packages of glib, slirp, libfdt and zlib, with gcc, flex and bison"
    fi
    ((EUID == 0)) || die 4 "missing: $missing" "run as root: $command"
    note "installing what the build needs ($missing)"
    {
        apt-get update &&
            DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"
    } >>"$log" 2>&1 || die 4 "apt-get could not install: $missing" "see $log"
    missing=$(missing_packages | tr '\n' ' ')
    [[ -z $missing ]] || die 4 "apt-get ended without an error, but there is still no $missing" "see $log"
}

# Of meson and ninja, as VERSION-VERSION.
tool_versions() { sed -n 's/^[a-z]*==\([0-9.]*\).*/\1/p' "$here/requirements.txt" | paste -sd-; }

need_venv() {
    local venv
    venv=$cache/venv-$(tool_versions)
    if [[ ! -x $venv/bin/ninja || ! -x $venv/bin/meson ]]; then
        note "installing meson and ninja from PyPI"
        rm -rf "$venv"
        { python3 -m venv "$venv" &&
            "$venv/bin/pip" install --disable-pip-version-check --only-binary :all: \
                --require-hashes -r "$here/requirements.txt"
        } >>"$log" 2>&1 || {
            rm -rf "$venv"
            die 4 "could not install meson and ninja from PyPI" "see $log; PIP_INDEX_URL names another index"
        }
    fi
    PATH=$venv/bin:$PATH
}

# ---- the source ----

# The repositories that apt knows on this machine, without naming any here.
debian_repositories() {
    command -v apt-get >/dev/null || return 0
    # shellcheck disable=SC2016  # apt expands it
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        grep -E '/debian/?$' | sort -u || true
}

# fetch_pinned SHA NAME: into the downloads folder, by apt's own transport.
fetch_pinned() {
    local uri escaped=${2//+/%2b}
    for uri in $(debian_repositories); do
        note "fetching $2"
        if /usr/lib/apt/apt-helper download-file \
            "${uri%/}/pool/main/q/qemu/$escaped" "$downloads/$2.part" "SHA256:$1" >>"$log" 2>&1 &&
            [[ -f $downloads/$2.part && $(sha "$downloads/$2.part") == "$1" ]]; then
            mv "$downloads/$2.part" "$downloads/$2"
            return 0
        fi
        rm -f "$downloads/$2.part"
    done
    return 1
}

# Sets tarball and tarball_sha.
find_pinned_source() {
    local sum name
    while read -r sum name; do
        tarball=$downloads/$name tarball_sha=$sum
        if [[ -f $tarball && $(sha "$tarball") == "$sum" ]]; then return 0; fi
    done < <(lines "$here/source.pins")
    while read -r sum name; do
        tarball=$downloads/$name tarball_sha=$sum
        if fetch_pinned "$sum" "$name"; then return 0; fi
    done < <(lines "$here/source.pins")
    die 4 "no pinned QEMU source can be fetched with apt (see $log)" \
        "give a tarball of QEMU 10.0: build.sh --source PATH|URL --source-sha256 HEX"
}

# A tarball that the user names: a local copy in tarball, checked.
take_user_source() {
    tarball=$source tarball_sha=$source_sha
    if [[ $source == *://* ]]; then
        command -v curl >/dev/null || die 4 "curl is needed to fetch $source"
        tarball=$downloads/user-$source_sha
        [[ -f $tarball ]] || curl -fsSL --retry 2 -o "$tarball" "$source" ||
            { rm -f "$tarball"; die 4 "could not fetch $source"; }
    fi
    local actual
    actual=$(sha "$tarball")
    [[ $actual == "$source_sha" ]] || {
        [[ $source != *://* ]] || rm -f "$tarball"
        die 4 "$source has sha256 $actual, expected $source_sha"
    }
}

# The checksum that a user's tarball must have, known before anything is built.
expect_user_source() {
    [[ -n $source ]] || return 0
    if [[ $source != *://* ]]; then
        [[ -f $source ]] || die 2 "no such file: $source"
        source=$(realpath "$source")
    fi
    [[ -z $source_sha && -f $source ]] || return 0
    source_sha=$(sha "$source")
    lines "$here/source.pins" | grep -q "^$source_sha " ||
        die 2 "$source is not in source.pins (sha256 $source_sha)" "if you trust it, add --source-sha256 $source_sha"
}

# copy_changed FROM TO: copy only files that differ, so that ninja rebuilds little.
# One process for all: QEMU has ten thousand files.
copy_changed() {
    python3 - "$1" "$2" <<'EOF'
import filecmp, os, shutil, sys

def same(new, old):
    if os.path.islink(new) or os.path.islink(old):
        return os.path.islink(new) and os.path.islink(old) and os.readlink(new) == os.readlink(old)
    return os.path.isfile(old) and filecmp.cmp(new, old, shallow=False)

source, target = sys.argv[1:]
for folder, below, names in os.walk(source):
    links = [name for name in below if os.path.islink(os.path.join(folder, name))]
    for name in names + links:
        new = os.path.join(folder, name)
        old = os.path.join(target, os.path.relpath(new, source))
        if not same(new, old):
            os.makedirs(os.path.dirname(old), exist_ok=True)
            if os.path.lexists(old):
                os.unlink(old)
            shutil.copy(new, old, follow_symlinks=False)
EOF
}

# Patched source in $tree/src: extracted anew when source or patches change.
prepare_source() {
    local stamp fresh=$tree/src.fresh patch
    stamp="$tarball_sha $(tree_sha "$here/patches")"
    if [[ $(cat "$tree/source.stamp" 2>/dev/null) != "$stamp" ]]; then
        note "extracting and patching $(basename "$tarball")"
        rm -rf "$fresh" && mkdir -p "$fresh"
        tar xf "$tarball" -C "$fresh" --strip-components=1
        for patch in "$here"/patches/*.patch; do
            (cd "$fresh" && patch -p1 --fuzz=1 --no-backup-if-mismatch <"$patch") >>"$log" 2>&1 ||
                die 5 "$(basename "$patch") does not apply to $(basename "$tarball")" "see $log"
        done
        if [[ -d $tree/src ]]; then copy_changed "$fresh" "$tree/src"; else mv "$fresh" "$tree/src"; fi
        rm -rf "$fresh"
        echo "$stamp" >"$tree/source.stamp"
    fi
    copy_changed "$here/engine" "$tree/src"
}

# ---- the build ----

# dies_with_us CMD...: run it so that it is ended when this script is, even by kill -9.
# It must be a child of the script itself: from a subshell only after exec.
dies_with_us() {
    if setpriv --pdeathsig TERM true 2>/dev/null; then
        exec setpriv --pdeathsig TERM "$@"
    fi
    exec "$@"
}

failed() {
    tail -n 25 "$log" >&2
    die 5 "$1" "the whole log is $log"
}

configure_tree() {
    local flags stamp
    mapfile -t flags < <(configure_flags)
    stamp="${flags[*]} $(tool_versions | tr - " ")"
    [[ -f $tree/obj/build.ninja && $(cat "$tree/configure.stamp" 2>/dev/null) == "$stamp" ]] && return 0
    note "configuring"
    rm -rf "$tree/obj" && mkdir -p "$tree/obj"
    (cd "$tree/obj" && dies_with_us ../src/configure --python="$(command -v python3)" "${flags[@]}") >>"$log" 2>&1 ||
        failed "QEMU's configure failed"
    echo "$stamp" >"$tree/configure.stamp"
}

# Show ninja's own [done/total] on one line of a terminal.
progress() {
    local line
    while IFS= read -r line; do
        printf '%s\n' "$line" >>"$log"
        if [[ -t 2 && $line =~ ^\[([0-9]+/[0-9]+)\] ]]; then
            printf '\rcompiling %s ' "${BASH_REMATCH[1]}" >&2
        fi
    done
    [[ ! -t 2 ]] || printf '\n' >&2
}

compile() {
    [[ -t 2 ]] || note "compiling (log: $log)"
    (dies_with_us ninja -C "$tree/obj" -j "$jobs" "$binary") 2>&1 | progress || failed "the build failed"
}

build_info() {
    python3 - "$@" <<'EOF'
import json, sys
names = ("content_hash", "qemu_version", "source", "source_sha256", "engine_sha256",
         "patches_sha256", "compiler")
info = dict(zip(names, sys.argv[1:]))
info["configure_flags"] = sys.argv[1 + len(names):]
info["features"] = ["sev-tcg-guest", "sev-snp-tcg-guest"]
print(json.dumps(info, indent=2))
EOF
}

# Nothing appears under its final name before it is whole and has run once.
install_result() {
    local stage=$cache/.stage.$$ version flags object
    mapfile -t flags < <(configure_flags)
    rm -rf "$cache"/.stage.*  # of builds that were killed: the lock is ours
    mkdir -p "$stage/bin"
    [[ -x $tree/obj/$binary ]] || failed "ninja ended without an error, but there is no $binary"
    cp "$tree/obj/$binary" "$stage/bin/"
    version=$("$stage/bin/$binary" --version | sed -n '1s/.*version \([0-9.]*\).*/\1/p')
    for object in "${objects[@]}"; do
        "$stage/bin/$binary" -object help | grep -q "^  $object" ||
            failed "the new $binary lacks $object"
    done
    build_info "$hash" "$version" "$(basename "$tarball")" "$tarball_sha" "$(tree_sha "$here/engine")" \
        "$(tree_sha "$here/patches")" "$(gcc --version | head -n 1)" "${flags[@]}" >"$stage/build-info.json"
    cp "$here/COPYING" "$stage/"
    rm -rf "${cache:?}/$hash"
    mv "$stage" "$cache/$hash"
}

# The link by which sevkit finds the emulator that was asked for last.
point_current() {
    [[ -z $sanitize ]] || return 0
    [[ $(readlink "$cache/current" 2>/dev/null) == "$hash" ]] && return 0
    ln -sfT "$hash" "$cache/current"  # by rename
}

# ---- ----

source='' source_sha='' print_path='' sanitize='' jobs=$(nproc)
while (($#)); do
    case $1 in
        --print-path) print_path=1 ;;
        --print-packages) echo "${packages[*]}"; exit 0 ;;
        --sanitize) sanitize=1 ;;
        --source | --source-sha256 | --jobs)
            (($# > 1)) || die 2 "$1 needs a value"
            case $1 in
                --source) source=$2 ;;
                --source-sha256) source_sha=${2,,} ;;
                --jobs) jobs=$2 ;;
            esac
            shift ;;
        --help | -h) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done
[[ $jobs =~ ^[1-9][0-9]*$ ]] || die 2 "--jobs needs a number, not $jobs"
[[ -z $source_sha || -n $source ]] || die 2 "--source-sha256 goes with --source"
[[ -z $source_sha || $source_sha =~ ^[0-9a-f]{64}$ ]] || die 2 "--source-sha256 needs 64 hexadecimal digits"
[[ $source != *://* || -n $source_sha ]] || die 2 "a URL needs its --source-sha256"
expect_user_source

hash=$(content_hash)
result=$cache/$hash/bin/$binary
if [[ -x $result && -f $cache/$hash/build-info.json ]]; then
    [[ -n $print_path ]] || point_current
    echo "$result"
    exit 0
fi
[[ -z $print_path ]] || die 4 "the emulator is not built" "make emulator, or emulator/build.sh"

tree=$cache/tree${sanitize:+-sanitize} downloads=$cache/downloads log=$cache/build.log
mkdir -p "$tree" "$downloads"
exec 9>"$cache/lock"
flock -n 9 || { note "another build is running: waiting for it"; flock 9; }
if [[ -x $result && -f $cache/$hash/build-info.json ]]; then
    point_current
    echo "$result"
    exit 0
fi
: >"$log"
trap 'rm -rf "$cache/.stage.$$"' EXIT
# Without this trap, bash ignores a Ctrl-C if the program that runs just then ends by itself.
trap 'exit 130' INT
need_packages
need_venv
if [[ -n $source ]]; then take_user_source; else find_pinned_source; fi
prepare_source
configure_tree
compile
install_result
point_current
echo "$result"
