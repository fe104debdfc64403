"""What `compress` writes, loaded by PyTorch: model.py and model.safetensors compute what Rankfold computes."""

import json
import re
import runpy
import struct
import tempfile
import unittest
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from support import FULL, call, distance
from test_zoo import EQUAL, zoo

SMALL = ["lenet5", "resnet20", "lightlayers-cifar10"]


class Module(unittest.TestCase):
    def compare(self, name: str, shape: tuple) -> None:
        inputs = torch.rand((2, *shape), generator=torch.Generator().manual_seed(2))
        with tempfile.TemporaryDirectory() as folder:
            out, given, results = Path(folder) / "out", Path(folder) / "inputs.safetensors", Path(folder) / "outputs.safetensors"
            call("rankfold", "compress", f"zoo:{name}", "--params-removed", "50%", "--output", out)
            save_file({"input": inputs}, given)
            call("interop-forward", "file", out / "model.safetensors", given, results)
            module = runpy.run_path(str(out / "model.py"))["load"](out / "model.safetensors")
            with torch.no_grad():
                expected = module(inputs)
            error = distance(load_file(results)["output.0"], expected)
            with open(out / "model.safetensors", "rb") as file:
                header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        print(f"{error:.1e} ", end="", flush=True)
        self.assertLessEqual(error, EQUAL)
        self.assertEqual(header["__metadata__"]["format"], "pt")
        kept = sum(parameter.numel() for parameter in module.parameters())
        whole = json.loads(call("rankfold", "inspect", f"zoo:{name}", "--json"))["parameters"]
        self.assertLessEqual(kept, whole / 2)


def add_test(name: str) -> None:
    def test(self: Module) -> None:
        self.compare(name, zoo()[name][0])

    setattr(Module, "test_" + re.sub(r"\W", "_", name), test)


for name in zoo() if FULL else SMALL:
    add_test(name)
