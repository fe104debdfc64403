"""ResNet-20 on CIFAR-10: what training wins back.

    python3 benches/finetune.py RANKFOLD [--epochs N] [--only PATTERN] [--folder FOLDER]

needs RANKFOLD_DATA and RANKFOLD_PRETRAINED. The network is compressed and trained at every budget, the
dense control beside it, and measured on the whole test set, of which nothing is used to choose. Every
result goes to benches/results/finetune.json as soon as it is there; what is there is not run again, and a
run that was stopped goes on from its last checkpoint in FOLDER (target/finetune). What each choice of the
paper is worth is measured by benches/paper.
"""

import argparse
import fnmatch
import json
import os
import pathlib
import re
import shlex
import shutil

from stored import Stored, run

RESULTS = pathlib.Path(__file__).parent / "results" / "finetune.json"
ONESHOT = ["--finetune", "oneshot"]
# What went furthest in runs of three epochs: the teacher's outputs, and labels by a tenth.
OUTPUTS = [*ONESHOT, "--block-weight", "0", "--label-weight", "0.1"]
RUNS = {
    "75% removed": ["--params-removed", "75%", *ONESHOT],
    "75% removed, the paper's recipe": ["--params-removed", "75%", *ONESHOT, "--recipe", "paper"],
    "50% removed, outputs and labels": ["--params-removed", "50%", *OUTPUTS, "--control"],
    "50% removed, best effort and a low rate": [
        "--params-removed", "50%", "--effort", "best", *OUTPUTS, "--rate", "2e-4", "--control",
    ],
    "75% removed, outputs and labels": ["--params-removed", "75%", *OUTPUTS],
    "85% removed, outputs and labels": ["--params-removed", "85%", *OUTPUTS],
    "twice as fast at batch 64": ["--latency", "2x", "--latency-batch", "64", *OUTPUTS],
}


def compress(binary, options, out):
    """The report of a compression with training."""
    model = f"{os.environ['RANKFOLD_PRETRAINED']}/resnet20-12fca82f.th"
    data = f"cifar10:{os.environ['RANKFOLD_DATA']}"
    run([binary, "compress", model, "--arch", "resnet20", "--data", data, *options, "-o", out])
    return json.loads((out / "report.json").read_text())


def row(report, options):
    before, after = report["before"], report["after"]
    training = report["adjustments"]["training"]
    epochs = [epoch for stage in training["stages"] for epoch in stage["epochs"]]
    share = lambda key: round(100 * (1 - after[key] / before[key]), 2)
    return {
        "options": options,
        "parameters_removed": share("parameters"),
        "macs_removed": share("macs"),
        "top1_before": before["top1"],
        "top1": after["top1"],
        "top1_se": round(after["top1_se"], 3),
        "control_top1": training.get("control", {}).get("top1"),
        "epochs": training["epochs"],
        "chosen_epoch": training["chosen_epoch"],
        "chosen_on": training["chosen_on"],
        "speedup": report["adjustments"].get("latency", {}).get("speedup"),
        "seconds": round(sum(epoch["seconds"] for epoch in epochs)),
        "divergence": [epoch["mark"].get("divergence") for epoch in epochs],
        "loss": [round(epoch["loss"], 4) for epoch in epochs],
    }


def measure(binary, runs, results, folder):
    """Runs what has no result yet, and stores each as soon as it is there; all rows."""
    stored = Stored(results)
    for name, options in runs.items():
        if name in stored.rows:
            continue
        out = folder / re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
        print(f"{name}: {shlex.join(options)}", flush=True)
        stored.rows[name] = row(compress(binary, options, out), options)
        stored.keep()
        shutil.rmtree(out)
        print(f"{name}: {stored.rows[name]['top1']:.2f} %", flush=True)
    return stored.rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--only", default="*", metavar="PATTERN")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("target/finetune"))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    length = ["--epochs", str(arguments.epochs)]
    runs = {f"{name}, {arguments.epochs} epochs": [*options, *length] for name, options in RUNS.items()}
    runs = {name: options for name, options in runs.items() if fnmatch.fnmatch(name, arguments.only)}
    measure(arguments.binary, runs, RESULTS, arguments.folder)


if __name__ == "__main__":
    main()
