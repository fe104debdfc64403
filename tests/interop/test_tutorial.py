"""The tutorial as its readers run it: every block of docs/tutorial.md in order, in one empty folder.

Blocks of bash and Python run; those whose fence says more (`bash gpu`) need what is not everywhere, and are named
among the skipped tests.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from support import program

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELLS = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}


def blocks() -> list[tuple[str, str, str]]:
    """The language, the condition and the text of every block."""
    return BLOCK.findall((ROOT / "docs/tutorial.md").read_text())


class Tutorial(unittest.TestCase):
    def test_every_block_runs(self) -> None:
        programs = Path(program("rankfold")).parent
        path = os.pathsep.join([str(programs), os.environ["PATH"]])
        environment = os.environ | {"PATH": path, "CHECKOUT": str(ROOT)}
        unconditional = [(language, text) for language, condition, text in blocks() if not condition]
        self.assertGreater(len(unconditional), 10)
        with tempfile.TemporaryDirectory() as folder:
            for language, text in unconditional:
                begun = time.monotonic()
                done = subprocess.run(
                    [*SHELLS[language], text],
                    cwd=folder,
                    env=environment,
                    capture_output=True,
                    text=True,
                    stdin=subprocess.DEVNULL,
                )
                if os.environ.get("RANKFOLD_TUTORIAL_TIMES"):
                    print(f"{time.monotonic() - begun:6.1f} s  {text.splitlines()[-1]}", flush=True)
                # What follows needs what this one makes.
                self.assertEqual(done.returncode, 0, f"{text}\n{done.stdout}\n{done.stderr}")

    def test_blocks_for_a_gpu(self) -> None:
        conditional = [text for _, condition, text in blocks() if condition == "gpu"]
        self.assertTrue(conditional)
        self.skipTest(f"{len(conditional)} block of the tutorial needs a GPU and is not run")


if __name__ == "__main__":
    unittest.main()
