"""The results in README.md and the plot beside them, from the numbers in benches/results and docs/performance.md.

    python3 benches/readme.py

writes both anew. `make test` fails where they are not what this writes.
"""

import json
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PLOT = ROOT / "docs" / "plots" / "resnet20.svg"
BEGIN, END = "<!-- results: python3 benches/readme.py -->\n", "<!-- end of results -->"
HEAD = "| | training | parameters removed | MACs removed | speed-up, 64 images | top-1 | change |\n" + "|---" * 7 + "|\n"

TRAINED = "--finetune oneshot"
COLOURS = {"--effort normal": "#1f6feb", "--effort best": "#1a7f37", TRAINED: "#8250df", "BALF (published)": "#d1242f"}
WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM, TOP = 640, 320, 48, 16, 40, 24
LEAST, MOST = 60, 95


def results(name: str) -> dict:
    return json.loads((ROOT / "benches" / "results" / f"{name}.json").read_text())["rows"]


PAPER = "the paper's recipe"


def material(options: list[str]) -> str:
    """What was learnt from."""
    pairs = list(zip(options, options[1:]))
    if ("--recipe", "paper") in pairs:
        return PAPER
    weight = next((float(value) for option, value in pairs if option == "--label-weight"), 0)
    return "labels" if weight > 0 or "--no-teacher" in options else "no labels"


def trained() -> list[dict]:
    """Of the trained networks of a budget in parameters, the one of most epochs for everything that can be learnt from.

    Where no epoch was better than the start, the network is one that was not trained, and has a row as such.
    """
    longest: dict[tuple[str, str], dict] = {}
    for row in results("finetune").values():
        option, budget, *rest = row["options"]
        key = (budget, material(rest))
        own = option == "--params-removed" and row["chosen_epoch"] != 0
        if own and row["epochs"] >= longest.get(key, row)["epochs"]:
            longest[key] = row
    return [longest[key] for key in sorted(longest)]


def speedup(row: dict) -> str:
    """What docs/performance.md has for ResNet-20 with that share of its parameters removed, 64 images at once.

    Plans that remove another share of the MACs have not been timed.
    """
    budget = f"{row['parameters_removed']:.0f}"
    timed = results("no_training").get(f"normal --params-removed {budget}%")
    if timed is None or round(timed["macs_removed"], 1) != round(row["macs_removed"], 1):
        return "–"
    name = f"ResNet-20, {budget} % of the parameters removed"
    found = re.search(rf"^\| {name} \| 64 \|.*\| (×[\d.]+) \|$", (ROOT / "docs/performance.md").read_text(), re.MULTILINE)
    return found[1] if found else "–"


def line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


def signed(change: float) -> str:
    return f"{change:+.2f}".replace("-", "−")


def own(name: str, training: str, row: dict) -> str:
    removed = row["parameters_removed"]
    top1, change = f"{row['top1']:.2f} ± {row['top1_se']:.2f}", signed(row["top1"] - row["top1_before"])
    return line(name, training, f"{removed:.1f} %", f"{row['macs_removed']:.1f} %", speedup(row), top1, change)


def published(row: dict) -> str:
    point = next(point for point in row["points"] if point["parameters_removed"] == row["table"])
    macs = f"{point['macs_removed']:.1f} %" if "macs_removed" in point else "–"
    top1 = f"{point['top1']:.2f}" if "top1" in point else "–"
    change = point["change"] if "change" in point else point["top1"] - row["top1_before"]
    name = f"{row['method']}, published"
    return line(name, row["training"], f"{row['table']:.1f} %", macs, "–", top1, signed(change))


def table() -> str:
    untrained, rows = results("no_training"), [HEAD]
    for budget in ("50%", "75%"):
        for effort in ("normal", "best"):
            training = "none" if effort == "normal" else "a minute, no labels"
            row = untrained[f"{effort} --params-removed {budget}"]
            rows.append(own(f"Rankfold, `--effort {effort}`", training, row))
    for row in trained():
        training = f"{row['epochs']} epochs, {material(row['options'])}"
        rows.append(own("Rankfold, `--finetune oneshot`", training, row))
        if row.get("control_top1") is not None:
            change = signed(row["control_top1"] - row["top1_before"])
            name, training = "the original, trained as long", f"{row['epochs']} epochs, labels"
            rows.append(line(name, training, "–", "–", "–", f"{row['control_top1']:.2f}", change))
    rows.extend(published(row) for row in results("published"))
    return "".join(rows)


def speed() -> str:
    """The sentence on VGG16."""
    row = next(row for row in results("speed") if row["name"] == "VGG16, the paper's ranks")
    times = f"{row['before_ms']:.0f} ms before, {row['after_ms']:.1f} ms after (×{row['speedup']:.2f})"
    return f"\nVGG16 at the paper's ranks, one image, two cores: {times}; the paper prints ×2.72 on a processor of its time.\n"


def curves() -> dict[str, list[tuple[float, float]]]:
    """Accuracy over the share of parameters removed."""
    found: dict[str, list[tuple[float, float]]] = {}
    for effort in ("normal", "best"):
        rows = [row for row in results("no_training").values() if row["options"][0] == "--params-removed"]
        rows = [row for row in rows if effort in row["options"]]
        found[f"--effort {effort}"] = sorted((row["parameters_removed"], row["top1"]) for row in rows)
    found[TRAINED] = [(row["parameters_removed"], row["top1"]) for row in trained() if material(row["options"]) != PAPER]
    for row in results("published"):
        if "curve" in row:
            found[row["curve"]] = [(point["parameters_removed"], point["top1"]) for point in row["points"]]
    return found


def plot() -> str:
    """The curves as an SVG, readable on light and dark pages."""
    x = lambda removed: LEFT + (WIDTH - LEFT - RIGHT) * removed / 100
    y = lambda top1: TOP + (HEIGHT - BOTTOM - TOP) * (MOST - top1) / (MOST - LEAST)
    lines = curves()
    title = "ResNet-20 on CIFAR-10: top-1 over the share of parameters removed"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT + 18 * len(lines)}" '
        f'font-family="sans-serif" font-size="12" fill="#777"><title>{title}</title>'
    ]
    for top1 in range(LEAST, MOST + 1, 5):
        parts.append(f'<path d="M{LEFT} {y(top1):.1f}H{WIDTH - RIGHT}" stroke="#777" stroke-opacity=".25"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(top1) + 4:.1f}" text-anchor="end">{top1}</text>')
    for removed in range(0, 101, 20):
        parts.append(f'<text x="{x(removed):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{removed} %</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 6}" text-anchor="middle">parameters removed</text>')
    parts.append(f'<text x="{LEFT}" y="14">top-1 on the whole test set, percent</text>')
    for number, (name, points) in enumerate(lines.items()):
        colour, place = COLOURS[name], HEIGHT + 18 * number + 8
        path = " ".join(f"{x(removed):.1f},{y(top1):.1f}" for removed, top1 in points)
        if name != TRAINED:
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for removed, top1 in points:
            parts.append(f'<circle cx="{x(removed):.1f}" cy="{y(top1):.1f}" r="3.5" fill="{colour}"/>')
        parts.append(f'<circle cx="{LEFT + 12}" cy="{place - 4}" r="3.5" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + 32}" y="{place}">{name}</text>')
    return "\n".join([*parts, "</svg>\n"])


def readme(text: str) -> str:
    """The README with the numbers that are there now."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + table() + speed() + END + rest.split(END)[1]


if __name__ == "__main__":
    README.write_text(readme(README.read_text()))
    PLOT.write_text(plot())
