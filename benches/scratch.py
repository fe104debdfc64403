"""Networks trained from scratch with several seeds: what lightlayers.py and alternatives.py share."""

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


def arguments(description, folder):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("binary")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="*", metavar="PATTERN")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("target") / folder)
    return parser


def run(command):
    done = subprocess.run(command, stdout=subprocess.DEVNULL)
    if done.returncode:
        sys.exit(f"ended with {done.returncode}: {' '.join(map(str, command))}")


def train(binary, network, options, seed, out, keep=False):
    """One training, every epoch measured on the test set, of which nothing chooses anything but "best"."""
    # What is chosen on is what is reported on; "last" is not chosen at all.
    run([binary, "train", network, *options, "--seed", str(seed), "--choose", "test", "--split", "train[:64]",
         "-o", str(out), "--force"])
    lines = (out / "metrics.jsonl").read_text().splitlines()[1:]
    epochs = [json.loads(line) for line in lines]
    marks = [epoch["mark"] for epoch in epochs]
    accuracies = [100 * mark["correct"] / mark["inputs"] for mark in marks]
    losses = [mark["loss"] for mark in marks]
    parameters = json.loads((out / "report.json").read_text())["after"]["parameters"]
    if not keep:
        shutil.rmtree(out)
    return {
        "best": accuracies[losses.index(min(losses))],
        "last": accuracies[-1],
        "accuracies": accuracies,
        "parameters": parameters,
        "epochs": len(epochs),
        "seconds": round(sum(epoch["seconds"] for epoch in epochs)),
    }


class Rows:
    """Results in a file, each stored as soon as it is there; what is there is not run again."""

    def __init__(self, path, only):
        self.path, self.only = path, only
        self.stored = json.loads(path.read_text()) if path.exists() else {"rows": {}}

    def get(self, name):
        return self.stored["rows"].get(name, {})

    def fill(self, name, key, measure):
        """The result `key` of the row `name`, measured unless it is there or not asked for."""
        row = self.get(name)
        if key in row or not fnmatch.fnmatch(name, self.only):
            return row.get(key)
        row[key] = measure()
        self.stored["rows"][name] = row
        self.stored["machine"] = f"{platform.machine()}, {os.cpu_count()} cores"
        self.stored["date"] = datetime.date.today().isoformat()
        self.path.write_text(json.dumps(self.stored, indent=1) + "\n")
        return row[key]


def spread(values):
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.2f} ± {deviation:.2f}"
