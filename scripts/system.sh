#!/usr/bin/env bash
# Checks what a build needs of the system; installs what is missing by apt where it may, else says what to install.
set -euo pipefail

say() { printf 'rankfold: %s\n' "$*" >&2; }

links_cxx() {
  local out
  out=$(mktemp) || return 1
  local status=0
  printf '#include <vector>\nint main() { return std::vector<int>().size(); }\n' |
    "${CXX:-c++}" -x c++ - -o "$out" 2>/dev/null || status=1
  rm -f "$out"
  return $status
}

# Installs packages where that may be done; otherwise fails.
install() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
  say "installing $*"
  local command=(env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@")
  "${command[@]}" </dev/null >&2 || { apt-get update -qq </dev/null >&2 && "${command[@]}" </dev/null >&2; }
}

# `system.sh browser`: what the tests of the report look at it with. Without it they are skipped.
has_browser() {
  local name
  command -v chromedriver >/dev/null || return 1
  for name in chromium chromium-browser google-chrome google-chrome-stable; do
    if command -v "$name" >/dev/null; then return 0; fi
  done
  return 1
}

if [ "${1:-}" = browser ]; then
  has_browser || install chromium chromium-driver fonts-liberation ||
    say "there is no Chromium with its chromedriver: the report is not looked at (Debian: sudo apt-get install chromium chromium-driver)"
  exit 0
fi

packages=()
links_cxx || packages+=(g++)
command -v "${CC:-cc}" >/dev/null || packages+=(gcc)
command -v python3 >/dev/null || packages+=(python3)
# A libtorch that is there already needs no fetching.
if [ -z "${LIBTORCH:-}" ] && ! python3 -m pip --version >/dev/null 2>&1; then packages+=(python3-pip); fi

if [ ${#packages[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    install "${packages[@]}" || {
      say "apt-get could not install ${packages[*]}; install them and run this again"
      exit 1
    }
    if ! links_cxx; then
      say "${CXX:-c++} does not build a C++ program; set CXX to a compiler that does, or unset it"
      exit 1
    fi
  else
    say "missing: ${packages[*]}; install them (Debian, Ubuntu: sudo apt-get install ${packages[*]}) and run this again"
    exit 1
  fi
fi

if ! command -v cargo >/dev/null; then
  say "missing: cargo; install Rust $(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$(dirname "$0")/../Cargo.toml") or newer, as by rustup, and run this again"
  exit 1
fi
