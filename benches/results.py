"""The tables of docs/results.md, and of speed-ups in docs/performance.md, from the numbers in benches/results.

    python3 benches/results.py

writes them anew. `make test` fails where they are not what this writes; `make results` runs first what has
no numbers yet.
"""

import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benches"))
import alternatives
import lightlayers
from scratch import spread

PAGES = [ROOT / "docs" / name for name in ("results.md", "performance.md")]
BLOCK = re.compile(r"(<!-- table: ([\w ]+) -->\n)(.*?)(<!-- end of table -->)", re.DOTALL)


def rows(name: str) -> dict:
    path = ROOT / "benches" / "results" / f"{name}.json"
    return json.loads(path.read_text())["rows"] if path.exists() else {}


def table(head: list[str], lines: list[list[str]]) -> str:
    first, *others = (f"| {' | '.join(cells)} |\n" for cells in [head, *lines])
    return "".join([first, "|---" * len(head) + "|\n", *others])


def top1(row: dict) -> str:
    return f"{row['top1']:.2f} ± {row['top1_se']:.2f}"


def share(row: dict, of: str) -> str:
    return f"{row[f'{of}_removed']:.1f} %"


def untrained(name: str, what: str) -> str:
    """Networks that saw no labels, with the steps whose outcome was better."""
    lines = []
    for label, row in rows(name).items():
        steps = row["adjustments"]
        taken = [step for step in ("reconstructed", "recalibrated", "distilled") if steps.get(step, {}).get("taken")]
        divergence = steps[taken[-1]]["divergence"] if taken else steps.get("divergence")
        lines.append([
            label, share(row, "parameters"), share(row, "macs"), top1(row),
            "–" if divergence is None else f"{divergence:.4f}", ", ".join(taken) or "–",
        ])
    return table([what, "parameters removed", "MACs removed", "top-1", "divergence", "steps that were taken"], lines)


WHAT = {
    "": "outputs and blocks, no labels (the default)",
    "outputs and labels": "outputs, and labels by a tenth (`--block-weight 0 --label-weight 0.1`)",
    "best effort and a low rate": "outputs, and labels by a tenth, from `--effort best`, at a tenth of the rate (`--rate 2e-4`)",
    "the paper's recipe": "the labels, as the paper does (`--recipe paper`)",
}


def trained() -> str:
    """ResNet-20 after training, by budget and by what is minimised."""
    lines = []
    for label, row in sorted(rows("finetune").items()):
        budget, *what = label.split(", ")
        minimised = WHAT[", ".join(what[:-1])] if budget.endswith("removed") else WHAT["outputs and labels"]
        # Without a teacher the last is used, and nothing diverges.
        chosen = row["epochs"] if row["chosen_epoch"] is None else row["chosen_epoch"]
        before, after = row["divergence"][0], row["divergence"][chosen]
        told = before is not None and after is not None
        lines.append([
            budget, share(row, "parameters"), share(row, "macs"), minimised, str(row["epochs"]), top1(row),
            "–" if row["control_top1"] is None else f"{row['control_top1']:.2f}", str(chosen),
            f"{before:.3f} → {after:.3f}" if told else "–",
        ])
    head = ["budget", "parameters removed", "MACs removed", "what is minimised", "epochs", "top-1", "dense control",
            "chosen epoch", "divergence before → at the chosen epoch"]
    return table(head, lines)


def paper(what: str, names: dict[str, str]) -> str:
    """An experiment of benches/paper."""
    stored = rows("paper")
    line = lambda name: [names[name], str(stored[name]["epochs"]), top1(stored[name]), f"{stored[name]['loss'][-1]:.3f}"]
    return table([what, "passes", "top-1", "loss of the last pass"], [line(name) for name in names if name in stored])


def selected(training: str) -> str:
    """Ways to choose ranks, at three budgets."""
    stored, budgets = rows("selection"), (50, 65, 75)
    name = lambda how, budget: f"{how}, {budget}%{training}"
    hows = [how for label in stored if (how := re.sub(r", \d+%.*", "", label)) and label == name(how, 50)]
    hows.sort(key=lambda how: ORDER.index(how))
    lines = [[how, *(top1(stored[name(how, budget)]) for budget in budgets)] for how in hows]
    return table(["selection", *(f"{budget} % removed" for budget in budgets)], lines)


ORDER = [
    "curves, by divergence", "curves, by accuracy", "response error", "damage at the output (auto)",
    "greedy, by divergence", "greedy, by accuracy", "uniform", "the paper's sensitivity, conv1 and linear kept",
    "the paper's sensitivity", "proportional to parameters",
]


def scratch(name: str, printed: dict[str, float]) -> str:
    """Networks trained from scratch: best and last epoch over the seeds, beside what the authors print."""
    stored, lines = rows(name), []
    for label, share in printed.items():
        runs = [run for key, run in stored.get(label, {}).items() if key.isdigit()]
        if runs:
            spreads = [spread([run[key] for run in runs]) for key in ("best", "last")]
            parameters, epochs = f"{runs[0]['parameters']:,}", str(runs[0]["epochs"])
            lines.append([label, parameters, epochs, str(len(runs)), *spreads, f"{100 * share:.2f}"])
    return table(["network", "parameters", "epochs", "seeds", "best epoch", "last epoch", "printed"], lines)


def learning() -> str:
    """The test accuracy of the small network after every epoch."""
    accuracies = rows("alternatives").get("calli-small", {}).get("0", {}).get("accuracies", [])
    epochs = [str(epoch) for epoch in range(1, len(accuracies) + 1)]
    return table(["epoch", *epochs], [["top-1", *(f"{accuracy:.2f}" for accuracy in accuracies)]])


def afterwards(data: str) -> str:
    """LightLayers from scratch beside the plain network compressed to as many parameters."""
    lines = []
    for label, row in rows("lightlayers").items():
        if label.startswith(data) and "compressed and trained" in row:
            light = spread([run["last"] for key, run in row.items() if key.isdigit()])
            lines.append([label, f"{row['0']['parameters']:,}", light,
                          *(top1(row[key]) for key in ("compressed", "compressed and trained"))])
    return table(["size of", "parameters", "LightLayers from scratch", "plain, compressed", "and trained"], lines)


def faster() -> str:
    """How much faster compressed networks are, and what fresh processes need for them."""
    lines = []
    for row in rows("speed"):
        if "refused" in row:
            lines.append([row["name"], str(row["batch"]), "–", "–", "refused", f"×{row['target']:g}", "–", "–", "–"])
            continue
        predicted = "–"
        if row.get("predicted_ms"):
            predicted = f"{100 * (row['predicted_ms'] / row['measured_when_planned_ms'] - 1):+.0f} %"
        starts = row.get("fresh", [])
        first = " → ".join(f"{start['first_output_s']:.2f}" for start in starts)
        most = " → ".join(f"{start['peak_bytes'] / 1e6:.0f}" for start in starts)
        lines.append([
            row["name"], str(row["batch"]), f"{row['before_ms']:.2f}", f"{row['after_ms']:.2f}",
            f"×{row['speedup']:.2f}", f"×{row['target']:g}", predicted, first or "–", most or "–",
        ])
    head = ["network", "batch", "original, ms", "compressed, ms", "speed-up", "asked", "predicted against measured",
            "first output, s", "memory at most, MB"]
    return table(head, lines)


TABLES = {
    "speed": faster,
    "no training": lambda: untrained("no_training", "request"),
    "ablation": lambda: untrained("ablation", "what, and parameters removed"),
    "training": trained,
    "order": lambda: paper("order", {name: name for name in ("hybrid", "iterative, the classifier too", "one-shot, as many passes")}),
    "first layer": lambda: paper("first layer", {f"conv1 {ways}": ways for ways in ("two-way", "three-way", "four-way")}),
    "start": lambda: paper("first factors", {"hybrid": "computed", "hybrid, random factors": "random"}),
    "freezing": lambda: paper("what does not learn", {
        "hybrid": "nothing", "hybrid, decomposed layers frozen": "what is decomposed already",
        "hybrid, all other layers frozen": "all but what was just decomposed",
    }),
    "selection": lambda: selected(""),
    "selection trained": lambda: selected(", --distill 200"),
    "lightlayers": lambda: scratch("lightlayers", lightlayers.LABELS),
    "lightlayers mnist afterwards": lambda: afterwards("mnist"),
    "lightlayers cifar10 afterwards": lambda: afterwards("cifar10"),
    "alternatives": lambda: scratch("alternatives", alternatives.NETWORKS),
    "small": learning,
}


def page(text: str) -> str:
    """The page with the numbers that are there now."""
    return BLOCK.sub(lambda block: block[1] + TABLES[block[2]]() + block[4], text)


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(page(path.read_text()))
