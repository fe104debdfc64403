"""Tests of the set-up: interrupted, twice at once, told of a libtorch that is there or is none."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent

# Fills a folder slowly and counts in a file how often it began.
FILLER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from cache import put_in_place
folder, begun, seconds = Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])
def fill(tree, kept):
    with open(begun, "a") as file:
        file.write("x")
    (kept / "fetched").touch()
    (tree / "first").write_text("1")
    time.sleep(seconds)
    (tree / "second").write_text("2")
put_in_place(folder, (folder / "second").is_file, fill)
"""


class PutInPlace(unittest.TestCase):
    def setUp(self) -> None:
        self.home = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.home)
        self.folder = self.home / "cache" / "thing"
        self.begun = self.home / "begun"

    def start(self, seconds: float) -> subprocess.Popen:
        arguments = [str(SCRIPTS), str(self.folder), str(self.begun), str(seconds)]
        return subprocess.Popen([sys.executable, "-c", FILLER, *arguments], stderr=subprocess.PIPE)

    def assert_whole(self) -> None:
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["first", "second"])
        self.assertEqual(sorted(path.name for path in self.folder.parent.iterdir()), ["thing", "thing.lock"])

    def wait_for(self, path: Path) -> None:
        for _ in range(500):
            if path.exists():
                return
            time.sleep(0.01)
        self.fail(f"{path} did not appear")

    def finish(self, process: subprocess.Popen) -> int:
        process.communicate()
        return process.returncode

    def test_two_at_once_fill_it_once(self) -> None:
        both = [self.start(0.5), self.start(0.5)]
        self.assertEqual([self.finish(process) for process in both], [0, 0])
        self.assertEqual(self.begun.read_text(), "x")
        self.assert_whole()

    def test_killed_in_the_middle_it_is_completed_by_the_next(self) -> None:
        first = self.start(60)
        half = self.folder.with_name("thing.partial") / "tree" / "first"
        self.wait_for(half)
        self.assertFalse(self.folder.exists())
        first.send_signal(signal.SIGKILL)
        self.finish(first)
        self.assertFalse(self.folder.exists())
        self.assertTrue((self.folder.with_name("thing.partial") / "kept" / "fetched").exists())
        self.assertEqual(self.finish(self.start(0)), 0)
        self.assertEqual(self.begun.read_text(), "xx")
        self.assert_whole()

    def test_one_that_lacks_a_file_is_made_anew(self) -> None:
        self.assertEqual(self.finish(self.start(0)), 0)
        (self.folder / "second").unlink()
        self.assertEqual(self.finish(self.start(0)), 0)
        self.assert_whole()


class Libtorch(unittest.TestCase):
    """`libtorch.py` in a checkout of its own, with a libtorch that has what the check looks at."""

    def setUp(self) -> None:
        self.home = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.home)
        (self.home / "scripts").mkdir()
        for name in ("libtorch.py", "cache.py"):
            shutil.copy(SCRIPTS / name, self.home / "scripts")
        self.config = self.home / ".cargo" / "config.toml"

    def libtorch(self, version: str) -> Path:
        root = self.home / f"libtorch {version}"
        for name in ("lib/libtorch_cpu.so", "include/torch/script.h"):
            (root / name).parent.mkdir(parents=True)
            (root / name).touch()
        (root / "build-version").write_text(version + "+cpu\n")
        return root

    def run_script(self, libtorch: str, *arguments: str) -> subprocess.CompletedProcess:
        # No pip is found in this environment, so nothing is fetched.
        environment = {"PATH": "/nonexistent", "HOME": str(self.home), "LIBTORCH": libtorch}
        command = [sys.executable, "-S", "-I", "-c", "import runpy, sys; sys.path.insert(0, sys.argv[1]); sys.argv = sys.argv[2:]; runpy.run_path(sys.argv[0], run_name='__main__')"]
        script = str(self.home / "scripts" / "libtorch.py")
        command += [str(self.home / "scripts"), script, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    def test_one_that_is_there_is_taken_and_remembered(self) -> None:
        root = self.libtorch("2.11.0")
        done = self.run_script(str(root))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(f'LIBTORCH = "{root}"', self.config.read_text())
        again = self.run_script("")
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertIn(str(root), again.stderr)

    def test_one_of_another_version_is_refused_with_both_versions(self) -> None:
        done = self.run_script(str(self.libtorch("2.9.1")))
        self.assertEqual(done.returncode, 1)
        self.assertIn("2.9.1", done.stderr)
        self.assertIn("2.11.0 is needed", done.stderr)
        self.assertIn("hint: ", done.stderr)
        self.assertFalse(self.config.exists())

    def test_a_folder_that_is_none_is_refused(self) -> None:
        done = self.run_script(str(self.home))
        self.assertEqual(done.returncode, 1)
        self.assertIn("has no lib/libtorch_cpu.so", done.stderr)

    def test_without_pip_it_says_so(self) -> None:
        done = self.run_script("")
        self.assertEqual(done.returncode, 1)
        self.assertIn("pip is needed", done.stderr)
        self.assertNotIn("Traceback", done.stderr)

    def test_a_config_of_the_users_own_is_left_alone(self) -> None:
        self.config.parent.mkdir()
        self.config.write_text("[build]\njobs = 1\n")
        done = self.run_script(str(self.libtorch("2.11.0")))
        self.assertEqual(done.returncode, 1)
        self.assertIn("add these lines", done.stderr)
        self.assertEqual(self.config.read_text(), "[build]\njobs = 1\n")


@unittest.skipUnless(os.environ.get("RANKFOLD_TEST_DOWNLOADS"), "RANKFOLD_TEST_DOWNLOADS is not set: nothing is fetched")
class Downloads(unittest.TestCase):
    """The real thing: 0.5 GB for each set-up that gets far enough."""

    def test_killed_twice_and_run_twice_at_once_it_ends_whole(self) -> None:
        home = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, home)
        (home / "scripts").mkdir()
        for name in ("libtorch.py", "cache.py"):
            shutil.copy(SCRIPTS / name, home / "scripts")
        environment = {key: value for key, value in os.environ.items() if key != "LIBTORCH"}
        environment["XDG_CACHE_HOME"] = str(home / "cache")
        start = lambda: subprocess.Popen([sys.executable, str(home / "scripts" / "libtorch.py")], env=environment)
        for seconds in (1.5, 4):
            process = start()
            time.sleep(seconds)
            process.kill()
            process.wait()
            self.assertFalse((home / "cache/rankfold/libtorch-2.11.0").exists())
        both = [start(), start()]
        self.assertEqual([process.wait() for process in both], [0, 0])
        found = sorted(path.name for path in (home / "cache" / "rankfold").iterdir())
        self.assertEqual(found, ["libtorch-2.11.0", "libtorch-2.11.0.lock"])
        size = (home / "cache/rankfold/libtorch-2.11.0/lib/libtorch_cpu.so").stat().st_size
        self.assertGreater(size, 400_000_000)


if __name__ == "__main__":
    unittest.main()
