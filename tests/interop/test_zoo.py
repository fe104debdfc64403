"""Every network of the zoo against PyTorch: the same random weights and inputs give the same outputs.

The long set runs each a second time: images of another size where the network takes them, another batch, the other
memory layout, batch normalisation by itself; and LightLayers of every k in the paper.
"""

import re
import tempfile
import unittest
from pathlib import Path

import torch
import torchvision
from safetensors.torch import load_file, save_file

import networks
from support import FULL, call, distance, randomize

# The largest relative difference that counts as equal.
EQUAL = 1e-4

TORCHVISION = [
    *("alexnet", "googlenet", "mobilenet_v2", "resnet18", "resnet34", "resnet50", "resnet101"),
    *(f"vgg{depth}{bn}" for depth in (11, 13, 16, 19) for bn in ("", "_bn")),
]
REFERENCES = {
    **{name: lambda name=name: torchvision_network(name) for name in TORCHVISION},
    **{f"resnet{6 * n + 2}": lambda n=n: networks.CifarResNet(n) for n in (3, 5, 7, 9, 18)},
    "lenet5": networks.LeNet5,
    "alexnet-caffe": networks.AlexNetCaffe,
    "googlenet-caffe": networks.GoogLeNetCaffe,
    "calli-small": networks.CalliSmall,
    "calli-baseline": networks.CalliBaseline,
    **{
        f"calli-baseline-{kind}": lambda kind=kind: networks.CalliBaseline(kind)
        for kind in ("composed", "separable", "nonlinear")
    },
    **networks.lightlayers(),
    "calli-sum": networks.CalliSum,
    "calli-autoencoder": networks.CalliAutoencoder,
}


def torchvision_network(name: str, **options) -> torch.nn.Module:
    if name == "googlenet":
        options = {"aux_logits": False, "init_weights": False, **options}
    elif name.startswith("vgg"):
        options["init_weights"] = False
    return torchvision.models.get_model(name, weights=None, **options)


def zoo() -> dict:
    """Input shapes by name, as Rankfold lists them, and whether images of another size are taken."""
    rows = re.findall(r"^(\S+) \[(\d+), (\d+), (\d+)\] (any|one)$", call("interop-forward", "list"), re.MULTILINE)
    return {name: (tuple(map(int, shape)), sides == "any") for name, *shape, sides in rows}


class Zoo(unittest.TestCase):
    def compare(self, name: str, module: torch.nn.Module, shape: tuple, *options: str, batch: int = 2) -> None:
        randomize(module, seed=1)
        inputs = torch.rand((batch, *shape), generator=torch.Generator().manual_seed(2))
        with torch.no_grad():
            expected = module(inputs)
        with tempfile.TemporaryDirectory() as folder:
            weights, given, results = (Path(folder) / f"{part}.safetensors" for part in ("weights", "inputs", "outputs"))
            save_file({key: value.contiguous() for key, value in module.state_dict().items()}, weights)
            save_file({"input": inputs}, given)
            call("interop-forward", "zoo", name, weights, given, results, *options)
            found = load_file(results)["output.0"]
        error = distance(found, expected)
        print(f"{error:.1e} ", end="", flush=True)
        self.assertLessEqual(error, EQUAL)

    def test_every_network_has_a_reference(self) -> None:
        self.assertEqual(sorted(zoo()), sorted(REFERENCES))

    def test_googlenet_with_transformed_input(self) -> None:
        module = torchvision_network("googlenet", transform_input=True)
        self.compare("googlenet", module, (3, 224, 224), "transform-input")

    def test_googlenet_with_its_auxiliary_heads(self) -> None:
        module = torchvision_network("googlenet", aux_logits=True)
        self.compare("googlenet", module, (3, 224, 224))


def add_test(name: str) -> None:
    def test(self: Zoo) -> None:
        shape, _ = zoo()[name]
        self.compare(name, REFERENCES[name](), shape)

    def test_otherwise(self: Zoo) -> None:
        (channels, side, _), any_side = zoo()[name]
        options = ["unfolded", "nchw"]
        if any_side:
            # An odd size shows how edges are treated; calli-small is defined for even ones.
            side += 32 if name == "calli-small" else 33
            options.append(f"input-side={side}")
        self.compare(name, REFERENCES[name](), (channels, side, side), *options, batch=3)

    function = "test_" + re.sub(r"\W", "_", name)
    setattr(Zoo, function, test)
    if FULL:
        setattr(Zoo, function + "_otherwise", test_otherwise)


def add_lightlayers_test(name: str, k: int) -> None:
    def test(self: Zoo) -> None:
        shape, _ = zoo()[name]
        self.compare(name, networks.lightlayers(k)[name](), shape)

    setattr(Zoo, f"test_{re.sub(r'[^a-z0-9]', '_', name)}_k{k}", test)


for name in REFERENCES:
    add_test(name)
if FULL:
    for name in ("lightlayers-mnist", "lightlayers-cifar10", "lightlayers-cifar100"):
        for k in range(1, 7):
            add_lightlayers_test(name, k)
