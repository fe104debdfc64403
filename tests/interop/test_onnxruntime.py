"""ONNX Runtime as an engine of the command: `bench` runs files on it, `compress --latency` plans by its clock."""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from support import call, program

os.environ["VIRTUAL_ENV"] = sys.prefix


class OnnxRuntime(unittest.TestCase):
    """The library of the wheel that these tests import."""

    def setUp(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.at = Path(self.folder.name)
        self.dense = self.at / "dense.onnx"
        call("rankfold", "export", "zoo:resnet18", "--input-side", "64", "--to", "onnx", "-o", self.dense)

    def tearDown(self) -> None:
        self.folder.cleanup()

    def test_files_run_on_both_engines_and_other_models_where_asked(self) -> None:
        options = ["--batch", "2", "--repeat", "3", "--json"]
        rows = json.loads(call("rankfold", "bench", self.dense, *options))["rows"]
        self.assertEqual([row["engine"] for row in rows], ["libtorch", "onnxruntime"])
        self.assertTrue(all(row["median_ms"] > 0 for row in rows))
        rows = json.loads(call("rankfold", "bench", "zoo:resnet20", "--engine", "onnxruntime", *options))["rows"]
        self.assertEqual([row["engine"] for row in rows], ["onnxruntime"])

    def test_a_budget_of_time_is_kept_by_its_clock(self) -> None:
        out = self.at / "out"
        options = ["--latency", "1.2x", "--engine", "onnxruntime", "--only", "layer4.*", "-o", out]
        options += ["--forms", "cp3", "--select", "weight-error", "--timings", self.at / "timings.json"]
        command = [program("rankfold"), "compress", self.dense, *options]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if done.returncode == 5:
            # Other work on the machine may have kept it from being met, which must then be said.
            self.assertRegex(done.stderr, "no model was found|cannot be met")
            return
        self.assertEqual(done.returncode, 0, done.stderr)
        report = json.loads((out / "report.json").read_text())
        latency = report["adjustments"]["latency"]
        self.assertEqual(latency["engine"], "onnxruntime")
        [taken] = [one for one in latency["tries"] if one.get("taken")]
        self.assertLess(taken["measured_ms"], taken["original_ms"] / 1.2)
        ranks = [layer["rank"] for layer in report["layers"] if layer["form"] == "cp3"]
        self.assertTrue(ranks and all(rank % 16 == 0 for rank in ranks), ranks)

    def test_a_library_that_is_none_is_named(self) -> None:
        wrong = self.at / "libonnxruntime.so"
        wrong.write_bytes(b"none")
        for library in (wrong, self.at / "missing.so"):
            command = [program("rankfold"), "bench", self.dense, "--engine", "onnxruntime", "--onnxruntime", library]
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(str(library), done.stderr)
            self.assertNotIn("panicked", done.stderr)
