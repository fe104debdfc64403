#!/usr/bin/env bash
# Makes dist/rankfold-VERSION-x86_64, which runs on another x86-64 machine that has libtorch 2.11.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo=${CARGO:-cargo}
version=$("$cargo" metadata --format-version 1 --no-deps |
  python3 -c 'import json, sys; print(next(p["version"] for p in json.load(sys.stdin)["packages"] if p["name"] == "rankfold-cli"))')
target=$("$cargo" metadata --format-version 1 --no-deps |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
name=rankfold-$version-x86_64

# The run path of the build machine has no business on another one; the wrapper names libtorch there.
RANKFOLD_RPATH='$ORIGIN' "$cargo" build --release --bin rankfold

mkdir -p dist
work=$(mktemp -d "dist/.$name.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
mkdir "$work/lib" "$work/licenses"
install -m 755 scripts/bundle/rankfold "$work/rankfold"
install -m 644 scripts/bundle/README "$work/README"
install -m 755 "$target/release/rankfold" "$work/lib/rankfold"
strip --strip-debug "$work/lib/rankfold"
cp LICENSE-MIT LICENSE-APACHE "$work/"
"$cargo" metadata --format-version 1 --filter-platform x86_64-unknown-linux-gnu | python3 scripts/bundle/licenses.py rankfold-cli "$work/licenses"

rm -rf "dist/$name"
mv "$work" "dist/$name"
trap - EXIT
echo "dist/$name"
