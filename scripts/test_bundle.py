"""Tests of the bundle's wrapper: which libtorch it takes, and what it says where there is none."""

import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

WRAPPER = Path(__file__).resolve().parent / "bundle" / "rankfold"


class Wrapper(unittest.TestCase):
    def setUp(self) -> None:
        self.home = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.home)
        self.bundle = self.home / "the bundle"
        (self.bundle / "lib").mkdir(parents=True)
        shutil.copy(WRAPPER, self.bundle)
        # In place of the program, one that says with what it was started.
        program = self.bundle / "lib" / "rankfold"
        program.write_text('#!/bin/sh\nprintf "%s|" "$LD_LIBRARY_PATH" "$@"\n')
        program.chmod(0o755)
        self.bin = self.home / "bin"
        self.bin.mkdir()
        for name in ("sh", "dirname", "readlink", "sed", "cat"):
            (self.bin / name).symlink_to(shutil.which(name))

    def libtorch(self, folder: Path, version: str, file: str = "build-version") -> Path:
        (folder / "lib").mkdir(parents=True)
        (folder / "lib" / "libtorch_cpu.so").touch()
        text = f"{version}\n" if file == "build-version" else f"from typing import Optional\n__version__ = '{version}'\n"
        (folder / file).write_text(text)
        return folder

    def python(self, packages: Path) -> None:
        """Puts a python3 on the path that finds packages in that folder alone."""
        script = self.bin / "python3"
        script.write_text(f'#!/bin/sh\nPYTHONPATH="{packages}" exec "{sys.executable}" -S "$@"\n')
        script.chmod(0o755)

    def start(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        environment = {"PATH": str(self.bin), "HOME": str(self.home), **environment}
        command = [str(self.bundle / "rankfold"), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    def test_the_one_that_is_named(self) -> None:
        named = self.libtorch(self.home / "named", "2.11.0+cpu")
        done = self.start("eval", "a b", LIBTORCH=str(named), LD_LIBRARY_PATH="/other")
        self.assertEqual(done.stdout, f"{named}/lib:/other|eval|a b|", done.stderr)

    def test_the_one_of_the_active_python(self) -> None:
        package = self.libtorch(self.home / "site" / "torch", "2.11.0+cu130", "version.py")
        (package / "__init__.py").write_text("raise RuntimeError('must not be imported')\n")
        self.python(package.parent)
        done = self.start("zoo")
        self.assertEqual(done.stdout, f"{package}/lib|zoo|", done.stderr)

    def test_the_cache_where_python_has_none(self) -> None:
        self.python(self.home)
        cached = self.libtorch(self.home / ".cache" / "rankfold" / "libtorch-2.11.0", "2.11.0")
        done = self.start()
        self.assertEqual(done.stdout, f"{cached}/lib|", done.stderr)

    def test_through_a_link(self) -> None:
        named = self.libtorch(self.home / "named", "2.11.0")
        (self.bin / "rankfold").symlink_to(self.bundle / "rankfold")
        environment = {"PATH": str(self.bin), "LIBTORCH": str(named)}
        done = subprocess.run([self.bin / "rankfold"], env=environment, capture_output=True, text=True)
        self.assertEqual(done.stdout, f"{named}/lib|", done.stderr)

    def test_another_version_is_refused_by_name(self) -> None:
        package = self.libtorch(self.home / "site" / "torch", "2.9.1+cu128", "version.py")
        (package / "__init__.py").touch()
        self.python(package.parent)
        done = self.start()
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn(f"{package} is libtorch 2.9.1", done.stderr)
        self.assertIn("hint: ", done.stderr)

    def test_one_that_is_named_and_unfit_is_not_passed_over(self) -> None:
        self.libtorch(self.home / ".cache" / "rankfold" / "libtorch-2.11.0", "2.11.0")
        done = self.start(LIBTORCH=str(self.home / "nowhere"))
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn(f"LIBTORCH={self.home}/nowhere", done.stderr)


if __name__ == "__main__":
    unittest.main()
