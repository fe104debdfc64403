"""Runs the comparisons with the real PyTorch, ONNX Runtime and Chromium: every test_*.py of this folder.

RANKFOLD_BIN is the folder of the programs built from this checkout; RANKFOLD_INTEROP=full asks for the long set.
`make test-interop` and `make interop-full` set both. Arguments select tests, as `test_zoo.Zoo.test_resnet20`.
"""

import sys
import unittest
from pathlib import Path

import torch


def main() -> int:
    folder = Path(__file__).resolve().parent
    sys.path.insert(0, str(folder))
    # Eager PyTorch, on as many threads as Rankfold takes.
    torch.set_grad_enabled(False)
    loader = unittest.TestLoader()
    chosen = sys.argv[1:]
    suite = loader.loadTestsFromNames(chosen) if chosen else loader.discover(str(folder), "test_*.py")
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    return 0 if result.wasSuccessful() and result.testsRun > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
