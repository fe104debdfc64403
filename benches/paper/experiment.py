"""What the experiments of this folder share: how ResNet-20 is trained, the table, the plot.

Every convolution is decomposed at rank 24 and the classifier at rank 8, and training follows the paper's
recipe (labels, SGD with momentum 0.9 and weight decay 5e-4, rate 1e-3) on the first 4,096 training images:
nineteen stages of one pass over few images cost what nineteen passes after all layers do. Top-1 is that of
the whole test set, of which nothing is used to choose.
"""

import argparse
import pathlib
import sys
from xml.sax.saxutils import escape

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "benches"))
from finetune import measure

RESULTS = ROOT / "benches" / "results" / "paper.json"
TRAINED = ["--train-split", "train[:4096]", "--recipe", "paper", "--batch", "64"]
ALL_LAYERS = ["--uniform-rank", "conv=24,fc=8", "--forms", "cp3,svd", *TRAINED]
HYBRID = [*ALL_LAYERS, "--finetune", "hybrid", "--epochs", "1"]

COLOURS = ["#1f6feb", "#d1242f", "#1a7f37", "#8250df"]
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 300, 48, 40, 24


def experiment(title, runs, plot):
    """Runs what has no result yet, prints the table, draws what was minimised pass by pass."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("binary")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "target" / "paper")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if callable(runs):
        runs = runs(arguments.folder)
    rows = measure(arguments.binary, runs, RESULTS, arguments.folder)
    print(f"| {title} | parameters removed | passes | top-1 | loss of the last pass |\n|---|---|---|---|---|")
    for name in runs:
        row = rows[name]
        top1 = f"{row['top1']:.2f} ± {row['top1_se']:.2f}"
        print(f"| {name} | {row['parameters_removed']:.1f} % | {row['epochs']} | {top1} | {row['loss'][-1]:.3f} |")
    # The first entry of every stage was taken before its first step and has no loss.
    curves = {name: [loss for loss in rows[name]["loss"] if loss > 0] for name in runs}
    (ROOT / "docs" / "plots" / plot).write_text(drawing(title, curves))


def drawing(title, curves):
    """Lines over passes as an SVG, readable on light and dark pages."""
    longest = max(len(curve) for curve in curves.values())
    highest = max(max(curve) for curve in curves.values())
    x = lambda i: LEFT + (WIDTH - LEFT - 16) * i / max(longest - 1, 1)
    y = lambda loss: HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * loss / highest
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT + 18 * len(curves)}" '
        f'font-family="sans-serif" font-size="12" fill="#777"><title>{escape(title)}</title>'
    ]
    for share in (0, 0.25, 0.5, 0.75, 1):
        place = y(highest * share)
        parts.append(f'<path d="M{LEFT} {place:.1f}H{WIDTH - 16}" stroke="#777" stroke-opacity=".25"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{place + 4:.1f}" text-anchor="end">{highest * share:.2f}</text>')
    for i in sorted({0, longest // 2, longest - 1}):
        parts.append(f'<text x="{x(i):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{i + 1}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 6}" text-anchor="middle">pass over the images</text>')
    parts.append(f'<text x="{LEFT}" y="14">loss while learning</text>')
    for number, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(f"{x(i):.1f},{y(loss):.1f}" for i, loss in enumerate(curve))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        line = HEIGHT + 18 * number + 8
        parts.append(f'<path d="M{LEFT} {line - 4}h24" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{LEFT + 32}" y="{line}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>\n"])
