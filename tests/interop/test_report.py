"""The report in a real browser: a headless Chromium, where there is one.

A real compression of the shipped network on built-in data, timed by `bench`, with a sweep and a fine-tuning beside it
in the formats that docs/sweep.md and docs/report.md give. Layers of the sweep have names that no page may run.
RANKFOLD_SCREENSHOTS names a folder for pictures of what was seen.
"""

import json
import math
import os
import random
import re
import tempfile
import unittest
import xml.etree.ElementTree as xml
from pathlib import Path

from browser import Browser, installed
from support import call

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "shapes-resnet20" / "model.safetensors"
WIDTHS, SCHEMES = (390, 1280), ("light", "dark")
CONTRAST = 4.5
EVIL = "</title><script>document.body.dataset.broken = 1; throw 1</script>&\"'<b>"

# Every text with the least ratio of its colour to what lies behind it.
TEXTS = """
const parse = (text) => {
  const [r, g, b, a] = text.match(/[\\d.]+/g).map(Number);
  return [r, g, b, a === undefined ? 1 : a];
};
const over = (top, below) => top.slice(0, 3).map((c, i) => c * top[3] + below[i] * (1 - top[3]));
const light = ([r, g, b]) => {
  const part = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
};
const ratio = (a, b) => {
  const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
  return (x + 0.05) / (y + 0.05);
};
const behind = (element) => {
  const layers = [];
  for (let at = element; at; at = at.parentElement) {
    const colour = parse(getComputedStyle(at).backgroundColor);
    layers.push(colour);
    if (colour[3] === 1) break;
  }
  return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
};
// Shapes of a drawing that lie behind one of its texts.
const shapes = (text) => {
  const box = text.getBoundingClientRect();
  const found = [];
  for (const share of [0.1, 0.5, 0.9]) {
    for (const element of document.elementsFromPoint(box.left + share * box.width, box.top + box.height / 2)) {
      if (element.ownerSVGElement !== text.ownerSVGElement || !["rect", "path", "circle"].includes(element.tagName)) continue;
      const fill = getComputedStyle(element).fill;
      if (fill !== "none" && parse(fill)[3] === 1) { found.push(parse(fill)); break; }
    }
  }
  return found;
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const seen = [];
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  const text = walker.currentNode.textContent.trim();
  if (!text || ["SCRIPT", "STYLE", "title"].includes(element.tagName) || !element.checkVisibility()) continue;
  const svg = element.ownerSVGElement;
  const style = getComputedStyle(element);
  const colour = parse(svg ? style.fill : style.color);
  const papers = [behind(svg ? svg.parentElement : element), ...(svg ? shapes(element) : [])];
  seen.push([Math.min(...papers.map((paper) => ratio(over(colour, paper), paper))), text]);
}
return seen;
"""

DRAWINGS = """
return [...document.querySelectorAll("figure svg.plot")].map((svg) => {
  const box = svg.getBoundingClientRect();
  const marks = [...svg.querySelectorAll(".dot, .bar, .line, .stroke, .was")].filter((mark) => {
    const { width, height } = mark.getBoundingClientRect();
    return width + height > 0;
  });
  const outside = [...svg.querySelectorAll("*")].filter((part) => {
    const { left, right } = part.getBoundingClientRect();
    return left < -1 || right > document.documentElement.clientWidth + 1;
  });
  return { label: svg.getAttribute("aria-label"), width: box.width, height: box.height, marks: marks.length, outside: outside.length };
});
"""


def sweep(folder: Path) -> None:
    """A sweep of four layers on 2,048 inputs."""
    draw = random.Random(0)
    names = ["layer1.0.conv1", "layer2.0.conv1", "layer3.2.conv2", EVIL]
    layers = [
        {"name": name, "shape": [64, 64, 3, 3], "parameters": 36864, "macs": 2359296, "forms": [], "refused": []}
        for name in names
    ]
    model = {"name": "resnet20", "path": "resnet20.th", "sha256": "0" * 64, "parameters": 269722, "macs": 40551040}
    folder.mkdir()
    (folder / "sweep.json").write_text(json.dumps({
        "version": 1, "rankfold": "0.1.0", "command": f"rankfold sweep '{EVIL}'", "protocol": {"name": "curves"}, "seed": 0,
        "model": model, "data": {"spec": "shapes", "split": "train", "images": 2048}, "layers": layers,
        "baseline": {"accuracy": {"correct": 1990, "of": 2048}, "top5": {"correct": 2048, "of": 2048}, "kl": 0.0},
    }))
    with open(folder / "cells.jsonl", "w") as lines:
        for name in names:
            for form, ranks in (("cp3", (4, 12, 40)), ("tucker2", ([4, 4], [20, 20])), ("spatial", (3, 30))):
                for rank in ranks:
                    size = rank[0] if isinstance(rank, list) else rank
                    lost, gained = int(draw.uniform(20, 300) / size), draw.randrange(9)
                    lines.write(json.dumps({
                        "layer": name, "form": form, "rank": rank, "layer_parameters": 140 * size, "layer_macs": 9000 * size,
                        "response_error": 1 / (1 + size), "accuracy": {"correct": 1990 - lost + gained, "of": 2048},
                        "changed": {"lost": lost, "gained": gained}, "kl": 0.5 / size, "kl_se": 0.01, "seconds": 0.5,
                    }) + "\n")


def fine_tuning(path: Path) -> None:
    """Two stages of the compressed network and the dense control."""
    with open(path, "w") as lines:
        for network, top in (("compressed", 1980), ("control", 1995)):
            for epoch in range(9):
                correct = int(top - 150 * math.exp(-epoch / 2) - (40 if epoch == 4 else 0))
                lines.write(json.dumps({
                    "network": network, "stage": "convolutions" if epoch < 4 else "all layers", "epoch": epoch, "steps": 32,
                    "loss": 0.1 + math.exp(-epoch), "rate": 1e-3 / (epoch + 1),
                    "mark": {"inputs": 2048, "correct": correct, "divergence": 0.05 * math.exp(-epoch / 3)}, "seconds": 3.2,
                }) + "\n")


class Report(unittest.TestCase):
    """One report, looked at from all sides."""

    @classmethod
    def setUpClass(cls) -> None:
        found = installed()
        if not found:
            raise unittest.SkipTest("no Chromium with its chromedriver (Debian: apt-get install chromium chromium-driver)")
        cls.folder = tempfile.TemporaryDirectory(prefix="rankfold-report-")
        cls.addClassCleanup(cls.folder.cleanup)
        at = Path(cls.folder.name)
        cls.small = at / "small"
        compress = ["compress", MODEL, "--arch", "resnet20", "--data", "shapes", "--calibrate", 256]
        call("rankfold", *compress, "--params-removed", "50%", "-o", cls.small)
        call("rankfold", *compress, "--uniform-rank", "conv=8,fc=5", "-o", at / "smaller")
        timed = cls.small / "bench.json"
        call("rankfold", "bench", MODEL, cls.small, "--arch", "resnet20", "--batch", 1, "--repeat", 3, "-o", timed)
        fine_tuning(cls.small / "metrics.jsonl")
        sweep(at / "sweep")
        cls.by_compress = (cls.small / "report.html").read_bytes()
        said = call("rankfold", "report", cls.small, at / "smaller", at / "sweep")
        cls.page = Path(said.strip())
        cls.browser = Browser(*found)
        cls.addClassCleanup(cls.browser.close)

    def pictured(self, name: str) -> None:
        folder = os.environ.get("RANKFOLD_SCREENSHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.browser.screenshot(Path(folder) / f"{name}.png")

    def from_all_sides(self, check) -> None:
        """Opens the page in every width and scheme, and checks it there."""
        for width in WIDTHS:
            for scheme in SCHEMES:
                with self.subTest(width=width, scheme=scheme):
                    self.browser.show(self.page, width, scheme)
                    self.pictured(f"{width}-{scheme}")
                    check(width)

    def test_it_fits_and_nothing_complains(self) -> None:
        def check(width: int) -> None:
            self.assertEqual(self.browser.complaints(), [])
            self.assertLessEqual(self.browser.run("return document.documentElement.scrollWidth"), width)
            self.assertIsNone(self.browser.run("return document.body.dataset.broken || null"))
            self.assertEqual(self.browser.run("return performance.getEntriesByType('resource').length"), 0)

        self.from_all_sides(check)

    def test_every_plot_is_drawn(self) -> None:
        plots = json.loads((self.small / "report.json").read_text())["plots"]
        for expected in (
            "accuracy-parameters", "accuracy-macs", "accuracy-latency", "layers-parameters", "layers-macs", "sensitivity",
            "sweep-parameters", "training-accuracy", "training-loss", "training-divergence",
        ):
            self.assertIn(expected, plots)
        self.assertGreater(sum(name.endswith("-spectrum") for name in plots), 15)
        self.assertGreater(sum(name.endswith("-errors") for name in plots), 15)
        files = {path.stem for path in (self.small / "plots").iterdir()}
        self.assertEqual(files, set(plots))

        def check(_: int) -> None:
            drawn = self.browser.run(DRAWINGS)
            self.assertEqual(len(drawn), len(plots))
            for drawing in drawn:
                self.assertGreater(drawing["width"], 100, drawing)
                self.assertGreater(drawing["height"], 80, drawing)
                self.assertGreater(drawing["marks"], 0, drawing)
                self.assertEqual(drawing["outside"], 0, drawing)

        self.from_all_sides(check)

    def test_texts_stand_out(self) -> None:
        def check(_: int) -> None:
            seen = self.browser.run(TEXTS)
            self.assertGreater(len(seen), 500)
            self.assertEqual([entry for entry in seen if entry[0] < CONTRAST], [])

        self.from_all_sides(check)

    def test_pointing_shows_numbers(self) -> None:
        places = """
        const picked = [];
        for (const svg of document.querySelectorAll("figure svg.plot")) {
          const mark = svg.querySelector(".tip .dot, .tip .bar, .tip .stroke");
          const box = mark.getBoundingClientRect();
          picked.push([box.left + box.width / 2, box.top + box.height / 2]);
        }
        return picked;
        """
        for width in WIDTHS:
            self.browser.show(self.page, width, "light")
            for x, y in self.browser.run(places)[:14]:
                self.browser.point_at(x, y)
                tip = self.browser.run(
                    "const tip = document.getElementById('tip'), box = tip.getBoundingClientRect();"
                    "return { text: tip.textContent, hidden: tip.hidden, left: box.left, right: box.right };"
                )
                self.assertFalse(tip["hidden"], (x, y))
                self.assertRegex(tip["text"], r"\d")
                self.assertGreaterEqual(tip["left"], 0)
                self.assertLessEqual(tip["right"], width)
            self.browser.point_at(2, 2)
            self.assertTrue(self.browser.run("return document.getElementById('tip').hidden"))

    def test_the_table_sorts(self) -> None:
        self.browser.show(self.page, 1280, "light")
        column = "return [...document.querySelector('table.sortable').tBodies[0].rows].map((row) => row.cells[arguments[0]]"
        click = "document.querySelectorAll('table.sortable thead button')[arguments[0]].click()"
        names = f"{column}.textContent)"
        own = self.browser.run(names, 0)
        self.assertGreater(len(own), 15)
        for place in (4, 11):
            values = f"{column}.dataset.v).map(Number)"
            before = self.browser.run(values, place)
            self.browser.run(click, place)
            self.assertEqual(self.browser.run(values, place), sorted(before, reverse=True))
            self.browser.run(click, place)
            self.assertEqual(self.browser.run(values, place), sorted(before))
            self.assertNotEqual(before, sorted(before))
            self.browser.run(click, place)
            self.assertEqual(self.browser.run(names, 0), own)
        self.browser.run(click, 1)
        forms = self.browser.run(names, 1)
        self.assertEqual(forms, sorted(forms))

    def test_it_prints(self) -> None:
        for scheme in SCHEMES:
            self.browser.show(self.page, 1000, scheme, "print")
            self.pictured(f"print-{scheme}")
            self.assertLessEqual(self.browser.run("return document.documentElement.scrollWidth"), 1000)
            paper = self.browser.run("return getComputedStyle(document.body).backgroundColor")
            self.assertGreater(min(map(int, re.findall(r"\d+", paper)[:3])), 240, "dark paper is not for printers")
            self.assertEqual([entry for entry in self.browser.run(TEXTS) if entry[0] < CONTRAST], [])
        pdf = self.browser.devtools("Page.printToPDF", printBackground=True)["data"]
        self.assertGreater(len(pdf), 20_000)

    def test_it_needs_nothing_else(self) -> None:
        text = self.page.read_text()
        self.assertNotRegex(text, r"(?i)(?:src|href)\s*=\s*[\"']?(?:https?:|//|file:)")
        self.assertNotRegex(text, r"@import|url\(")
        self.assertGreater(text.count("<title>"), 300, "without scripts, titles show the numbers")
        self.assertNotIn("<script>document", text)

    def test_plots_are_files_of_their_own(self) -> None:
        files = sorted((self.small / "plots").glob("*.svg"))
        for path in files:
            root = xml.fromstring(path.read_bytes())
            self.assertEqual(root.tag, "{http://www.w3.org/2000/svg}svg")
            self.assertNotIn("var(", path.read_text())
        for path in [path for path in files if not path.stem.startswith("layer-")]:
            for scheme in SCHEMES:
                self.browser.show(path, 700, scheme)
                self.assertEqual(self.browser.complaints(), [])
                self.pictured(f"plot-{path.stem}-{scheme}")

    def test_the_same_folders_give_the_same_bytes(self) -> None:
        files = [self.page, self.small / "report.json", *sorted((self.small / "plots").iterdir())]
        before = [path.read_bytes() for path in files]
        self.assertNotEqual(self.by_compress, before[0])
        call("rankfold", "report", self.small, self.small.parent / "smaller", self.small.parent / "sweep")
        self.assertEqual([path.read_bytes() for path in files], before)
        call("rankfold", "report", self.small)
        call("rankfold", "report", self.small, self.small.parent / "smaller", self.small.parent / "sweep")
        self.assertEqual([path.read_bytes() for path in files], before)


if __name__ == "__main__":
    unittest.main()
