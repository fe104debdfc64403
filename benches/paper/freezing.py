"""Fig. 8: nothing frozen, the layers that are decomposed already, or all others.

    python3 benches/paper/freezing.py RANKFOLD
"""

from experiment import HYBRID, experiment

RUNS = {
    "hybrid": HYBRID,
    "hybrid, decomposed layers frozen": [*HYBRID, "--freeze", "decomposed"],
    "hybrid, all other layers frozen": [*HYBRID, "--freeze", "others"],
}

experiment("freezing", RUNS, "paper-freezing.svg")
