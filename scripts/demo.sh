#!/usr/bin/env bash
# The main job on built-in data: demo.sh RANKFOLD MODEL OUT
set -euo pipefail

rankfold=$1 model=$2 out=$3

show() {
  printf '\n$ rankfold %s\n' "$*"
  "$rankfold" "$@"
}

show inspect "$model" --arch resnet20
show compress "$model" --arch resnet20 --data shapes --params-removed 50% --output "$out" --force
show bench "$model" "$out" --arch resnet20 --batch 1,64 --output "$out/bench.json"
rm -rf "$out-sweep"
show sweep "$model" --arch resnet20 --data shapes --images 512 --calibrate 256 --ranks-per-form 3 --output "$out-sweep"
show report "$out" "$out-sweep"
