#!/usr/bin/env python3
"""Prints the path of a Python that has PyTorch and the peers, making its environment on first use.

The environment lives in the cache, named after its requirements, so that a change of these makes a new one.
`RANKFOLD_PYTHON` names a Python to use instead.
"""

import hashlib
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from cache import SetupError, cache_dir, finish, put_in_place, say

REQUIREMENTS = Path(__file__).resolve().parent / "requirements.txt"
SUPPORTED = ((3, 11), (3, 14))


def missing(python: str) -> list:
    """The requirements that this Python does not meet."""
    wanted = re.findall(r"^([\w-]+)==(\S+)$", REQUIREMENTS.read_text(), re.MULTILINE)
    code = (
        "import sys\nfrom importlib import metadata\n"
        "for pin in sys.argv[1:]:\n"
        "    name, _, version = pin.partition('==')\n"
        "    try:\n        found = metadata.version(name).split('+')[0]\n"
        "    except metadata.PackageNotFoundError:\n        found = 'nothing'\n"
        "    if name in ('torch', 'torchvision') and found != version or found == 'nothing':\n"
        "        print(f'{pin} (found {found})')\n"
    )
    pins = [f"{name}=={version}" for name, version in wanted]
    try:
        done = subprocess.run([python, "-c", code, *pins], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SetupError(f"RANKFOLD_PYTHON names {python}, which does not run: {error}", "name a Python, or unset it")
    return done.stdout.splitlines()


def environment() -> Path:
    """The cached environment, made unless it is there."""
    version = sys.version_info[:2]
    if not SUPPORTED[0] <= version <= SUPPORTED[1]:
        raise SetupError(
            f"PyTorch 2.11 and its companions need Python 3.{SUPPORTED[0][1]} to 3.{SUPPORTED[1][1]}, "
            f"and {sys.executable} is {platform.python_version()}",
            "set RANKFOLD_PYTHON to a Python that has them",
        )
    key = hashlib.sha256(REQUIREMENTS.read_bytes() + repr((version, sys.base_prefix)).encode()).hexdigest()[:12]
    folder = cache_dir() / f"venv-{key}"

    def fill(tree: Path, kept: Path) -> None:
        try:
            pip = tuple(int(part) for part in metadata.version("pip").split(".")[:2])
        except metadata.PackageNotFoundError:
            pip = (0, 0)
        if pip < (22, 3):
            raise SetupError(
                f"pip 22.3 or newer is needed, and {sys.executable} has {'none' if pip == (0, 0) else pip}",
                "install it (Debian, Ubuntu: apt-get install python3-pip)",
            )
        say("making the Python environment for the interop tests and the peers (once, about 3 GB to fetch)")
        # Without pip of its own, it needs no ensurepip, which Debian packs separately.
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tree)], check=True)
        python = str(tree / "bin" / "python")
        command = [sys.executable, "-m", "pip", "--python", python, "install", "--disable-pip-version-check"]
        command += ["--only-binary=:all:", "--no-cache-dir", "--requirement", str(REQUIREMENTS)]
        if not sys.stderr.isatty():
            command += ["--quiet", "--progress-bar", "off"]
        status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode
        if status != 0:
            raise SetupError(
                f"pip could not fill the environment (exit status {status})",
                "look at its message above and run this again, or set RANKFOLD_PYTHON to a Python that has "
                f"what {REQUIREMENTS.name} lists",
            )
        (tree / "complete").touch()

    put_in_place(folder, (folder / "complete").is_file, fill)
    return folder / "bin" / "python"


def run() -> None:
    named = os.environ.get("RANKFOLD_PYTHON")
    if named:
        lacking = missing(named)
        if lacking:
            raise SetupError(
                f"RANKFOLD_PYTHON names {named}, which lacks {', '.join(lacking)}",
                f"install {REQUIREMENTS} there, or unset it to have an environment made",
            )
        print(named)
    else:
        print(environment())


if __name__ == "__main__":
    sys.exit(finish(run))
