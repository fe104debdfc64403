"""Tests of the documents: links and anchors lead somewhere, paths and make targets that are named exist.

That command lines parse is tested beside the commands (crates/rankfold-cli/src/reference/tests.rs).
"""

import re
import subprocess
import sys
import tomllib
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benches"))

FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
# What begins with a folder of the repository or of `crates/` and has no placeholder is taken to be a path.
PATH = re.compile(r"[\w.-]+(/[\w.-]+)*/?")


def documents() -> list[Path]:
    tracked = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in tracked.stdout.split()]


def anchors(text: str) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.*)$", FENCE.sub("", text), re.MULTILINE):
        heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        plain = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = 0
        while (anchor := f"{plain}-{number}" if number else plain) in found:
            number += 1
        found.add(anchor)
    return found


def targets() -> set[str]:
    """The targets of the Makefile."""
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


class Documents(unittest.TestCase):
    def each(self):
        for path in documents():
            yield path, path.relative_to(ROOT), path.read_text()

    def test_links_lead_somewhere(self) -> None:
        for path, name, text in self.each():
            for link in LINK.findall(FENCE.sub("", text)):
                if re.match(r"[a-z]+:", link):
                    continue
                with self.subTest(document=str(name), link=link):
                    file, _, anchor = link.partition("#")
                    target = (path.parent / file).resolve() if file else path
                    self.assertTrue(target.exists(), f"{name}: {link} leads nowhere")
                    if anchor and target.suffix == ".md":
                        self.assertIn(anchor, anchors(target.read_text()), f"{name}: {link} has no such heading")

    def test_paths_exist(self) -> None:
        crates = ROOT / "crates"
        roots = {child.name for folder in (ROOT, crates) for child in folder.iterdir() if child.is_dir()} - {"target"}
        for path, name, text in self.each():
            for piece in CODE.findall(FENCE.sub("", text)):
                first, slash, _ = piece.partition("/")
                if not (slash and first in roots and PATH.fullmatch(piece)):
                    continue
                with self.subTest(document=str(name), path=piece):
                    there = any((folder / piece).exists() for folder in (ROOT, crates, path.parent))
                    self.assertTrue(there, f"{name}: {piece} is not there")

    def test_make_targets_exist(self) -> None:
        for _, name, text in self.each():
            lines = "\n".join(FENCE.findall(text) + CODE.findall(FENCE.sub("", text)))
            for target in re.findall(r"^make ([a-z-]+)", lines, re.MULTILINE):
                with self.subTest(document=str(name), target=target):
                    self.assertIn(target, targets(), f"{name}: there is no make {target}")

    def test_the_index_has_every_document(self) -> None:
        index = (ROOT / "docs/README.md").read_text()
        for path in sorted((ROOT / "docs").glob("*.md")):
            if path.name != "README.md":
                self.assertIn(f"({path.name})", index, f"docs/README.md does not list {path.name}")

    def test_the_crates_of_the_readme_depend_on_what_they_say(self) -> None:
        text = (ROOT / "README.md").read_text()
        told = dict(re.findall(r"^\| `rankfold-(\w+)` \|.*\| ([^|]+) \|$", text, re.MULTILINE))
        ours = "rankfold-"
        for manifest in sorted(ROOT.glob("crates/*/Cargo.toml")):
            crate = tomllib.loads(manifest.read_text())
            needs = {name.removeprefix(ours) for name in crate["dependencies"] if name.startswith(ours)}
            name = crate["package"]["name"].removeprefix(ours)
            expected = {"–": set(), "all": set(told) - {name}}.get(told[name], set(told[name].split(", ")))
            with self.subTest(crate=name):
                self.assertEqual(needs, expected)

    def test_the_results_of_the_readme_are_those_of_the_benches(self) -> None:
        import readme

        again = "run `python3 benches/readme.py`"
        text = readme.README.read_text()
        self.assertEqual(readme.readme(text), text, again)
        self.assertEqual(readme.plot(), readme.PLOT.read_text(), again)
        told = (ROOT / "docs/results.md").read_text()
        for accuracy in re.findall(r"\d\d\.\d\d ± \d\.\d\d", readme.table()):
            self.assertIn(accuracy, told, f"README.md has {accuracy}, docs/results.md has not")

    def test_the_tables_of_the_results_are_those_of_the_benches(self) -> None:
        import results

        for path in results.PAGES:
            text = path.read_text()
            self.assertEqual(results.page(text), text, f"{path.name}: run `python3 benches/results.py`")


if __name__ == "__main__":
    unittest.main()
