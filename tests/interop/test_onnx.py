"""ONNX models against ONNX Runtime: written untouched, made anew and patched, they compute what they computed.

Where every op is known, Rankfold's own run of the model gives the same too. The long set exports torchvision's
networks with both of PyTorch's exporters.
"""

import tempfile
import unittest
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import torchvision
from safetensors.numpy import load_file, save_file

from support import FULL, call, randomize

FIXTURES = Path(__file__).resolve().parents[2] / "crates/rankfold-formats/tests/fixtures/onnx"
# The largest relative difference that counts as equal, where the arithmetic is another.
EQUAL = {np.dtype(np.float32): 1e-4, np.dtype(np.float16): 2e-3}


def run(path: Path, inputs: list) -> list:
    """ONNX Runtime's outputs, without its rewriting."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options)
    return session.run(None, {given.name: value for given, value in zip(session.get_inputs(), inputs, strict=True)})


def distance(found: list, expected: list) -> float:
    """The largest difference over the largest expected magnitude, of all outputs."""

    def one(a, b):
        if a.shape != b.shape or not np.isfinite(a).all():
            return float("inf")
        a, b = a.astype(np.float64), b.astype(np.float64)
        return np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)

    return max(one(a, b) for a, b in zip(found, expected, strict=True))


class Onnx(unittest.TestCase):
    def check(self, path: Path, inputs: list) -> None:
        """Every way of writing `path` again; all but opaque ops run in Rankfold too."""
        expected = run(path, inputs)
        equal = EQUAL[expected[0].dtype]
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            for mode in ("same", "external", "patched", "fresh"):
                again = folder / f"{mode}.onnx"
                if mode != "fresh":
                    opaque = call("interop-reexport", path, again, mode).split()
                elif opaque:
                    continue
                else:
                    call("interop-reexport", path, again, mode)
                onnx.checker.check_model(str(again), full_check=True)
                error = distance(run(again, inputs), expected)
                self.assertLessEqual(error, equal if mode in ("patched", "fresh") else 0, f"{path.stem} {mode}")
                if mode == "same":
                    self.preserved(path, again)
            if opaque:
                print(f"{path.stem}: not run, {', '.join(sorted(set(opaque)))} ", end="", flush=True)
                return
            model, given, results = folder / "model.safetensors", folder / "in.safetensors", folder / "out.safetensors"
            call("interop-reexport", path, model, "described")
            save_file({f"input.{i}": np.ascontiguousarray(value) for i, value in enumerate(inputs)}, given)
            call("interop-forward", "file", model, given, results)
            found = load_file(results)
            error = distance([found[f"output.{i}"] for i in range(len(found))], expected)
            print(f"{path.stem} {error:.1e} ", end="", flush=True)
            self.assertLessEqual(error, equal, path.stem)

    def preserved(self, path: Path, again: Path) -> None:
        """What the graph does not hold is there, and no weight was lost or doubled."""
        before, after = onnx.load(path), onnx.load(again)
        for field in ("ir_version", "opset_import", "producer_name", "metadata_props", "functions", "doc_string"):
            self.assertEqual(getattr(before, field), getattr(after, field), f"{path.stem} {field}")
        self.assertEqual(before.graph.input, after.graph.input)
        self.assertEqual(before.graph.output, after.graph.output)
        nodes = {tuple(node.output): node for node in before.graph.node}
        for node in after.graph.node:
            self.assertEqual(node, nodes[tuple(node.output)])
        size = sum(np.prod(t.dims, dtype=int) for t in before.graph.initializer)
        constants = sum(1 for node in before.graph.node if node.op_type in ("Constant", "Identity"))
        found = sum(np.prod(t.dims, dtype=int) for t in after.graph.initializer)
        self.assertTrue(found == size or constants, f"{path.stem}: {size} elements became {found}")


def add_fixture(path: Path) -> None:
    def test(self):
        base = path.stem.removesuffix("_dynamo")
        tensors = load_file(FIXTURES / f"{'convs' if base in ('external', 'typed') else base}.safetensors")
        self.check(path, [tensors[name] for name in sorted(tensors) if name.startswith("input")])

    setattr(Onnx, f"test_{path.stem}", test)


for fixture in sorted(FIXTURES.glob("*.onnx")):
    add_fixture(fixture)

NETWORKS = ["resnet18", "squeezenet1_1", "mobilenet_v2", "efficientnet_b0", "googlenet", "densenet121",
            "convnext_tiny", "vit_b_16", "alexnet", "vgg11", "shufflenet_v2_x0_5", "mnasnet0_5", "regnet_y_400mf",
            "swin_t", "inception_v3"]


def add_network(name: str, dynamo: bool) -> None:
    def test(self):
        extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        module = randomize(torchvision.models.get_model(name, weights=None, **extra), 5)
        side = 299 if name == "inception_v3" else 224
        images = torch.rand((2, 3, side, side), generator=torch.Generator().manual_seed(6))
        # Without gradients PyTorch takes a fast path through attention that the older exporter does not know.
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            path = Path(folder) / f"{name}.onnx"
            if dynamo:
                shapes = ({0: torch.export.Dim("batch", min=1, max=64)},)
                torch.onnx.export(module, (images,), path, dynamo=True, dynamic_shapes=shapes, verbose=False,
                                  external_data=False)
            else:
                torch.onnx.export(module, (images,), path, dynamo=False, opset_version=17,
                                  input_names=["images"], dynamic_axes={"images": {0: "batch"}})
            self.check(path, [images.numpy()])

    setattr(Onnx, f"test_{name}_{'dynamo' if dynamo else 'script'}", test)


for name in NETWORKS if FULL else ["squeezenet1_1"]:
    for dynamo in (False, True):
        add_network(name, dynamo)

if __name__ == "__main__":
    unittest.main()
