"""LightLayers (Jha et al. 2020): Tables 1 and 3 with the authors' settings, best and last epoch, and the same
parameters had by compressing the plain network after it was trained.

    python3 benches/lightlayers.py RANKFOLD [--data mnist|cifar10] [--seeds 3] [--only PATTERN] [--folder FOLDER]

needs RANKFOLD_DATA. The authors keep the epoch with the smallest loss on the test set, so that their
accuracies are chosen on what they are reported on; "best" here is chosen in the same way, "last" is not
chosen at all. Each result goes to benches/results/lightlayers.json as soon as it is there; what is there is
not run again, and a run that was stopped goes on from its last checkpoint in FOLDER (target/lightlayers).
"""

import json
import os
import pathlib
import shutil

from scratch import Rows, arguments, train
from stored import run

RESULTS = pathlib.Path(__file__).parent / "results" / "lightlayers.json"
# What the paper prints, as shares.
PRINTED = {
    "mnist": {"conv2d": 0.9887, "separable": 0.9338, 1: 0.9418, 2: 0.9749, 3: 0.9775, 4: 0.9720},
    "cifar10": {
        "conv2d": 0.6882, "separable": 0.5953, 1: 0.3686, 2: 0.4596, 3: 0.4937, 4: 0.5319, 5: 0.5576,
    },
}
SETTINGS = ["--recipe", "lightlayers", "--batch", "64", "--augment", "none", "--precision", "f32"]
# At K = 1 a bias below all that its channel sees lets nothing through, in training neither: with these seeds
# some of every image arrives at the end before training (with 3, 4, 5 and 7 nothing does, as with 0, 1 and 2).
LIVING = {"mnist k=1": [6, 8, 9]}
# The passes of training after the plain network was compressed.
AFTERWARDS = 3


def name(data, layers):
    return f"{data} {layers if isinstance(layers, str) else f'k={layers}'}"


def living(data, layers):
    return f"{name(data, layers)}, not cut off"


# The rows by name, and what is printed for them.
LABELS = {
    label: share
    for data, networks in PRINTED.items()
    for layers, share in networks.items()
    for label in [name(data, layers), *([living(data, layers)] if name(data, layers) in LIVING else [])]
}


def scratch(binary, data, layers, seed, folder):
    twin = isinstance(layers, str)
    network = f"lightlayers-{data}" + (f"-{layers}" if twin else "")
    options = [*([] if twin else ["--k", str(layers)]), "--data", source(data), *SETTINGS]
    # The plain network is compressed afterwards.
    keep = layers == "conv2d" and seed == 0
    return train(binary, network, options, seed, folder / f"{name(data, layers).replace(' ', '-')}-{seed}", keep)


def source(data):
    return f"{data}:{os.environ['RANKFOLD_DATA']}"


def compressed(binary, data, removed, options, folder):
    """The plain network of seed 0 with so many per cent of its parameters removed."""
    out = folder / "compressed"
    run([binary, "compress", folder / f"{data}-conv2d-0", "--params-removed", f"{removed:.3f}%", "--data", source(data),
         *options, "-o", out, "--force"])
    after = json.loads((out / "report.json").read_text())["after"]
    shutil.rmtree(out)
    return {key: after[key] for key in ("parameters", "top1", "top1_se")}


def main():
    parser = arguments(__doc__.split("\n")[0], "lightlayers")
    parser.add_argument("--data", choices=sorted(PRINTED), action="append")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    rows = Rows(RESULTS, given.only)
    for data in given.data or sorted(PRINTED):
        for layers in PRINTED[data]:
            for seed in range(given.seeds):
                rows.fill(name(data, layers), str(seed), lambda: scratch(given.binary, data, layers, seed, given.folder))
            for seed in LIVING.get(name(data, layers), []):
                rows.fill(living(data, layers), str(seed), lambda: scratch(given.binary, data, layers, seed, given.folder))
        plain = rows.get(name(data, "conv2d")).get("0")
        for k in (layers for layers in PRINTED[data] if isinstance(layers, int)):
            light = rows.get(name(data, k)).get("0")
            if plain and light:
                removed = 100 * (1 - light["parameters"] / plain["parameters"])
                trained = ["--finetune", "oneshot", "--epochs", str(AFTERWARDS)]
                for key, options in (("compressed", []), ("compressed and trained", trained)):
                    rows.fill(name(data, k), key, lambda: compressed(given.binary, data, removed, options, given.folder))


if __name__ == "__main__":
    main()
