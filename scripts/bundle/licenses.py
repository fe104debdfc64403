#!/usr/bin/env python3
"""Copies the licence files of everything that a package links in: `licenses.py PACKAGE FOLDER < metadata.json`."""

import json
import re
import shutil
import sys
from pathlib import Path


def linked(metadata: dict, root: str) -> list:
    """The packages that `root` needs at run time, workspace members aside."""
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    members = set(metadata["workspace_members"])
    todo = [id for id in members if packages[id]["name"] == root]
    seen = set(todo)
    while todo:
        for dependency in nodes[todo.pop()]["deps"]:
            normal = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if normal and dependency["pkg"] not in seen:
                seen.add(dependency["pkg"])
                todo.append(dependency["pkg"])
    return sorted((packages[id] for id in seen - members), key=lambda package: package["name"])


def main() -> None:
    root, folder = sys.argv[1], Path(sys.argv[2])
    summary = []
    for package in linked(json.load(sys.stdin), root):
        name = f"{package['name']}-{package['version']}"
        summary.append(f"{name}: {package['license'] or 'see its file'}  {package['repository'] or ''}".rstrip())
        for path in sorted(Path(package["manifest_path"]).parent.iterdir()):
            if path.is_file() and re.match(r"licen[cs]e|copying|notice|unlicense", path.name, re.IGNORECASE):
                (folder / name).mkdir(exist_ok=True)
                shutil.copyfile(path, folder / name / path.name)
    (folder / "SUMMARY").write_text("\n".join(summary) + "\n")


if __name__ == "__main__":
    main()
