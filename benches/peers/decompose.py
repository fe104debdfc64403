"""Rankfold's decompositions against PyTorch, TensorLy and scikit-learn, on the same arrays.

Usage: decompose.py [--quick] [--rounds N] [--output FILE]

RANKFOLD_BIN is the folder of the release binaries (decompose-peer among them), RANKFOLD_PRETRAINED,
where set, that of the checkpoints. Every comparison runs both sides in turn, several times, and takes
the median of each; Rankfold's random choices take another seed each time. Rankfold's error is its
certificate, a peer's is measured on its reconstruction. Beside the elapsed seconds stand those of the
processor (for Rankfold with the loading of the array), which say more on a machine that is not idle.
"""

import argparse
import datetime
import json
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import sklearn
import tensorly
import torch
from sklearn.utils.extmath import randomized_svd
from tensorly.decomposition import parafac, parafac_power_iteration

ROOT = Path(__file__).resolve().parents[2]
KERNELS = [(512, 512, 110), (384, 256, 153), (256, 256, 65)]
TRAINED = [("layer2.1.conv2.weight", 32), ("layer3.2.conv2.weight", 64), ("layer3.2.conv2.weight", 128)]
MATRICES = [(25088, 4096, 162), (4096, 4096, 145)]


def synthetic_kernel(outputs, inputs, taps=9, terms=300, noise=0.3, seed=0):
    """Gaussian triples weighted r^-1/2, unit norm, plus 0.3 of unit-norm Gaussian noise."""
    generator = np.random.default_rng(seed)
    a, b, c = (generator.standard_normal((n, terms)) for n in (outputs, inputs, taps))
    a = a * np.arange(1, terms + 1) ** -0.5
    signal = np.stack([(a * c[k]) @ b.T for k in range(taps)], axis=2)
    rest = generator.standard_normal(signal.shape)
    kernel = signal / np.linalg.norm(signal) + noise * rest / np.linalg.norm(rest)
    return kernel.astype(np.float32)


def synthetic_matrix(rows, columns, seed=0):
    """(Gaussian, column j scaled by j^-0.6) x Gaussian / sqrt(n)."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(rows, columns, generator=generator)
    left *= torch.arange(1, columns + 1) ** -0.6
    return left @ (torch.randn(columns, columns, generator=generator) / columns**0.5)


def rankfold(algorithm, file, **settings):
    binary = Path(os.environ["RANKFOLD_BIN"]) / "decompose-peer"
    command = [str(binary), algorithm, *([str(file)] if file else [])]
    command += [f"{key}={value}" for key, value in settings.items()]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found["processor_seconds"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return found


def kernel_error(kernel, decomposition):
    weights, (a, b, c) = decomposition
    a = a if weights is None else a * weights
    missed = sum(float((kernel[:, :, k] - (a * c[k]) @ b.T).double().square().sum()) for k in range(kernel.shape[2]))
    return (missed / float(kernel.double().square().sum())) ** 0.5


def matrix_error(matrix, u, s, vt):
    return float(torch.linalg.norm(matrix - (u * s) @ vt) / torch.linalg.norm(matrix))


def timed(work):
    begin, busy = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - begin, time.process_time() - busy, result


class Table:
    def __init__(self):
        self.rows = []
        print(
            f"{'work':57} {'peer':39} {'peer s':>8} {'ours s':>8} {'ratio':>7} {'cpu ratio':>9} "
            f"{'peer err':>9} {'our err':>9}  target"
        )

    def compare(self, work, peer, run_peer, measure, run_ours, target_ratio, error_limit, rounds):
        """One row: `error_limit` turns the peer's error into the largest that ours may be. A row without
        a target is there to be read."""
        peers, ours = [], []
        for seed in range(rounds):
            mine = run_ours(seed)
            ours.append((mine["seconds"], mine["processor_seconds"], mine["error"]))
            seconds, busy, result = timed(run_peer)
            peers.append((seconds, busy, measure(result)))
        median = lambda runs, i: statistics.median(run[i] for run in runs)
        ratio, busy_ratio = (median(ours, i) / median(peers, i) for i in (0, 1))
        peer_error, our_error = median(peers, 2), median(ours, 2)
        met = None
        if target_ratio is not None:
            met = bool(ratio <= target_ratio and our_error <= error_limit(peer_error))
        verdict = "" if met is None else f"<= {target_ratio:g}: {'met' if met else 'MISSED'}"
        fields = ("seconds", "processor_seconds", "error")
        self.rows.append({
            "work": work, "peer": peer, "ratio": ratio, "processor_ratio": busy_ratio,
            "target_ratio": target_ratio, "met": met,
            "rankfold_runs": [dict(zip(fields, run)) for run in ours],
            "peer_runs": [dict(zip(fields, run)) for run in peers],
        })
        print(
            f"{work:57} {peer:39} {median(peers, 0):8.3f} {median(ours, 0):8.3f} {ratio:7.3f} {busy_ratio:9.3f} "
            f"{peer_error:9.5f} {our_error:9.5f}  {verdict}",
            flush=True,
        )


def compare_kernel(table, name, array, rank, folder, rounds, trained):
    kernel = torch.from_numpy(array)
    side = int(round(array.shape[2] ** 0.5))
    file = folder / "kernel.npy"
    np.save(file, array.reshape(*array.shape[:2], side, side))
    work = f"CP {name}, R {rank}"
    same = lambda error: error
    # Trained kernels go on improving long after the peer has stopped: few sweeps, then all of them.
    for label, target, limit in (
        [(", 30 sweeps", None, {"sweeps": 30}), (", converged", None, {})] if trained else [("", 0.1, {})]
    ):
        table.compare(
            f"{work}: ridge ALS{label}", "TensorLy parafac, SVD init, <=100",
            lambda: parafac(kernel, rank, n_iter_max=100, init="svd", random_state=0),
            lambda found: kernel_error(kernel, found),
            lambda seed: rankfold("cp-als", file, rank=rank, seed=seed, **limit), target, same, rounds,
        )
    if trained:
        return
    # n_iteration passes for every start and as many again to refine the best: 20 for one start.
    run_peer = lambda: parafac_power_iteration(kernel, rank, n_repeat=1, n_iteration=10)
    for mode in ("joint", "faithful"):
        table.compare(
            f"{work}: power, {mode}", "TensorLy power iteration, 1 x (10+10)", run_peer,
            lambda found: kernel_error(kernel, found),
            lambda seed: rankfold("cp-power", file, rank=rank, passes=20, restarts=1, mode=mode, seed=seed), 0.2, same, rounds,
        )


def compare_matrix(table, rows, columns, rank, folder, rounds):
    matrix = synthetic_matrix(rows, columns)
    file = folder / "matrix.npy"
    np.save(file, matrix.numpy())
    work = f"SVD {rows}x{columns}, r {rank}"
    ours = lambda seed: rankfold("svd", file, rank=rank)
    array = matrix.numpy()

    def truncated(found):
        u, s, vt = found
        return matrix_error(matrix, u[:, :rank], s[:rank], vt[:rank])

    table.compare(
        work, "exact (LAPACK through PyTorch)", lambda: torch.linalg.svd(matrix, full_matrices=False),
        truncated, ours, 0.1, lambda optimum: 1.001 * optimum, 1,
    )
    table.compare(
        work, "torch.svd_lowrank, niter 2", lambda: torch.svd_lowrank(matrix, q=rank, niter=2),
        lambda found: matrix_error(matrix, found[0], found[1], found[2].T),
        ours, 1.5, lambda error: np.nextafter(error, 0), rounds,
    )
    table.compare(
        work, "scikit-learn randomized_svd", lambda: randomized_svd(array, rank, random_state=0),
        lambda found: matrix_error(matrix, *(torch.from_numpy(np.ascontiguousarray(x)) for x in found)),
        ours, None, lambda error: error, 1,
    )


def trained_kernels():
    folder = os.environ.get("RANKFOLD_PRETRAINED")
    if not folder:
        print("RANKFOLD_PRETRAINED is not set: trained kernels are left out", file=sys.stderr)
        return
    file = next(Path(folder).glob("resnet20-*.th"))
    state = torch.load(file, map_location="cpu", weights_only=False)["state_dict"]
    for name, rank in TRAINED:
        kernel = state[f"module.{name}"].float().numpy()
        yield f"ResNet-20 {name.removesuffix('.weight')}", kernel.reshape(*kernel.shape[:2], -1).copy(), rank


def machine():
    model = next(
        (line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")),
        platform.processor(),
    )
    return {"processor": model, "cores": os.cpu_count(), "system": platform.system(), "load": os.getloadavg()[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="leave out the matrices")
    parser.add_argument("--rounds", type=int, default=3, help="how often every side runs")
    parser.add_argument("--output", type=Path, default=ROOT / "benches/results/decompose.json")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="Trying to compute SVD")
    tensorly.set_backend("pytorch")
    np.random.seed(0)
    rounds = options.rounds
    table = Table()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for outputs, inputs, rank in KERNELS:
            name = f"{outputs}x{inputs}x9"
            compare_kernel(table, name, synthetic_kernel(outputs, inputs), rank, folder, rounds, False)
        for name, kernel, rank in trained_kernels():
            compare_kernel(table, name, kernel, rank, folder, rounds, True)
        if not options.quick:
            for rows, columns, rank in MATRICES:
                compare_matrix(table, rows, columns, rank, folder, rounds)
    vgg = rankfold("vgg16", None)
    in_time, in_memory = vgg["seconds"] <= 15, (vgg["peak_bytes"] or 0) <= vgg["allowed_bytes"]
    print(
        f"VGG16, all layers at the paper's ranks: {vgg['seconds']:.2f} s (<= 15: {'met' if in_time else 'MISSED'}), "
        f"peak {(vgg['peak_bytes'] or 0) / 2**20:.0f} MiB (<= {vgg['allowed_bytes'] / 2**20:.0f}: {'met' if in_memory else 'MISSED'})"
    )
    record = {
        "command": shlex.join(["make", "bench-peers"]),
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "versions": {
            "torch": torch.__version__, "tensorly": tensorly.__version__, "scikit-learn": sklearn.__version__,
            "torch threads": torch.get_num_threads(), "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY"),
        },
        "rows": table.rows,
        "vgg16": vgg,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
