"""The two pruning experiments of Çallı (2017) whose smallest network is known.

    python3 benches/prune.py RANKFOLD [--only PATTERN] [--seeds N] [--folder FOLDER]

needs RANKFOLD_DATA. `sum`: 1000 hidden nodes learn to add two numbers, of which one node is enough.
`autoencoder`: MNIST through 1-32-64-32-1 channels, at most 1-4-8-6-1 of which should be enough. Beside each
stands the whole network, trained for as many epochs as all cycles together; then both are trained once
more without a penalty. Every result goes to benches/results/prune.json as soon as it is there; what is
there is not run again, and a run that was stopped goes on from its last checkpoint in FOLDER
(target/prune).
"""

import argparse
import fnmatch
import json
import os
import pathlib
import random
import shutil
import struct
from array import array

from stored import Stored, run

RESULTS = pathlib.Path(__file__).parent / "results" / "prune.json"
SAMPLES = 1_000_000
TRAINING = ["--loss", "rmse", "--optimizer", "sgd", "--momentum", "0.9", "--warm-up", "0"]
# Prunings of one network, one after the other: fast at first, then with care.
STEPS = {
    "sum": [
        "--nodes activation-count --rule thesis --distort 2 --cycles 100 --patience 10 --tolerance 0.02"
        " --rate 0.01 --batch 1000 --epochs 1",
    ],
    "autoencoder": [
        "--nodes activation-variance --deviations 1 --cycles 8 --l2 0.01 --rate 0.01 --batch 128 --epochs 1",
        "--nodes activation-variance --deviations 1.4 --rate 0.02 --batch 128 --epochs 1",
        "--nodes activation-variance --deviations 1.2 --tolerance 0.02 --rate 0.02 --batch 128 --epochs 1",
    ],
}
WHOLE = {
    "sum": "--rate 0.01 --batch 1000",
    "autoencoder": "--l2 0.01 --rate 0.01 --batch 128",
}
LAST = {
    "sum": "--rate 0.01 --batch 1000 --epochs 2",
    "autoencoder": "--rate 0.02 --batch 128 --epochs 6",
}


def write_sums(path):
    """A million pairs of numbers and their sums, as a safetensors file."""
    draw = random.Random(0)
    pairs = array("f", (draw.gauss(1, 0.3) for _ in range(2 * SAMPLES)))
    sums = array("f", (pairs[2 * i] + pairs[2 * i + 1] for i in range(SAMPLES)))
    header = {
        "input": {"dtype": "F32", "shape": [SAMPLES, 2, 1, 1], "data_offsets": [0, 8 * SAMPLES]},
        "targets": {"dtype": "F32", "shape": [SAMPLES, 1], "data_offsets": [8 * SAMPLES, 12 * SAMPLES]},
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + pairs.tobytes() + sums.tobytes())


def report(out):
    return json.loads((out / "report.json").read_text())


def pruned(arguments, name, data, seed, out):
    """What all steps come to; the last network is in `out`."""
    model, reports, epochs = f"zoo:calli-{name}", [], 0
    for step, options in enumerate(STEPS[name]):
        folder = out if step + 1 == len(STEPS[name]) else out.with_name(f"{out.name}-{step}")
        options = [*options.split(), *TRAINING, "--no-teacher", "--seed", str(seed)]
        run([arguments.binary, "prune", model, *options, "--data", data, "-o", folder])
        reports.append(report(folder))
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        epochs += sum(1 for line in lines if json.loads(line)["epoch"] > 0)
        if step:
            shutil.rmtree(model)
        model = folder
    nodes = [each["adjustments"]["nodes"] for each in reports]
    pairs = zip(nodes[0]["layers"], nodes[-1]["layers"])
    return {
        "options": STEPS[name],
        "channels": {first["name"]: [first["channels"][0], last["channels"][1]] for first, last in pairs},
        "parameters": [reports[0]["before"]["parameters"], reports[-1]["after"]["parameters"]],
        "left": [cycle["left"] for each in nodes for cycle in each["cycles"]],
        "epochs": epochs,
    }


def trained(arguments, name, data, seed, epochs, out):
    """The whole network after as many epochs, by the same recipe."""
    options = [f"calli-{name}", *WHOLE[name].split(), *TRAINING, "--epochs", str(epochs), "--seed", str(seed)]
    run([arguments.binary, "train", *options, "--data", data, "-o", out])


def finished(arguments, name, data, seed, folder, out):
    """The error of a network on the test set after its last training."""
    options = [*LAST[name].split(), *TRAINING, "--seed", str(seed)]
    run([arguments.binary, "finetune", folder, *options, "--data", data, "-o", out])
    return report(out)["after"]["rmse"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary")
    parser.add_argument("--only", default="*", metavar="PATTERN")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("target/prune"))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    sums = arguments.folder / "sums.safetensors"
    if not sums.exists():
        write_sums(sums)
    data = {"sum": f"tensors:{sums}", "autoencoder": f"mnist:{os.environ['RANKFOLD_DATA']}"}
    stored = Stored(RESULTS)
    for name in STEPS:
        for seed in range(arguments.seeds):
            key = f"{name}, seed {seed}"
            if key in stored.rows or not fnmatch.fnmatch(key, arguments.only):
                continue
            folders = [arguments.folder / f"{name}-{seed}-{part}" for part in ("pruned", "whole", "last")]
            row = pruned(arguments, name, data[name], seed, folders[0])
            trained(arguments, name, data[name], seed, row["epochs"], folders[1])
            for key_of, folder in zip(("rmse", "unpruned_rmse"), folders):
                row[key_of] = finished(arguments, name, data[name], seed, folder, folders[2])
                shutil.rmtree(folders[2])
            for folder in folders[:2]:
                shutil.rmtree(folder)
            stored.rows[key] = row
            stored.keep()
            widths = "-".join(str(after) for _, after in row["channels"].values())
            print(f"{key}: {widths}, RMSE {row['rmse']:.4f}, unpruned {row['unpruned_rmse']:.4f}", flush=True)


main()
