#!/usr/bin/env python3
"""Prints the path of the pinned cargo-deny, building it into the cache on first use."""

import os
import subprocess
import sys
from pathlib import Path

from cache import SetupError, cache_dir, finish, put_in_place, say

VERSION = "0.20.2"


def fill(tree: Path, kept: Path) -> None:
    say(f"building cargo-deny {VERSION} (once, some minutes)")
    # Unoptimised it builds in a fraction of the time, and checks in seconds all the same.
    command = [os.environ.get("CARGO", "cargo"), "install", "cargo-deny", "--version", VERSION, "--locked", "--debug"]
    command += ["--root", str(tree), "--target-dir", str(kept / "target")]
    if not sys.stderr.isatty():
        command += ["--quiet"]
    status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode
    if status != 0:
        raise SetupError(
            f"cargo could not install cargo-deny {VERSION} (exit status {status})",
            "look at its message above; run this again when the network is there",
        )


def run() -> None:
    folder = cache_dir() / f"cargo-deny-{VERSION}"
    program = folder / "bin" / "cargo-deny"
    put_in_place(folder, program.is_file, fill)
    print(program)


if __name__ == "__main__":
    sys.exit(finish(run))
