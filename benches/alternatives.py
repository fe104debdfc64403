"""Çallı (2017): what may stand for 5×5 convolutions, on CIFAR-10, and the small network.

    python3 benches/alternatives.py RANKFOLD [--epochs N] [--seeds 3] [--only PATTERN] [--folder FOLDER]

needs RANKFOLD_DATA. The four networks are those of the author's code, with his momentum, batch and first rate, but
fewer epochs than his 128, in which the rate falls along a cosine: his steps want more of them (the baseline comes to
77.4 % after five of six epochs, two at each of three rates).
`calli-small` has his views (windows of 24×24, flips, brightness, contrast) and his L2. Each result goes to
benches/results/alternatives.json as soon as it is there; what is there is not run again, and a run that was
stopped goes on from its last checkpoint in FOLDER (target/alternatives).
"""

import os
import pathlib

from scratch import Rows, arguments, train

RESULTS = pathlib.Path(__file__).parent / "results" / "alternatives.json"
SGD = ["--optimizer", "sgd", "--momentum", "0.9", "--rate", "0.1", "--batch", "128", "--decay", "0"]
NETWORKS = {
    "calli-baseline": 0.8184,
    "calli-baseline-composed": 0.8198,
    "calli-baseline-separable": 0.8211,
    "calli-baseline-nonlinear": 0.8216,
    "calli-small": 0.911,
}
# As many passes as fit: one takes one to two minutes on one core.
EPOCHS = {"calli-small": 8, "calli-baseline-separable": 12, "calli-baseline-nonlinear": 12}
OTHERS = 6
SMALL = ["--augment", "flip,crop,brightness,contrast", "--l2", "0.001"]


def main():
    parser = arguments(__doc__.split("\n")[0], "alternatives")
    parser.add_argument("--epochs", type=int)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    rows = Rows(RESULTS, given.only)
    shared = ["--data", f"cifar10:{os.environ['RANKFOLD_DATA']}", *SGD, "--schedule", "cosine"]
    for network in NETWORKS:
        own = SMALL if network == "calli-small" else ["--augment", "none"]
        own = [*own, "--epochs", str(given.epochs or EPOCHS.get(network, OTHERS))]
        for seed in range(1 if network == "calli-small" else given.seeds):
            out = given.folder / f"{network}-{seed}"
            rows.fill(network, str(seed), lambda: train(given.binary, network, [*shared, *own], seed, out))


if __name__ == "__main__":
    main()
