"""Fig. 5 and 6: training after every layer, after all, and the paper's mixture of both.

    python3 benches/paper/order.py RANKFOLD
"""

from experiment import ALL_LAYERS, HYBRID, experiment

RUNS = {
    "hybrid": HYBRID,
    "iterative, the classifier too": [*ALL_LAYERS, "--finetune", "iterative", "--epochs", "1"],
    "one-shot, as many passes": [*ALL_LAYERS, "--finetune", "oneshot", "--epochs", "19"],
}

experiment("order", RUNS, "paper-order.svg")
