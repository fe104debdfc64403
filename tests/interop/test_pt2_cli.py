"""Archives of `torch.export` through the command: what `compress` and `export` write, loaded by PyTorch.

At full rank the model computes what it computed; with half its parameters PyTorch computes what Rankfold itself does,
and so does model.py; the report tells the file's true size. The long set does that with torchvision's networks.
"""

import json
import runpy
import tempfile
import unittest
from pathlib import Path

import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

from support import FULL, call, randomize
from test_onnx_cli import NETWORKS, SMALL, Sentences, full_ranks
from test_pt2 import distance, tensors

EQUAL = 1e-4


def export(module: nn.Module, inputs: list, path: Path) -> None:
    """Writes an archive whose first dimension is open."""
    shapes = tuple({0: torch.export.Dim("batch", min=1, max=64)} for _ in inputs)
    with torch.enable_grad():
        torch.export.save(torch.export.export(module, tuple(inputs), dynamic_shapes=shapes), path)


def run(path: Path, inputs: list) -> list:
    return tensors(torch.export.load(path).module()(*inputs))


def parameters(program: torch.export.ExportedProgram) -> tuple:
    """How many parameters a node reads, and how many are carried along: torchvision's GoogLeNet has its training heads."""
    names = program.graph_signature.inputs_to_parameters
    read = {node.name for node in program.graph.nodes if node.op == "placeholder" and node.users}
    sizes = {name: program.state_dict[key].numel() for name, key in names.items()}
    used = sum(size for name, size in sizes.items() if name in read)
    return used, sum(sizes.values()) - used


class Pt2Command(unittest.TestCase):
    def check(self, name: str, module: nn.Module, inputs: list, network: bool) -> None:
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            path = folder / f"{name}.pt2"
            export(module, inputs, path)
            expected = run(path, inputs)
            (folder / "ranks.toml").write_text(full_ranks(path))
            call("rankfold", "compress", path, "--ranks", folder / "ranks.toml", "--output", folder / "full")
            error = distance(run(folder / "full/model.pt2", inputs), expected)
            print(f"{name} full {error:.1e} ", end="", flush=True)
            self.assertLessEqual(error, EQUAL, "full rank")

            forms = ["--forms", "svd,channel"] if network else []
            call("rankfold", "compress", path, "--params-removed", "50%", *forms, "--output", folder / "half")
            half = folder / "half/model.pt2"
            report = json.loads((folder / "half/report.json").read_text())
            self.assertEqual(report["before"]["bytes"], path.stat().st_size)
            self.assertEqual(report["after"]["bytes"], half.stat().st_size)
            self.assertLessEqual(report["after"]["parameters"], report["before"]["parameters"] / 2)
            program = torch.export.load(half)
            used, carried = parameters(program)
            self.assertEqual(used, report["after"]["parameters"])
            torch.export.unflatten(program)
            program.run_decompositions()
            found = tensors(program.module()(*inputs))
            for kept, given in zip(program.example_inputs[0], inputs, strict=True):
                self.assertTrue(torch.equal(kept, given), "the inputs that it was exported with")
            if network:
                carried += sum(given.numel() for given in inputs)
                self.assertLess(half.stat().st_size - 4 * carried, 0.6 * (path.stat().st_size - 4 * carried))
                torch.compiler.reset()
                compiled = torch.compile(program.module(), backend="aot_eager")
                self.assertLessEqual(distance(tensors(compiled(*inputs)), found), EQUAL, "compiled")
            save_file({f"input.{i}": v.contiguous() for i, v in enumerate(inputs)}, folder / "in.safetensors")
            call("interop-forward", "file", folder / "half/model.safetensors", folder / "in.safetensors",
                 folder / "out.safetensors")
            own = load_file(folder / "out.safetensors")
            error = distance(found, [own[f"output.{i}"] for i in range(len(own))])
            print(f"half {error:.1e} ", end="", flush=True)
            self.assertLessEqual(error, EQUAL, "half the parameters")
            if (folder / "half/model.py").exists():
                own = runpy.run_path(str(folder / "half/model.py"))["load"](folder / "half/model.safetensors")
                self.assertLessEqual(distance(tensors(own(*inputs)), found), EQUAL, "model.py")

    def small(self, name: str) -> None:
        kind, inputs = SMALL[name]
        self.check(name, randomize(kind(), 4), inputs, network=False)

    def network(self, name: str) -> None:
        extra = {"init_weights": False} if name == "googlenet" else {}
        module = randomize(torchvision.models.get_model(name, weights=None, **extra), 5)
        self.check(name, module, [torch.rand((2, 3, 224, 224), generator=torch.Generator().manual_seed(6))], network=True)

    def test_channels_that_do_nothing_go_and_the_values_after_them_are_smaller(self) -> None:
        module = nn.Sequential(
            nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5),
        )
        randomize(module, 7)
        with torch.no_grad():
            module[1].weight[4:12] = 0
            module[1].bias[4:12] = -1
        images = torch.rand((4, 3, 10, 10), generator=torch.Generator().manual_seed(6))
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            export(module, [images], folder / "model.pt2")
            save_file({"x": images}, folder / "x.safetensors")
            call("rankfold", "prune", folder / "model.pt2", "--nodes", "activation-count", "--epochs", "0",
                 "--data", f"tensors:{folder / 'x.safetensors'}", "--output", folder / "out")
            program = torch.export.load(folder / "out/model.pt2")
            widths = {tuple(node.meta["val"].shape[1:]) for node in program.graph.nodes if node.op == "call_function"}
            self.assertIn((8, 8, 8), widths)
            self.assertNotIn((16, 8, 8), widths)
            self.assertLessEqual(distance(run(folder / "out/model.pt2", [images]), [module.eval()(images)]), EQUAL)

    def test_classes_of_sequences_are_fitted_to_tokens(self) -> None:
        """Fewer positions than a layer has outputs, and more."""
        for positions in (7, 120):
            with self.subTest(positions=positions), tempfile.TemporaryDirectory() as folder:
                folder = Path(folder)
                torch.manual_seed(2)
                tokens = torch.randint(0, 50, (200, positions))
                path, data = folder / "sentences.pt2", f"tensors:{folder}/tokens.safetensors"
                export(Sentences().eval(), [tokens[:2]], path)
                save_file({"tokens": tokens}, folder / "tokens.safetensors")
                small = folder / "small"
                call("rankfold", "compress", path, "--params-removed", "20%", "--data", data, "--output", small)
                report = json.loads((small / "report.json").read_text())
                removed = 1 - report["after"]["parameters"] / report["before"]["parameters"]
                self.assertTrue(0.2 <= removed < 0.3, removed)
                compared = json.loads(call("rankfold", "compare", path, small, "--data", data, "--json"))
                self.assertGreater(compared["agreement"], 90)
                self.assertIn("block.up", [value["name"] for value in compared["values"]])
                save_file({"tokens": tokens.float()}, folder / "tokens.safetensors")
                with self.assertRaisesRegex(AssertionError, "found floats"):
                    call("rankfold", "compare", path, small, "--data", data)

    def test_a_zoo_network_and_an_onnx_model_become_archives(self) -> None:
        images = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(6))
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            call("rankfold", "compress", "zoo:resnet20", "--params-removed", "50%", "--output", folder / "out")
            expected = runpy.run_path(str(folder / "out/model.py"))["load"](folder / "out/model.safetensors")(images)
            call("rankfold", "export", folder / "out", "--to", "pt2", "--output", folder / "model.pt2")
            self.assertLessEqual(distance(run(folder / "model.pt2", [images]), [expected]), EQUAL)
            call("rankfold", "export", folder / "model.pt2", "--to", "onnx", "--output", folder / "model.onnx")
            call("rankfold", "export", folder / "model.onnx", "--to", "pt2", "--output", folder / "again.pt2")
            self.assertLessEqual(distance(run(folder / "again.pt2", [images]), [expected]), EQUAL)


def add(method: str, name: str) -> None:
    def test(self: Pt2Command) -> None:
        getattr(self, method)(name)

    setattr(Pt2Command, f"test_{name}", test)


for name in SMALL:
    add("small", name)
for name in NETWORKS if FULL else []:
    add("network", name)

if __name__ == "__main__":
    unittest.main()
