#!/usr/bin/env bash
# Makes a tarball of bin/, conf/ and examples/ whose binaries run with glibc 2.17 and newer: Hadoop
# nodes are old. The tarball is dist/millstream-<version>-<machine>.tar.gz, or lies in $1.

set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

GLIBC=2.17
machine=$(uname -m)
target=$machine-unknown-linux-gnu
cache=${XDG_CACHE_HOME:-$HOME/.cache}/millstream
tools=$cache/zigbuild-0.24.0-0.17.0
output=${1:-dist}

scripts/setup.sh --dist
if [[ ! -x $tools/bin/cargo-zigbuild ]]; then
    rm -rf "$tools.new" "$tools"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
        --target "$tools.new" cargo-zigbuild==0.24.0 ziglang==0.17.0
    mv "$tools.new" "$tools"
fi
export CARGO_ZIGBUILD_ZIG_PATH=$tools/ziglang/zig
export PATH=$tools/bin:$PATH

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
[[ -n $version ]] || { echo "error: no version in Cargo.toml" >&2; exit 1; }
name=millstream-$version-$machine
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage/$name"/{bin,conf,examples,usrlib}

# What `millstream --version` says it was built from; a source tree without git does not know.
: "${MILLSTREAM_COMMIT:=$(git rev-parse --short HEAD 2>/dev/null || true)}"
: "${MILLSTREAM_COMMIT:=unknown}"
export MILLSTREAM_COMMIT

cargo zigbuild --release --target "$target.$GLIBC" --workspace \
    --bin millstream --example word_count --example datagen_print
built=${CARGO_TARGET_DIR:-target}/$target/release
strip -o "$stage/$name/bin/millstream" "$built/millstream"
for example in word_count datagen_print; do
    strip -o "$stage/$name/examples/$example" "$built/examples/$example"
done

for script in engine start-cluster stop-cluster jobmanager taskmanager standalone-job yarn-session; do
    cp -p "scripts/$script.sh" "$stage/$name/bin/"
done
cp -p scripts/conf/* "$stage/$name/conf/"
cp -p README.md "$stage/$name/"

"$stage/$name/bin/millstream" --version | grep -F "Commit ID: $MILLSTREAM_COMMIT" || {
    echo "error: the binary does not say that it was built from $MILLSTREAM_COMMIT" >&2
    exit 1
}

# A binary that needs a newer glibc than promised would fail on the first old node: look now.
for binary in "$stage/$name"/bin/millstream "$stage/$name"/examples/*; do
    newest=$(objdump -T "$binary" | sed -n 's/.*GLIBC_\([0-9.]*\).*/\1/p' | sort -Vu | tail -n 1)
    if [[ $(printf '%s\n' "$GLIBC" "$newest" | sort -V | tail -n 1) != "$GLIBC" ]]; then
        echo "error: ${binary##*/} needs glibc $newest, at most $GLIBC is promised" >&2
        exit 1
    fi
    echo "${binary#"$stage/$name/"}: glibc $newest, $(($(stat -c %s "$binary") / 1024)) KiB"
done

mkdir -p "$output"
tar -C "$stage" --owner=0 --group=0 -czf "$output/$name.tar.gz" "$name"
echo "$output/$name.tar.gz"
