"""Quantised and clustered models: ONNX Runtime and PyTorch compute what Rankfold does, to a step or two of 8 bits."""

import runpy
import tempfile
import unittest
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from safetensors.torch import load_file, save_file

from support import call
from test_onnx import run

LAYERS = 20


def tuned(path: Path, inputs: np.ndarray) -> np.ndarray:
    """ONNX Runtime's output with all its rewriting: convolutions and sums of whole numbers."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: inputs})[0]


class Quantized(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.kept = tempfile.TemporaryDirectory()
        cls.folder = Path(cls.kept.name)
        cls.inputs = torch.rand((4, 3, 32, 32), generator=torch.Generator().manual_seed(3))
        save_file({"input": cls.inputs}, cls.folder / "in.safetensors")

    @classmethod
    def tearDownClass(cls) -> None:
        cls.kept.cleanup()

    def outputs(self, model: Path) -> np.ndarray:
        results = self.folder / "out.safetensors"
        call("interop-forward", "file", model / "model.safetensors", self.folder / "in.safetensors", results)
        return load_file(results)["output.0"].numpy()

    def module(self, model: Path) -> np.ndarray:
        network = runpy.run_path(str(model / "model.py"))["load"](model / "model.safetensors")
        return network(self.inputs).numpy()

    def test_onnx_runtime_and_pytorch_compute_the_same(self) -> None:
        out, path = self.folder / "int8", self.folder / "int8.onnx"
        call("rankfold", "quantize", "zoo:resnet20", "--data", "shapes", "--calibrate", "64", "--split", "test[:16]",
             "--output", out)
        own = self.outputs(out)
        call("rankfold", "export", out, "--to", "onnx", "--output", path)
        onnx.checker.check_model(str(path), full_check=True)
        model = onnx.load(path)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        names = {tensor.name: tensor for tensor in model.graph.initializer}
        weights = [name for name in names if name.endswith(".weight.codes")]
        self.assertEqual(len(weights), LAYERS)
        for name in weights:
            codes, scales = (numpy_helper.to_array(names[n]) for n in (name, name.replace(".codes", ".scale")))
            self.assertEqual((codes.dtype, scales.shape), (np.int8, codes.shape[:1]))
        # A sum that falls on the other side of a half is a step early on, and may be one or two at the end.
        step = (own.max() - own.min()) / 255
        for what, found in [("as written", run(path, [self.inputs.numpy()])[0]),
                            ("in whole numbers", tuned(path, self.inputs.numpy())), ("model.py", self.module(out))]:
            error = np.abs(found - own).max()
            print(f"{what} {error:.1e} ", end="", flush=True)
            self.assertLessEqual(error, 2 * step, what)

    def test_a_code_book_is_decoded_by_the_module(self) -> None:
        for how in (["--book", "5"], ["--book", "256"], ["--decimals", "2"]):
            out = self.folder / "-".join(how)
            call("rankfold", "cluster", "zoo:resnet20", *how, "--output", out)
            own = self.outputs(out)
            self.assertLessEqual(np.abs(self.module(out) - own).max(), 1e-4 * np.abs(own).max(), how)
