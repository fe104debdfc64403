"""A model of half a gigabyte read and written again, and compressed, against a copy of its file by `dd`.

Prints a row for each kind of file: seconds of both, by turns, from a cold file to a synced one; peak memory over the
size of the file; and, for .pt2 and ONNX, how long `compress` takes. Run by `make bench-peers`.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
import torchvision

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tests" / "interop"))
from support import program, randomize

ROUNDS = 5
MEMORY, SECONDS = 1.2, 45


def export(folder: Path) -> list:
    """VGG16 with seeded weights, as both kinds of exported model."""
    module = randomize(torchvision.models.vgg16(init_weights=False), 1)
    images = torch.zeros(2, 3, 224, 224)
    archive, model = folder / "vgg16.pt2", folder / "vgg16.onnx"
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        batch = torch.export.Dim("batch", min=1, max=64)
        torch.export.save(torch.export.export(module, (images,), dynamic_shapes=({0: batch},)), archive)
        torch.onnx.export(module, (images,), model, dynamo=False, opset_version=17)
    return [archive, model]


def cold(path: Path) -> None:
    """Takes a file out of the system's memory."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(command: list) -> tuple:
    """Seconds that a program takes, and the most memory that it has, in bytes."""
    begin, peak = time.perf_counter(), 0
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as child:
        while child.poll() is None:
            try:
                status = Path(f"/proc/{child.pid}/status").read_text()
            except OSError:
                break
            lines = [line for line in status.splitlines() if line.startswith("VmHWM:")]
            peak = max([peak, *(1024 * int(line.split()[1]) for line in lines)])
            time.sleep(0.002)
        _, errors = child.communicate()
    if child.returncode != 0:
        raise RuntimeError(f"{command} ended with {child.returncode}: {errors.decode()}")
    return time.perf_counter() - begin, peak


def main() -> None:
    met = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        print(f"read and written again, s: median of {ROUNDS} rounds by turns; load {os.getloadavg()[0]:.1f}")
        print(f"{'file':12} {'MB':>5} {'Rankfold':>9} {'dd':>6} {'ratio':>6}   memory")
        files = export(folder)
        for path in files:
            size = path.stat().st_size
            ours, disk, peaks = [], [], []
            for _ in range(ROUNDS):
                again, copy = folder / f"again{path.suffix}", folder / "copy"
                cold(path)
                seconds, peak = measure([program("interop-reexport"), path, again, "same"])
                ours.append(seconds)
                peaks.append(peak / size)
                again.unlink()
                cold(path)
                disk.append(measure(["dd", f"if={path}", f"of={copy}", "bs=4M", "conv=fsync", "status=none"])[0])
                copy.unlink()
            ours, disk = statistics.median(ours), statistics.median(disk)
            ratio = f"{ours:9.2f} {disk:6.2f} {ours / disk:6.2f}"
            print(f"{path.name:12} {size / 1e6:5.0f} {ratio}   {max(peaks):.2f} x", flush=True)
            met.append(max(peaks) <= MEMORY)
        print(f"\ncompress --params-removed 50%, without data; load {os.getloadavg()[0]:.1f}")
        for path in files:
            out = folder / f"smaller{path.suffix}"
            command = [program("rankfold"), "compress", path, "--params-removed", "50%", "--output", out]
            seconds, peak = measure(command)
            print(f"{path.name:12} {seconds:6.1f} s   {peak / 1e6:5.0f} MB", flush=True)
            met.append(seconds <= SECONDS)
    print(f"{sum(met)} of {len(met)}: memory at most {MEMORY} times the file, compression within {SECONDS} s")


if __name__ == "__main__":
    main()
