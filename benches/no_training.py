"""ResNet-20 on CIFAR-10 without training: accuracy by budget, and what each choice is worth.

    python3 benches/no_training.py RANKFOLD [--ablation]

needs RANKFOLD_DATA and RANKFOLD_PRETRAINED. Budgets are measured on the whole test set, the ablation on
test[:5000], and both are written to benches/results/ as JSON with machine and date. A result
that is there already is not measured again.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from stored import Stored

BUDGETS = [
    ["--params-removed", "30%"],
    ["--params-removed", "31%"],
    ["--params-removed", "50%"],
    ["--params-removed", "65%"],
    ["--params-removed", "75%"],
    ["--macs", "1.4286x"],
    ["--macs", "1.6667x"],
    ["--macs", "2x"],
]
WITHOUT_DATA = "without data"
FORMS = ["cp3", "cp4", "cp2", "tucker2", "spatial", "channel"]
ABLATION = {
    "all forms": [],
    "all forms, without data": [WITHOUT_DATA],
    "all forms, reconstructed": ["--reconstruct"],
    "all forms, never recalibrated": ["--recalibrate", "never"],
    "all forms, always recalibrated": ["--recalibrate", "always"],
    **{f"{form} alone": ["--forms", form] for form in FORMS},
    **{f"{form} alone, without data": ["--forms", form, WITHOUT_DATA] for form in FORMS},
    **{
        f"selected by {how}": ["--select", how]
        for how in ["response", "weight-error", "uniform", "proportional", "energy", "evbmf"]
    },
    "all forms, distilled": ["--distill", "600"],
    "all forms, best effort": ["--effort", "best"],
}


def compress(binary, options, split):
    data, pretrained = os.environ["RANKFOLD_DATA"], os.environ["RANKFOLD_PRETRAINED"]
    with tempfile.TemporaryDirectory() as folder:
        command = [binary, "compress", f"{pretrained}/resnet20-12fca82f.th", "--arch", "resnet20"]
        measure = ["--data", f"cifar10:{data}", "--split", split]
        blind = WITHOUT_DATA in options
        command += ["-o", f"{folder}/out", *(o for o in options if o != WITHOUT_DATA)]
        start = time.time()
        done = subprocess.run(command + ([] if blind else measure), capture_output=True, text=True)
        seconds = round(time.time() - start, 1)
        if done.returncode < 0 or done.returncode == 130:
            sys.exit(f"interrupted: {' '.join(command)}")
        if done.returncode:
            return {"options": options, "error": done.stderr.strip(), "seconds": seconds}
        report = json.loads(pathlib.Path(folder, "out/report.json").read_text())
        before, after = report["before"], report["after"]
        if blind:
            command = [binary, "eval", f"{folder}/out", "--json", *measure]
            measured = subprocess.run(command, capture_output=True, text=True, check=True)
            after |= json.loads(measured.stdout)
    share = lambda key: round(100 * (1 - after[key] / before[key]), 2)
    return {
        "options": options,
        "split": split,
        "parameters_removed": share("parameters"),
        "macs_removed": share("macs"),
        "top1_before": before.get("top1"),
        "top1": after["top1"],
        "top1_se": after["top1_se"],
        "adjustments": report["adjustments"],
        "seconds": seconds,
    }


def main():
    binary = sys.argv[1]
    ablation = "--ablation" in sys.argv
    name = "ablation" if ablation else "no_training"
    path = pathlib.Path(__file__).parent / "results" / f"{name}.json"
    stored = Stored(path)
    if ablation:
        wanted = {
            f"{label}, {budget}": (["--params-removed", budget, *options], "test[:5000]")
            for budget in ["75%", "50%"]
            for label, options in ABLATION.items()
            if budget == "75%" or label.startswith(("all forms", "cp3", "channel"))
        }
    else:
        wanted = {
            f"{effort} {' '.join(budget)}": ([*budget, "--effort", effort], "test")
            for effort in ["normal", "best"]
            for budget in BUDGETS
        }
    for label, (options, split) in wanted.items():
        if label in stored.rows:
            continue
        row = stored.rows[label] = compress(binary, options, split)
        stored.keep()
        print(f"{label:45} {row.get('top1', row.get('error'))}  {row['seconds']} s", flush=True)


main()
