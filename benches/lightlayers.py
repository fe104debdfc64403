"""LightLayers (Jha et al. 2020): Tables 1 and 3 with the authors' settings, best and last epoch.

    python3 benches/lightlayers.py RANKFOLD [--data mnist|cifar10] [--seeds 3] [--only PATTERN] [--folder FOLDER]

needs RANKFOLD_DATA. The authors keep the epoch with the smallest loss on the test set, so that their
accuracies are chosen on what they are reported on; "best" here is chosen in the same way, "last" is not
chosen at all. Each result goes to benches/results/lightlayers.json as soon as it is there; what is there is
not run again, and a run that was stopped goes on from its last checkpoint in FOLDER (target/lightlayers).
"""

import argparse
import datetime
import fnmatch
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys

RESULTS = pathlib.Path(__file__).parent / "results" / "lightlayers.json"
# What the paper prints, as shares.
PRINTED = {
    "mnist": {"conv2d": 0.9887, "separable": 0.9338, 1: 0.9418, 2: 0.9749, 3: 0.9775, 4: 0.9720},
    "cifar10": {
        "conv2d": 0.6882, "separable": 0.5953, 1: 0.3686, 2: 0.4596, 3: 0.4937, 4: 0.5319, 5: 0.5576,
    },
}


def train(binary, data, layers, seed, out):
    """One training; the accuracy of every epoch and its loss on the test set."""
    name = f"lightlayers-{data}" + (f"-{layers}" if isinstance(layers, str) else "")
    width = [] if isinstance(layers, str) else ["--k", str(layers)]
    command = [
        binary, "train", name, *width, "--data", f"{data}:{os.environ['RANKFOLD_DATA']}",
        "--recipe", "lightlayers", "--batch", "64", "--augment", "none", "--precision", "f32", "--seed", str(seed),
        # Everything is learnt from, and what is reported comes from the marks on the test set.
        "--choose", "test", "--split", "train[:64]", "-o", str(out),
    ]
    done = subprocess.run(command, stdout=subprocess.DEVNULL)
    if done.returncode:
        sys.exit(f"ended with {done.returncode}: {' '.join(command)}")
    lines = (out / "metrics.jsonl").read_text().splitlines()[1:]
    epochs = [json.loads(line) for line in lines]
    marks = [epoch["mark"] for epoch in epochs]
    accuracies = [100 * mark["correct"] / mark["inputs"] for mark in marks]
    losses = [mark["loss"] for mark in marks]
    shutil.rmtree(out)
    return {
        "best": accuracies[losses.index(min(losses))],
        "last": accuracies[-1],
        "epochs": len(epochs),
        "seconds": round(sum(epoch["seconds"] for epoch in epochs)),
    }


def spread(values):
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.2f} ± {deviation:.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary")
    parser.add_argument("--data", choices=sorted(PRINTED), action="append")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="*", metavar="PATTERN")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("target/lightlayers"))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"rows": {}}
    for data in arguments.data or sorted(PRINTED):
        for layers in PRINTED[data]:
            for seed in range(arguments.seeds):
                name = f"{data} {layers if isinstance(layers, str) else f'k={layers}'}"
                row = stored["rows"].setdefault(name, {})
                if str(seed) in row or not fnmatch.fnmatch(name, arguments.only):
                    continue
                out = arguments.folder / f"{name.replace(' ', '-')}-{seed}"
                row[str(seed)] = train(arguments.binary, data, layers, seed, out)
                stored["machine"] = f"{platform.machine()}, {os.cpu_count()} cores"
                stored["date"] = datetime.date.today().isoformat()
                RESULTS.write_text(json.dumps(stored, indent=1) + "\n")
    print("| network | seeds | best epoch | last epoch | the paper |\n|---|---|---|---|---|")
    for data, rows in PRINTED.items():
        for layers, printed in rows.items():
            name = f"{data} {layers if isinstance(layers, str) else f'k={layers}'}"
            runs = list(stored["rows"].get(name, {}).values())
            if runs:
                best, last = ([run[key] for run in runs] for key in ("best", "last"))
                print(f"| {name} | {len(runs)} | {spread(best)} | {spread(last)} | {100 * printed:.2f} |")


if __name__ == "__main__":
    main()
