#!/usr/bin/env bash
# The main job on built-in data: demo.sh RANKFOLD MODEL
set -euo pipefail

rankfold=$1 model=$2

show() {
  printf '\n$ rankfold %s\n' "$*"
  "$rankfold" "$@"
}

show inspect "$model"
show eval "$model" --data shapes
