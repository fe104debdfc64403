"""ResNet-20 on CIFAR-10: how ranks are chosen, and what that is worth.

    python3 benches/selection.py RANKFOLD [--folder FOLDER] [--train "OPTIONS"]

needs RANKFOLD_DATA and RANKFOLD_PRETRAINED. First two sweeps on the training part, by both protocols, are
made in FOLDER (target/select); then the network is compressed at every budget by every selection, and
measured on the whole test set, of which nothing was used to choose. --train adds a column: the same models
trained as `compress` trains them with those options, as --train "--distill 600". The numbers are written to
benches/results/selection.json with machine and date. What is there already is not measured again.
"""

import argparse
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import time

from stored import Stored

RESULTS = pathlib.Path(__file__).parent / "results" / "selection.json"
BUDGETS = ["75%", "65%", "50%"]
SWEEPS = {
    "curves": [],
    # Each layer alone at rank 10, untrained.
    "paper": ["--protocol", "paper", "--probe-rank", "10", "--epochs", "0"],
}
SELECTIONS = {
    "response error": ["--select", "response"],
    "curves, by divergence": ["--select", "curves", "--sweep", "{curves}"],
    "the paper's sensitivity": ["--select", "sensitivity", "--sweep", "{paper}"],
    "the paper's sensitivity, conv1 and linear kept": [
        *["--select", "sensitivity", "--sweep", "{paper}"],
        *["--skip", "conv1,linear"],
    ],
    "proportional to parameters": ["--select", "proportional"],
    "greedy, by divergence": ["--select", "greedy", "--sweep", "{curves}"],
    "damage at the output (auto)": ["--select", "auto"],
    "curves, by accuracy": ["--select", "curves", "--sweep", "{curves}", "--by", "accuracy"],
    "greedy, by accuracy": ["--select", "greedy", "--sweep", "{curves}", "--by", "accuracy"],
    "uniform": ["--select", "uniform"],
}


def model():
    pretrained = os.environ["RANKFOLD_PRETRAINED"]
    return [f"{pretrained}/resnet20-12fca82f.th", "--arch", "resnet20"]


def data():
    return ["--data", f"cifar10:{os.environ['RANKFOLD_DATA']}"]


def run(command):
    """The seconds that a command took and what it said; ends the program where it is interrupted."""
    start = time.time()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode < 0 or done.returncode == 130:
        sys.exit(f"interrupted: {shlex.join(command)}")
    return round(time.time() - start, 1), done


def sweep(binary, name, folder):
    """Makes a sweep or goes on with it; the numbers of its cells."""
    path = folder / name
    begun = path.exists()
    seconds, done = run([binary, "sweep", *model(), *data(), *SWEEPS[name], "-o", str(path)])
    if done.returncode:
        sys.exit(done.stderr)
    cells = [json.loads(line) for line in (path / "cells.jsonl").read_text().splitlines()]
    return {
        "options": SWEEPS[name],
        "cells": len(cells),
        "seconds": None if begun else seconds,
        "seconds_of_cells": round(sum(cell["seconds"] for cell in cells), 1),
        "baseline": json.loads((path / "sweep.json").read_text())["baseline"],
    }


def compress(binary, budget, options, training):
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/out"
        command = [binary, "compress", *model(), *data(), "--params-removed", budget, *options]
        seconds, done = run([*command, *training, "-o", out])
        if done.returncode:
            return {"options": options, "error": done.stderr.strip(), "seconds": seconds}
        report = json.loads(pathlib.Path(out, "report.json").read_text())
    before, after = report["before"], report["after"]
    share = lambda key: round(100 * (1 - after[key] / before[key]), 2)
    return {
        "options": options,
        "training": training,
        "parameters_removed": share("parameters"),
        "macs_removed": share("macs"),
        "top1_before": before["top1"],
        "top1": after["top1"],
        "top1_se": after["top1_se"],
        "adjustments": report["adjustments"],
        "ranks": {layer["name"]: [layer["form"], layer["rank"]] for layer in report["layers"]},
        "seconds": seconds,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("target/select"))
    parser.add_argument("--train", default="", metavar="OPTIONS")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    stored = Stored(RESULTS)
    sweeps = stored.all.setdefault("sweeps", {})
    for name in SWEEPS:
        if name not in sweeps:
            sweeps[name] = sweep(arguments.binary, name, arguments.folder)
            stored.keep()
    paths = {name: str(arguments.folder / name) for name in SWEEPS}
    training = shlex.split(arguments.train)
    for label, options in SELECTIONS.items():
        for budget in BUDGETS:
            key = ", ".join([label, budget, *([shlex.join(training)] if training else [])])
            if key in stored.rows:
                continue
            chosen = [option.format(**paths) for option in options]
            row = compress(arguments.binary, budget, chosen, training) | {"options": options}
            stored.rows[key] = row
            print(f"{key:50} {row.get('top1', row.get('error'))}  {row['seconds']} s", flush=True)
            stored.keep()


main()
