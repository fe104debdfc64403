"""`torch.export` archives against PyTorch: written untouched, patched and made anew, they compute what they computed.

PyTorch's own tools must take what was written: `load`, `module`, `unflatten`, `run_decompositions`, `save`, and, in the
long set, `torch.compile`. Where every op is known, Rankfold's own run of the model gives the same too.
"""

import io
import json
import tempfile
import unittest
import warnings
import zipfile
from pathlib import Path

import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch.utils import _pytree as pytree

from support import FULL, call, randomize

FIXTURES = Path(__file__).resolve().parents[2] / "crates/rankfold-formats/tests/fixtures/pt2"
# The largest relative difference that counts as equal, where the arithmetic is another.
EQUAL = {torch.float32: 1e-4, torch.float16: 2e-3, torch.bfloat16: 1e-2}


def tensors(tree) -> list:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def distance(found, expected) -> float:
    """The largest difference over the largest expected magnitude, of all tensors in two trees of outputs."""

    def one(a, b):
        if a.shape != b.shape or a.dtype != b.dtype or not a.isfinite().all():
            return float("inf")
        if not a.numel():
            return 0.0
        return ((a.double() - b.double()).abs().max() / b.double().abs().max().clamp_min(1e-30)).item()

    return max(one(a, b) for a, b in zip(tensors(found), tensors(expected), strict=True))


def program_json(path: Path) -> dict:
    with zipfile.ZipFile(path) as archive:
        (entry,) = [name for name in archive.namelist() if "/models/" in name]
        return json.loads(archive.read(entry))


class Pt2(unittest.TestCase):
    def check(self, path: Path, args: tuple, kwargs: dict, wider: tuple | None = None) -> None:
        """Every way of writing `path` again; `wider` are inputs of other sizes where some are open."""
        source = torch.export.load(path)
        calls = [(args, kwargs)] + ([(wider, kwargs)] if wider else [])
        expected = [source.module()(*a, **k) for a, k in calls]
        broken = self.broken(path, calls)
        self.assertNotIn("module", broken)
        equal = EQUAL[tensors(expected)[0].dtype]
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            opaque = set(call("interop-reexport", path, folder / "same.pt2", "same").split())
            modes = ["same"] if path.stem == "memory" else ["same", "patched"]
            for mode in modes + ([] if opaque else ["fresh"]):
                again = folder / f"{mode}.pt2"
                if mode != "same":
                    call("interop-reexport", path, again, mode)
                allowed = 0 if mode == "same" else equal
                for what, use in self.uses():
                    if what in broken:
                        continue
                    run = use(torch.export.load(again))
                    for (a, k), wanted in zip(calls, expected, strict=True):
                        found = run(*a, **k)
                        if mode != "fresh":
                            self.assertEqual(pytree.tree_structure(found), pytree.tree_structure(wanted))
                        # Decompositions are other arithmetic.
                        limit = max(allowed, equal) if what in ("decomposed", "compiled") else allowed
                        self.assertLessEqual(distance(found, wanted), limit, f"{path.stem} {mode} {what}")
                if mode == "same":
                    self.preserved(path, again)
            if opaque:
                print(f"{path.stem}: not run, {', '.join(sorted(opaque))} ", end="", flush=True)
                return
            model, given, results = folder / "model.safetensors", folder / "in.safetensors", folder / "out.safetensors"
            call("interop-reexport", path, model, "described")
            save_file({f"input.{i}": t.contiguous() for i, t in enumerate(tensors((args, kwargs)))}, given)
            call("interop-forward", "file", model, given, results)
            found = load_file(results)
            # Rankfold computes halves in single precision.
            found = [found[f"output.{i}"].to(wanted.dtype) for i, wanted in enumerate(tensors(expected[0]))]
            error = distance(found, expected[0])
            print(f"{path.stem} {error:.1e} ", end="", flush=True)
            self.assertLessEqual(error, equal, path.stem)

    def uses(self):
        """What PyTorch can make of a program."""

        def saved(program):
            file = io.BytesIO()
            torch.export.save(program, file)
            file.seek(0)
            return torch.export.load(file).module()

        def compiled(program):
            torch.compiler.reset()
            return torch.compile(program.module())

        yield "module", lambda program: program.module()
        yield "unflattened", torch.export.unflatten
        yield "saved", saved
        yield "decomposed", lambda program: program.run_decompositions().module()
        if FULL:
            yield "compiled", compiled

    def broken(self, path: Path, calls: list) -> set:
        """What PyTorch cannot do with the very program that it exported."""
        found = set()
        for what, use in self.uses():
            try:
                run = use(torch.export.load(path))
                for args, kwargs in calls:
                    run(*args, **kwargs)
            except Exception as error:
                print(f"{path.stem}: PyTorch's own is not {what} ({type(error).__name__}) ", end="", flush=True)
                found.add(what)
        return found

    def preserved(self, path: Path, again: Path) -> None:
        """An untouched program keeps every node and every tensor, and its strides."""
        before, after = program_json(path), program_json(again)
        for key in before.keys() | after.keys():
            if key != "graph_module":
                self.assertEqual(before[key], after[key], f"{path.stem} {key}")
        before, after = before["graph_module"], after["graph_module"]
        for key in ("signature", "module_call_graph", "metadata"):
            self.assertEqual(before[key], after[key], f"{path.stem} {key}")
        names = [node["name"] for node in before["graph"]["nodes"]]
        self.assertEqual([node["name"] for node in after["graph"]["nodes"]], names)
        self.assertEqual(before["graph"]["tensor_values"], after["graph"]["tensor_values"])
        old, new = (torch.export.load(p).state_dict for p in (path, again))
        self.assertEqual(list(old), list(new))
        for name, tensor in old.items():
            self.assertTrue(torch.equal(tensor, new[name]), name)
            self.assertEqual((tensor.stride(), tensor.storage_offset()), (new[name].stride(), new[name].storage_offset()))
        aliases = lambda state: {(a, b) for a in state for b in state if state[a].data_ptr() == state[b].data_ptr()}
        self.assertEqual(aliases(old), aliases(new))


def add_fixture(path: Path) -> None:
    def test(self):
        data = load_file(path.with_suffix(".safetensors"))
        inputs = [data[name] for name in sorted(data) if name.startswith("input")]
        program = torch.export.load(path)
        args, kwargs = pytree.tree_unflatten(inputs, program.call_spec.in_spec)
        wider = None
        if program.range_constraints:
            wider = tuple(torch.cat([t, t.roll(1, -1), t[:1]]) for t in args)
        self.check(path, args, kwargs, wider)

    setattr(Pt2, f"test_{path.stem}", test)


for fixture in sorted(FIXTURES.glob("*.pt2")):
    add_fixture(fixture)

NETWORKS = ["resnet18", "mobilenet_v2", "googlenet", "vit_b_16", "squeezenet1_1", "efficientnet_b0", "densenet121",
            "convnext_tiny", "alexnet", "vgg11", "shufflenet_v2_x0_5", "mnasnet0_5", "regnet_y_400mf", "swin_t",
            "inception_v3"]


def add_network(name: str, decomposed: bool) -> None:
    def test(self):
        extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        module = randomize(torchvision.models.get_model(name, weights=None, **extra), 5)
        side = 299 if name == "inception_v3" else 224
        generator = torch.Generator().manual_seed(6)
        few, many = (torch.rand((n, 3, side, side), generator=generator) for n in (2, 3))
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = Path(folder) / f"{name}.pt2"
            program = torch.export.export(module, (few,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},))
            torch.export.save(program.run_decompositions() if decomposed else program, path)
            self.check(path, (few,), {}, (many,))

    setattr(Pt2, f"test_{name}{'_decomposed' if decomposed else ''}", test)


for name in NETWORKS if FULL else ["squeezenet1_1"]:
    for decomposed in (False, True) if FULL else (False,):
        add_network(name, decomposed)

if __name__ == "__main__":
    unittest.main()
