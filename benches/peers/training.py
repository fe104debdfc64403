"""Training steps of ResNet-20 on CIFAR-10 by turns: Rankfold, eager PyTorch, and a compressed network.

Batches of 128 images with flip and crop, channels-last, stochastic gradient descent with momentum and
weight decay, two of Rankfold's processes and PyTorch in this one. Prints the median time of a step and
the ratios. Run by `make bench-peers`; needs RANKFOLD_DATA and RANKFOLD_PRETRAINED.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tests" / "interop"))
import networks
from support import program

ROUNDS = 11
STEPS = 8
BATCH = 128
TARGET = 1.03
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class Eager:
    """PyTorch's training loop, its batches made by whole-tensor operations in the same thread."""

    def __init__(self, weights: dict, data: Path, dtype: str) -> None:
        self.dtype = dtype
        self.module = networks.CifarResNet(3)
        self.module.load_state_dict(weights)
        self.module.train().to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.module.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
        raw = [numpy.fromfile(data / f"data_batch_{i}.bin", numpy.uint8).reshape(-1, 3073) for i in range(1, 6)]
        raw = torch.from_numpy(numpy.concatenate(raw))
        self.labels = raw[:, 0].long()
        images = raw[:, 1:].reshape(-1, 3, 32, 32)
        self.images = torch.nn.functional.pad(images, (4, 4, 4, 4))
        self.mean = torch.tensor(MEAN).view(1, 3, 1, 1) * 255
        self.std = torch.tensor(STD).view(1, 3, 1, 1) * 255
        self.rng = torch.Generator().manual_seed(0)

    def batch(self) -> tuple:
        chosen = torch.randint(len(self.labels), (BATCH,), generator=self.rng)
        top, left = torch.randint(9, (2, BATCH, 1), generator=self.rng)
        across = torch.arange(32).expand(BATCH, 32)
        flip = torch.rand(BATCH, 1, generator=self.rng) < 0.5
        columns = torch.where(flip, 31 - across, across) + left
        rows = across + top
        items = torch.arange(BATCH).view(-1, 1, 1)
        cut = self.images[chosen].permute(0, 2, 3, 1)[items, rows[:, :, None], columns[:, None, :]]
        return (cut.permute(0, 3, 1, 2).float() - self.mean) / self.std, self.labels[chosen]

    def __call__(self, steps: int) -> float:
        begin = time.perf_counter()
        for _ in range(steps):
            inputs, labels = self.batch()
            self.optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == "bf16"):
                loss = torch.nn.functional.cross_entropy(self.module(inputs), labels)
            loss.backward()
            self.optimizer.step()
            loss.item()
        return (time.perf_counter() - begin) / steps


class Rankfold:
    """The same in a process of Rankfold's."""

    def __init__(self, model: Path, data: Path, dtype: str) -> None:
        command = [program("training-peer"), str(model), str(data), dtype, str(torch.get_num_threads())]
        self.peer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, steps: int) -> float:
        self.peer.stdin.write(f"{steps}\n")
        self.peer.stdin.flush()
        return float(self.peer.stdout.readline())

    def close(self) -> None:
        self.peer.stdin.close()
        self.peer.wait()


def compressed(checkpoint: Path, data: Path, folder: Path) -> Path:
    """The network with three quarters of its parameters removed."""
    out = folder / "small"
    command = [program("rankfold"), "compress", checkpoint, "--arch", "resnet20", "--params-removed", "75%"]
    subprocess.run([*command, "--data", f"cifar10:{data}", "-o", out], check=True, capture_output=True)
    return out / "model.safetensors"


def measure(dtype: str, weights: dict, data: Path, models: dict) -> None:
    peers = {"PyTorch eager": Eager(weights, data, dtype)}
    peers |= {name: Rankfold(model, data, dtype) for name, model in models.items()}
    times = {name: [] for name in peers}
    for peer in peers.values():
        peer(3)
    for turn in range(ROUNDS):
        names = list(peers) if turn % 2 else list(peers)[::-1]
        for name in names:
            times[name].append(peers[name](STEPS))
    for name, peer in peers.items():
        if name != "PyTorch eager":
            peer.close()
    medians = {name: statistics.median(each) for name, each in times.items()}
    for name, each in times.items():
        low, middle, high = statistics.quantiles([1000 * time for time in each], n=4)
        print(f"{dtype:5} {name:24} {middle:8.1f} [{low:.1f}, {high:.1f}] ms  {BATCH * 1000 / middle:6.0f} images/s")
    ratio = medians["Rankfold"] / medians["PyTorch eager"]
    print(f"{dtype:5} Rankfold / PyTorch eager {ratio:.3f} (at most {TARGET})")
    ratio = medians["Rankfold, compressed"] / medians["Rankfold"]
    print(f"{dtype:5} compressed / dense {ratio:.3f} (at most 1)", flush=True)


def main() -> None:
    if not {"RANKFOLD_DATA", "RANKFOLD_PRETRAINED"} <= os.environ.keys():
        print("training: skipped, needs RANKFOLD_DATA and RANKFOLD_PRETRAINED")
        return
    data = Path(os.environ["RANKFOLD_DATA"]) / "cifar-10-batches-bin"
    checkpoint = Path(os.environ["RANKFOLD_PRETRAINED"]) / "resnet20-12fca82f.th"
    stored = torch.load(checkpoint, map_location="cpu", weights_only=False)["state_dict"]
    weights = {name.removeprefix("module."): tensor for name, tensor in stored.items()}
    print(f"a training step of {BATCH} images, medians of {ROUNDS} rounds by turns, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder:
        dense = Path(folder) / "dense.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, dense)
        models = {"Rankfold": dense, "Rankfold, compressed": compressed(checkpoint, data, Path(folder))}
        for dtype in ("f32", "bf16"):
            measure(dtype, weights, data, models)


if __name__ == "__main__":
    main()
