"""How much faster compressed networks are: the ratios of docs/performance.md in one table.

    python3 benches/speed.py RANKFOLD [--folder FOLDER]

The networks have seeded random weights; the ranks are those of Astrid and Lee where they gave some, and
what a budget of time chooses otherwise. Original and compressed model run by turns in one process, each in
its faster layout, and then in processes of their own. Numbers go to benches/results/speed.json.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

from stored import Stored

RESULTS = pathlib.Path(__file__).parent / "results" / "speed.json"
VGG16 = [59, 50, 51, 75, 115, 65, 64, 78, 80, 92, 99, 110, 102]
VGG16_LAYERS = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
GOOGLENET = {
    "conv1": 35, "conv2": 41, "inception_3a.3x3": 35, "inception_3b.3x3": 38, "inception_4a.3x3": 33,
    "inception_4b.3x3": 34, "inception_4c.3x3": 34, "inception_4d.3x3": 32, "inception_4e.3x3": 32,
    "inception_5a.3x3": 36, "inception_5b.3x3": 35,
}
RANKS = {
    "vgg16": {
        **{f"features.{layer}": rank for layer, rank in zip(VGG16_LAYERS, VGG16)},
        **{"classifier.0": 162, "classifier.3": 145, "classifier.6": 143},
    },
    "googlenet-caffe": GOOGLENET,
}
# Name, network, budget, batch sizes, and the speed-up asked for at each.
CASES = [
    ("VGG16, the paper's ranks", "vgg16", ["--ranks"], [1], [6.0]),
    ("AlexNet, conv 100, FC 300", "alexnet", ["--uniform-rank", "conv=100,fc=300"], [1], [3.8]),
    ("GoogLeNet, the paper's ranks", "googlenet-caffe", ["--ranks"], [1], [1.5]),
    ("ResNet-20, --latency 1.5x", "resnet20", ["--latency", "1.5x"], [1], [1.5]),
    ("ResNet-20, --latency 2x", "resnet20", ["--latency", "2x"], [1], [1.5]),
    ("ResNet-20, --latency 2x at 64", "resnet20", ["--latency", "2x", "--latency-batch", "64"], [64], [1.9]),
    ("ResNet-18, --latency 1.5x", "resnet18", ["--latency", "1.5x"], [1], [1.5]),
    ("MobileNetV2, --latency 1.4x", "mobilenet_v2", ["--latency", "1.4x"], [1], [1.4]),
]


UNMET = 5


def call(command):
    """The output of a command, and why a budget cannot be met, one of them empty."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode == UNMET:
        return "", next(line for line in done.stderr.splitlines() if line.startswith("error: "))
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr}")
    return done.stdout, ""


def case(binary, folder, name, network, budget, batches, targets):
    dense, out = folder / f"{network}.safetensors", folder / name.replace(" ", "-").replace(",", "")
    if not dense.exists():
        call([binary, "export", f"zoo:{network}", "--to", "safetensors", "-o", dense])
    if budget == ["--ranks"]:
        ranks = folder / f"{network}.toml"
        ranks.write_text("".join(f'"{layer}" = {rank}\n' for layer, rank in RANKS[network].items()))
        budget = ["--ranks", ranks]
    _, refused = call([binary, "compress", dense, *budget, "-o", out, "--force"])
    if refused:
        print(f"{name}: {refused}")
        pairs = zip(batches, targets)
        return [{"name": name, "batch": size, "target": target, "refused": refused} for size, target in pairs]
    latency = json.loads((out / "report.json").read_text())["adjustments"].get("latency", {})
    accepted = next((one for one in latency.get("tries", []) if one.get("taken")), {})
    batch = ",".join(map(str, batches))
    bench = json.loads(call([binary, "bench", dense, out, "--batch", batch, "--fresh", "--json"])[0])
    rows = []
    for size, target in zip(batches, targets):
        before, after = [row for row in bench["rows"] if row["batch"] == size]
        rows.append({
            "name": name,
            "batch": size,
            "before_ms": before["median_ms"],
            "after_ms": after["median_ms"],
            "speedup": after["speedup"],
            "target": target,
            "predicted_ms": accepted.get("predicted_ms"),
            "measured_when_planned_ms": accepted.get("measured_ms"),
            "fresh": [{key: start[key] for key in start if key != "model"} for start in bench["starts"]],
        })
    return rows


def on_onnx_runtime(binary, folder):
    """VGG16 with the paper's ranks raised to what ONNX Runtime moves together."""
    dense, ranks, out = folder / "vgg16.safetensors", folder / "vgg16.toml", folder / "vgg16-aligned"
    call([binary, "compress", dense, "--ranks", ranks, "--align", "16", "-o", out, "--force"])
    report = json.loads((out / "report.json").read_text())
    bench = json.loads(call([binary, "bench", dense, out, "--batch", "1", "--engine", "onnxruntime", "--json"])[0])
    before, after = bench["rows"]
    return {
        "name": "VGG16, the paper's ranks in multiples of 16, ONNX Runtime",
        "batch": 1,
        "before_ms": before["median_ms"],
        "after_ms": after["median_ms"],
        "speedup": after["speedup"],
        "target": 3.0,
        "parameters": report["after"]["parameters"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary")
    parser.add_argument("--folder", type=pathlib.Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        print("| network | batch | original, ms | compressed, ms | speed-up | asked | first output | memory at most |")
        print("|---|---|---|---|---|---|---|---|")
        for name, *rest in CASES:
            for row in case(arguments.binary, folder, name, *rest):
                rows.append(row)
                if "refused" in row:
                    continue
                before, after = row["fresh"]
                times = lambda key: f"×{before[key] / max(after[key], 1e-9):.2f}"
                cells = [name, row["batch"], f"{row['before_ms']:.2f}", f"{row['after_ms']:.2f}"]
                cells += [f"×{row['speedup']:.2f}", f"×{row['target']}", times("first_output_s"), times("peak_bytes")]
                print("| " + " | ".join(map(str, cells)) + " |", flush=True)
        rows.append(on_onnx_runtime(arguments.binary, folder))
        print(f"VGG16 at the paper's ranks, in multiples of 16, on ONNX Runtime: ×{rows[-1]['speedup']:.2f}")
    stored = Stored(RESULTS)
    stored.all["rows"] = rows
    stored.keep()


main()
