#!/usr/bin/env bash
# Says which real data the tests will find; without it, what needs it is skipped.
set -euo pipefail

say() {
  local variable=$1 what=$2 folder=${!1:-}
  if [ -z "$folder" ]; then
    printf 'rankfold: %s is not set: tests that need %s are skipped\n' "$variable" "$what"
  elif [ ! -d "$folder" ]; then
    printf 'rankfold: %s names %s, which is no folder\n' "$variable" "$folder"
    exit 1
  else
    printf 'rankfold: %s from %s:%s\n' "$what" "$folder" "$(cd "$folder" && printf ' %s' *)"
  fi >&2
}

say RANKFOLD_DATA "MNIST and CIFAR"
say RANKFOLD_PRETRAINED "pretrained checkpoints"
