"""What the interop tests share: the built programs, seeded weights, how far two outputs are apart."""

import os
import subprocess
from pathlib import Path

import torch

FULL = os.environ.get("RANKFOLD_INTEROP") == "full"


def program(name: str) -> str:
    """The path of a program of this checkout."""
    folder = os.environ.get("RANKFOLD_BIN")
    if not folder:
        raise RuntimeError("RANKFOLD_BIN is not set: run this by `make test-interop`")
    path = Path(folder) / name
    if not path.is_file():
        raise RuntimeError(f"{path} is not built")
    return str(path)


def call(name: str, *arguments) -> str:
    """The standard output of a program that must succeed."""
    done = subprocess.run([program(name), *map(str, arguments)], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise AssertionError(f"{name} {' '.join(map(str, arguments))} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def randomize(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Draws every parameter and every running statistic anew, so that none has a value that hides a mistake.

    Weights keep the variance of what they pass on; scales lie in 0.5 to 1.5.
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        norm = isinstance(layer, torch.nn.modules.batchnorm._BatchNorm)
        for name, tensor in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
            if not tensor.is_floating_point():
                tensor.fill_(7)
            elif norm and name in ("weight", "running_var"):
                tensor.data.uniform_(0.5, 1.5, generator=generator)
            elif tensor.dim() > 1:
                tensor.data.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
            else:
                tensor.data.normal_(0, 0.1, generator=generator)
    return module.eval()


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference over the largest expected magnitude; infinite where anything is not finite."""
    if found.shape != expected.shape or not (found.isfinite().all() and expected.isfinite().all()):
        return float("inf")
    return ((found.double() - expected.double()).abs().max() / expected.double().abs().max()).item()
