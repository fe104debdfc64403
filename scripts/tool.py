#!/usr/bin/env python3
"""Prints the path of a pinned cargo command (cargo-deny, cargo-mutants), building it into the cache on first use."""

import os
import subprocess
import sys
from pathlib import Path

from cache import SetupError, cache_dir, finish, put_in_place, say

VERSIONS = {"cargo-deny": "0.20.2", "cargo-mutants": "27.1.0"}


def build(name: str, version: str, tree: Path, kept: Path) -> None:
    say(f"building {name} {version} (once, some minutes)")
    # Unoptimised it builds in a fraction of the time, and works in seconds all the same.
    command = [os.environ.get("CARGO", "cargo"), "install", name, "--version", version, "--locked", "--debug"]
    command += ["--root", str(tree), "--target-dir", str(kept / "target")]
    if not sys.stderr.isatty():
        command += ["--quiet"]
    status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode
    if status != 0:
        raise SetupError(
            f"cargo could not install {name} {version} (exit status {status})",
            "look at its message above; run this again when the network is there",
        )


def run() -> None:
    [name] = sys.argv[1:]
    version = VERSIONS[name]
    folder = cache_dir() / f"{name}-{version}"
    program = folder / "bin" / name
    put_in_place(folder, program.is_file, lambda tree, kept: build(name, version, tree, kept))
    print(program)


if __name__ == "__main__":
    sys.exit(finish(run))
