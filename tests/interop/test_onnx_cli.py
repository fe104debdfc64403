"""Exported ONNX models through the command: what `compress` and `export` write, run by ONNX Runtime.

A model compressed at full rank computes what it computed; with half its parameters ONNX Runtime computes what
Rankfold itself does; the checker and shape inference accept the file; the report tells its true size. The long set
does that with torchvision's networks, exported by both of PyTorch's exporters.
"""

import json
import re
import runpy
import subprocess
import tempfile
import unittest
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
import torchvision
from safetensors.numpy import load_file, save_file
from torch import nn

from support import FULL, call, program, randomize
from test_onnx import distance, run

EQUAL = 1e-4
# Exact decompositions of many large matrices would take minutes.
LARGE, MANY = 512, 4


class ConvNet(nn.Module):
    """Convolutions with their batch norms, one with a stride and uneven sides, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32)
        self.wide = nn.Conv2d(32, 48, (3, 5), padding=(1, 2), dilation=(1, 1))
        self.depthwise = nn.Conv2d(48, 48, 3, padding=1, groups=48)
        self.point = nn.Conv2d(48, 64, 1)
        self.head = nn.Linear(64, 40)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(self.point(self.depthwise(torch.relu(self.wide(x)))))
        return self.head(x.mean((2, 3)))


class Sequence(nn.Module):
    """One-dimensional convolutions, a product without a bias, one with, and what they are added to."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(24, 48, 5, padding=2), nn.Conv1d(48, 32, 3, stride=2)
        self.matrix = nn.Parameter(torch.randn(32, 64))
        self.bias = nn.Parameter(torch.randn(64))
        self.last = nn.Linear(64, 16, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.second(torch.relu(self.first(x)))).transpose(1, 2)
        return self.last(torch.tanh(torch.matmul(x, self.matrix) + self.bias))


class Block(nn.Module):
    """An encoder layer as PyTorch has it, after an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 32)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.norm = nn.LayerNorm(32)
        self.up, self.down = nn.Linear(32, 96), nn.Linear(96, 32)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        x = self.norm(x + self.attention(x, x, x, need_weights=False)[0])
        return x + self.down(nn.functional.gelu(self.up(x)))


class Sentences(nn.Module):
    """Classes of sequences, by the mean over their positions."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.head = Block(), nn.Linear(32, 5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.block(tokens).mean(1))


class TwoInputs(nn.Module):
    """Two inputs, two outputs that are no class scores."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.mix = nn.Linear(24, 64), nn.Conv2d(3, 64, 3), nn.Linear(64, 64)

    def forward(self, vector: torch.Tensor, image: torch.Tensor):
        x = torch.relu(self.a(vector))[:, :, None, None] + torch.relu(self.b(image))
        return self.mix(x.mean((2, 3))), x


class Unknown(nn.Module):
    """An op in the middle that Rankfold does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 48, 3, padding=1), nn.Conv2d(48, 48, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.cumsum(torch.relu(self.a(x)), 1))


torch.manual_seed(1)
SMALL = {
    "convnet": (ConvNet, [torch.rand(2, 3, 24, 20)]),
    "sequence": (Sequence, [torch.rand(2, 24, 30)]),
    "block": (Block, [torch.arange(14).reshape(2, 7)]),
    "two_inputs": (TwoInputs, [torch.rand(2, 24), torch.rand(2, 3, 8, 8)]),
}
NETWORKS = ["alexnet", "resnet18", "mobilenet_v2", "squeezenet1_1", "densenet121", "efficientnet_b0", "convnext_tiny",
            "vit_b_16", "googlenet", "vgg11"]


def export(module: nn.Module, inputs: list, path: Path, dynamo: bool) -> None:
    """Writes an ONNX model whose first dimension is open."""
    names = [f"in{i}" for i in range(len(inputs))]
    # Without gradients PyTorch takes a fast path through attention that the older exporter does not know.
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        if dynamo:
            shapes = tuple({0: torch.export.Dim("batch", min=1, max=64)} for _ in inputs)
            torch.onnx.export(module, tuple(inputs), path, dynamo=True, dynamic_shapes=shapes, verbose=False,
                              input_names=names, external_data=False)
        else:
            torch.onnx.export(module, tuple(inputs), path, dynamo=False, opset_version=17, input_names=names,
                              dynamic_axes={name: {0: "batch"} for name in names})


def full_ranks(path: Path) -> str:
    """A file of ranks at which every layer is what it was."""
    lines, large = [], 0
    for layer in json.loads(call("rankfold", "inspect", path, "--json"))["layers"]:
        rank = min(layer["shape"][0], int(np.prod(layer["shape"][1:]))) if layer["shape"] else 0
        form = {"linear": "svd", "conv 1×1": "svd", "conv": "channel"}.get(layer["kind"])
        large += rank > LARGE
        if form and (rank <= LARGE or rank <= 2 * LARGE and large <= MANY):
            lines.append(f'"{layer["name"]}" = {{ rank = {rank}, form = "{form}" }}')
    return "\n".join(lines)


class OnnxCommand(unittest.TestCase):
    def accepted(self, path: Path) -> None:
        """The checker and strict shape inference say nothing."""
        onnx.checker.check_model(str(path), full_check=True)
        onnx.shape_inference.infer_shapes(onnx.load(path), check_type=True, strict_mode=True, data_prop=True)

    def check(self, name: str, path: Path, inputs: list, runs: bool = True, module: bool = True,
              network: bool = False) -> None:
        given = [value.numpy() for value in inputs]
        expected = run(path, given)
        folder = path.parent
        (folder / "ranks.toml").write_text(full_ranks(path))
        call("rankfold", "compress", path, "--ranks", folder / "ranks.toml", "--output", folder / "full")
        self.accepted(folder / "full/model.onnx")
        error = distance(run(folder / "full/model.onnx", given), expected)
        print(f"{name} full {error:.1e} ", end="", flush=True)
        self.assertLessEqual(error, EQUAL, "full rank")

        # The forms that plan quickly, where there are many layers.
        forms = ["--forms", "svd,channel"] if network else []
        call("rankfold", "compress", path, "--params-removed", "50%", *forms, "--output", folder / "half")
        half = folder / "half/model.onnx"
        self.accepted(half)
        report = json.loads((folder / "half/report.json").read_text())
        self.assertEqual(report["before"]["bytes"], path.stat().st_size)
        self.assertEqual(report["after"]["bytes"], half.stat().st_size)
        self.assertLessEqual(report["after"]["parameters"], report["before"]["parameters"] / 2)
        # Of the small ones a good part is not weights.
        self.assertLess(half.stat().st_size, path.stat().st_size * (0.6 if network else 0.95))
        found = run(half, given)
        if runs:
            save_file({f"input.{i}": np.ascontiguousarray(v) for i, v in enumerate(given)}, folder / "in.safetensors")
            call("interop-forward", "file", folder / "half/model.safetensors", folder / "in.safetensors",
                 folder / "out.safetensors")
            own = load_file(folder / "out.safetensors")
            error = distance(found, [own[f"output.{i}"] for i in range(len(own))])
            print(f"half {error:.1e} ", end="", flush=True)
            self.assertLessEqual(error, EQUAL, "half the parameters")
        self.assertEqual((folder / "half/model.py").exists(), module)
        if module:
            network = runpy.run_path(str(folder / "half/model.py"))["load"](folder / "half/model.safetensors")
            with torch.no_grad():
                outputs = network(*inputs)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            error = distance([value.numpy() for value in outputs], found)
            print(f"model.py {error:.1e} ", end="", flush=True)
            self.assertLessEqual(error, EQUAL, "model.py")

    def small(self, name: str, dynamo: bool) -> None:
        kind, inputs = SMALL[name]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.onnx"
            export(randomize(kind(), 4), inputs, path, dynamo)
            self.check(name, path, inputs)

    def network(self, name: str, dynamo: bool) -> None:
        extra = {"init_weights": False} if name == "googlenet" else {}
        module = randomize(torchvision.models.get_model(name, weights=None, **extra), 5)
        images = torch.rand((2, 3, 224, 224), generator=torch.Generator().manual_seed(6))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.onnx"
            export(module, [images], path, dynamo)
            self.check(name, path, [images], network=True)

    def test_an_op_that_is_not_known(self) -> None:
        """Compressing works on the weights; running names the op."""
        inputs = [torch.rand(2, 3, 6, 6)]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "unknown.onnx"
            export(randomize(Unknown(), 4), inputs, path, False)
            self.check("unknown", path, inputs, runs=False, module=False)
            save_file({"in0": np.ones((16, 3, 6, 6), np.float32)}, Path(folder) / "data.safetensors")
            data = f"tensors:{folder}/data.safetensors"
            done = subprocess.run([program("rankfold"), "compare", path, Path(folder) / "half", "--data", data],
                                  capture_output=True, text=True)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("CumSum", done.stderr)

    def test_several_inputs_calibrate_and_compare(self) -> None:
        kind, inputs = SMALL["two_inputs"]
        generator = np.random.default_rng(3)
        tensors = {
            "in0": generator.standard_normal((64, 24), np.float32),
            "in1": generator.standard_normal((64, 3, 8, 8), np.float32),
        }
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            path, out = folder / "two.onnx", folder / "out"
            export(randomize(kind(), 4), inputs, path, False)
            save_file(tensors, folder / "data.safetensors")
            data = f"tensors:{folder}/data.safetensors"
            call("rankfold", "compress", path, "--params-removed", "50%", "--data", data, "--output", out)
            report = json.loads((out / "report.json").read_text())
            self.assertTrue(any(layer["response_error"] is not None for layer in report["layers"]))
            compared = json.loads(call("rankfold", "compare", path, out, "--data", data, "--json"))
            found = {value["name"]: value["relative_error"] for value in compared["outputs"]}
            given = [tensors["in0"], tensors["in1"]]
            before, after = run(path, given), run(out / "model.onnx", given)
            for (name, error), a, b in zip(found.items(), before, after, strict=True):
                expected = np.linalg.norm(a - b) / np.linalg.norm(a)
                self.assertAlmostEqual(error, expected, delta=1e-3 * expected, msg=name)

    def test_an_exported_zoo_network(self) -> None:
        images = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(6))
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            call("rankfold", "compress", "zoo:resnet20", "--params-removed", "50%", "--output", folder / "out")
            module = runpy.run_path(str(folder / "out/model.py"))["load"](folder / "out/model.safetensors")
            call("rankfold", "export", folder / "out", "--to", "onnx", "--output", folder / "model.onnx")
            self.accepted(folder / "model.onnx")
            with torch.no_grad():
                expected = module(images).numpy()
            error = distance(run(folder / "model.onnx", [images.numpy()]), [expected])
            self.assertLessEqual(error, EQUAL)
            # And back: what an ONNX model holds, as a file that describes itself.
            call("rankfold", "export", folder / "model.onnx", "--to", "safetensors", "--output", folder / "back.safetensors")
            save_file({"input": images.numpy()}, folder / "in.safetensors")
            call("interop-forward", "file", folder / "back.safetensors", folder / "in.safetensors",
                 folder / "out.safetensors")
            error = distance([load_file(folder / "out.safetensors")["output.0"]], [expected])
            self.assertLessEqual(error, EQUAL)


def add(method: str, name: str, dynamo: bool) -> None:
    def test(self: OnnxCommand) -> None:
        getattr(self, method)(name, dynamo)

    exporter = "dynamo" if dynamo else "script"
    setattr(OnnxCommand, "test_" + re.sub(r"\W", "_", name) + "_" + exporter, test)


for name in SMALL:
    for dynamo in (False, True) if FULL or name == "block" else (False,):
        add("small", name, dynamo)
for name in NETWORKS if FULL else []:
    for dynamo in (False, True):
        add("network", name, dynamo)

if __name__ == "__main__":
    unittest.main()
