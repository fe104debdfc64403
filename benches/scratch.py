"""Networks trained from scratch with several seeds: what lightlayers.py and alternatives.py share."""

import argparse
import fnmatch
import json
import pathlib
import shutil
import statistics

from stored import Stored, run


def arguments(description, folder):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("binary")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="*", metavar="PATTERN")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("target") / folder)
    return parser


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


class Rows(Stored):
    """Rows of several results each."""

    def __init__(self, path, only):
        super().__init__(path)
        self.only = only

    def get(self, name):
        return self.rows.get(name, {})

    def fill(self, name, key, measure):
        """The result `key` of the row `name`, measured unless it is there or not asked for."""
        row = self.get(name)
        if key in row or not fnmatch.fnmatch(name, self.only):
            return row.get(key)
        row[key] = measure()
        self.rows[name] = row
        self.keep()
        return row[key]


def spread(values):
    """Mean and, of several, standard deviation."""
    mean = f"{statistics.mean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean
