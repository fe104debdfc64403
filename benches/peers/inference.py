"""Rankfold's forward pass and eager PyTorch's, by turns on the same weights, inputs, threads and layout.

Prints a row for each network, batch size and layout: medians, quartiles and the ratio of the medians.
Run by `make bench-peers`; arguments select networks.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torchvision
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tests" / "interop"))
import networks
from support import program, randomize

ROUNDS = 21
# A measurement lasts at least this long; quick networks run several times in it.
SECONDS = 0.25
TARGET = 1.03
WORK = {
    "resnet20": (lambda: networks.CifarResNet(3), (3, 32, 32), (1, 128)),
    "resnet18": (lambda: torchvision.models.resnet18(), (3, 224, 224), (1, 8)),
    "mobilenet_v2": (lambda: torchvision.models.mobilenet_v2(), (3, 224, 224), (1, 8)),
    "vgg16": (lambda: torchvision.models.vgg16(init_weights=False), (3, 224, 224), (1, 8)),
}


def eager(module: torch.nn.Module, inputs: torch.Tensor, runs: int) -> float:
    begin = time.perf_counter()
    for _ in range(runs):
        module(inputs)
    return (time.perf_counter() - begin) / runs


def measure(name: str, module: torch.nn.Module, inputs: torch.Tensor, layout: str) -> tuple:
    """Seconds of a run, Rankfold's and PyTorch's, one entry a round."""
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        weights, given = Path(folder) / "weights.safetensors", Path(folder) / "inputs.safetensors"
        save_file(module.state_dict(), weights)
        save_file({"input": inputs.contiguous()}, given)
        command = [program("inference-peer"), name, str(weights), str(given), layout, str(threads)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:

            def rankfold(runs: int) -> float:
                peer.stdin.write(f"{runs}\n")
                peer.stdin.flush()
                return float(peer.stdout.readline())

            if layout == "nhwc":
                module, inputs = (x.to(memory_format=torch.channels_last) for x in (module, inputs))
            rankfold(3), eager(module, inputs, 3)
            runs = max(1, round(SECONDS / eager(module, inputs, 1)))
            ours, theirs = [], []
            for turn in range(ROUNDS):
                if turn % 2:
                    theirs.append(eager(module, inputs, runs))
                ours.append(rankfold(runs))
                if not turn % 2:
                    theirs.append(eager(module, inputs, runs))
            peer.stdin.close()
    return ours, theirs


def row(name: str, batch: int, layout: str, ours: list, theirs: list) -> bool:
    ratio = statistics.median(ours) / statistics.median(theirs)
    cells = []
    for times in (ours, theirs):
        low, middle, high = statistics.quantiles([1000 * time for time in times], n=4)
        cells.append(f"{middle:9.2f} [{low:.2f}, {high:.2f}]")
    print(f"{name:14} {batch:5}  {layout:6} {cells[0]:30} {cells[1]:30} {ratio:6.3f}", flush=True)
    return ratio <= TARGET


def main() -> None:
    torch.set_grad_enabled(False)
    chosen = [name for name in sys.argv[1:] if not name.startswith("-")] or list(WORK)
    print(f"forward pass, ms: median [quartiles] of {ROUNDS} rounds by turns, {torch.get_num_threads()} threads")
    print(f"{'network':14} {'batch':>5}  {'layout':6} {'Rankfold':30} {f'PyTorch {torch.__version__} eager':30}  ratio")
    met = []
    for name in chosen:
        make, shape, batches = WORK[name]
        module = randomize(make(), seed=1)
        for batch in batches:
            inputs = torch.randn((batch, *shape), generator=torch.Generator().manual_seed(2))
            for layout in ("nchw", "nhwc"):
                met.append(row(name, batch, layout, *measure(name, module, inputs, layout)))
                module = module.to(memory_format=torch.contiguous_format)
    print(f"{sum(met)} of {len(met)} ratios are at most {TARGET}")


if __name__ == "__main__":
    main()
