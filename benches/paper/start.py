"""Fig. 7: factors that were computed against random ones, under the same training.

    python3 benches/paper/start.py RANKFOLD
"""

from experiment import HYBRID, experiment

RUNS = {"hybrid": HYBRID, "hybrid, random factors": [*HYBRID, "--init", "random"]}

experiment("first factors", RUNS, "paper-start.svg")
