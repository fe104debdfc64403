"""The zoo's networks in PyTorch: torchvision's own, and small definitions of the others."""

import warnings

import torch
import torch.nn.functional as F
import torchvision
from torch import nn


class CifarBlock(nn.Module):
    def __init__(self, before, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride, self.zeros = stride, (width - before) // 2

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.zeros, self.zeros))
        return F.relu(y + x)


class CifarResNet(nn.Module):
    def __init__(self, blocks, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        before = 16
        for stage, width in enumerate((16, 32, 64), 1):
            layer = nn.Sequential()
            for i in range(blocks):
                layer.append(CifarBlock(before, width, 2 if stage > 1 and i == 0 else 1))
                before = width
            setattr(self, f"layer{stage}", layer)
        self.linear = nn.Linear(64, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


class LeNet5(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2).flatten(1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class AlexNetCaffe(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, 11, 4)
        self.conv2 = nn.Conv2d(96, 256, 5, padding=2, groups=2)
        self.conv3 = nn.Conv2d(256, 384, 3, padding=1)
        self.conv4 = nn.Conv2d(384, 384, 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(384, 256, 3, padding=1, groups=2)
        self.fc6 = nn.Linear(9216, 4096)
        self.fc7 = nn.Linear(4096, 4096)
        self.fc8 = nn.Linear(4096, 1000)

    def forward(self, x):
        for conv in (self.conv1, self.conv2):
            x = F.local_response_norm(F.relu(conv(x)), 5, 1e-4, 0.75, 1.0)
            x = F.max_pool2d(x, 3, 2)
        x = F.relu(self.conv4(F.relu(self.conv3(x))))
        x = F.max_pool2d(F.relu(self.conv5(x)), 3, 2).flatten(1)
        return self.fc8(F.relu(self.fc7(F.relu(self.fc6(x)))))


class InceptionCaffe(nn.Module):
    def __init__(self, before, one, three_in, three, five_in, five, pool):
        super().__init__()
        layers = {
            "1x1": nn.Conv2d(before, one, 1),
            "3x3_reduce": nn.Conv2d(before, three_in, 1),
            "3x3": nn.Conv2d(three_in, three, 3, padding=1),
            "5x5_reduce": nn.Conv2d(before, five_in, 1),
            "5x5": nn.Conv2d(five_in, five, 5, padding=2),
            "pool_proj": nn.Conv2d(before, pool, 1),
        }
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        def run(name, x):
            return F.relu(getattr(self, name)(x))

        three = run("3x3", run("3x3_reduce", x))
        five = run("5x5", run("5x5_reduce", x))
        pool = run("pool_proj", F.max_pool2d(x, 3, 1, 1))
        return torch.cat([run("1x1", x), three, five, pool], 1)


class GoogLeNetCaffe(nn.Module):
    BLOCKS = {
        "3a": (192, 64, 96, 128, 16, 32, 32),
        "3b": (256, 128, 128, 192, 32, 96, 64),
        "4a": (480, 192, 96, 208, 16, 48, 64),
        "4b": (512, 160, 112, 224, 24, 64, 64),
        "4c": (512, 128, 128, 256, 24, 64, 64),
        "4d": (512, 112, 144, 288, 32, 64, 64),
        "4e": (528, 256, 160, 320, 32, 128, 128),
        "5a": (832, 256, 160, 320, 32, 128, 128),
        "5b": (832, 384, 192, 384, 48, 128, 128),
    }

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3)
        self.conv2_reduce = nn.Conv2d(64, 64, 1)
        self.conv2 = nn.Conv2d(64, 192, 3, padding=1)
        for name, shape in self.BLOCKS.items():
            self.add_module(f"inception_{name}", InceptionCaffe(*shape))
        self.classifier = nn.Linear(1024, 1000)

    def forward(self, x):
        def pool(x):
            return F.max_pool2d(x, 3, 2, ceil_mode=True)

        def norm(x):
            return F.local_response_norm(x, 5, 1e-4, 0.75, 1.0)

        x = norm(pool(F.relu(self.conv1(x))))
        x = pool(norm(F.relu(self.conv2(F.relu(self.conv2_reduce(x))))))
        for name in self.BLOCKS:
            x = getattr(self, f"inception_{name}")(x)
            if name in ("3b", "4e"):
                x = pool(x)
        return self.classifier(x.mean((2, 3)))


def light(k):
    def layer(before, out, kernel):
        return nn.Sequential(
            nn.Conv2d(before, k, kernel, padding=kernel // 2),
            nn.ReLU(),
            nn.Conv2d(k, out, kernel, padding=kernel // 2),
        )

    return layer


def plain(before, out, kernel):
    return nn.Conv2d(before, out, kernel, padding=kernel // 2)


def separable(before, out, kernel):
    depthwise = nn.Conv2d(before, before, kernel, padding=kernel // 2, groups=before, bias=False)
    return nn.Sequential(depthwise, nn.Conv2d(before, out, 1))


def keras_norm(width):
    return nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)


class LightHead(nn.Sequential):
    def __init__(self, width, classes):
        super().__init__(nn.Linear(width, 8, bias=False), nn.Linear(8, classes))
        self.scale = (2 / classes) ** 0.5

    def forward(self, x):
        x = F.linear(x, self[0].weight * self.scale)
        return F.linear(x, self[1].weight * self.scale, self[1].bias)


class LightChain(nn.Module):
    def __init__(self, layer, head):
        super().__init__()
        before = 1
        for block, width in enumerate((8, 16, 32), 1):
            module = nn.Module()
            for i in (1, 2):
                module.add_module(f"conv{i}", layer(before, width, 3))
                module.add_module(f"bn{i}", keras_norm(width))
                before = width
            self.add_module(f"block{block}", module)
        self.classifier = head(32, 10)

    def forward(self, x):
        for block in (self.block1, self.block2, self.block3):
            x = F.relu(block.bn1(block.conv1(x)))
            x = F.max_pool2d(F.relu(block.bn2(block.conv2(x))), 2)
        return self.classifier(x.mean((2, 3)))


class LightResidual(nn.Module):
    def __init__(self, layer, head, classes):
        super().__init__()
        before = 3
        for block, width in enumerate((16, 32, 64), 1):
            module = nn.Module()
            module.conv1, module.bn1 = layer(before, width, 3), keras_norm(width)
            module.conv2, module.bn2 = layer(width, width, 3), keras_norm(width)
            module.shortcut, module.shortcut_bn = layer(before, width, 1), keras_norm(width)
            self.add_module(f"block{block}", module)
            before = width
        self.classifier = head(64, classes)

    def forward(self, x):
        for block in (self.block1, self.block2, self.block3):
            y = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x)))))
            x = F.max_pool2d(F.relu(y + block.shortcut_bn(block.shortcut(x))), 2)
        return self.classifier(x.mean((2, 3)))


class SeparableHalf(nn.Module):
    def __init__(self, before, width, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.depthwise = nn.Conv2d(before, before, 3, stride, 1, groups=before)
        self.bn2 = nn.BatchNorm2d(before)
        self.pointwise = nn.Conv2d(before, width, 1)

    def forward(self, x):
        x = self.depthwise(F.relu(self.bn1(x)))
        return self.pointwise(F.relu(self.bn2(x)))


class CalliSmall(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1)
        before = 32
        for i, width in enumerate((64, 64, 64, 128, 128, 128), 1):
            stride = 1 if width == before else 2
            halves = {"1": SeparableHalf(before, width, stride), "2": SeparableHalf(width, width, 1)}
            self.add_module(f"block{i}", nn.ModuleDict(halves))
            before = width
        self.bn = nn.BatchNorm2d(128)
        self.linear = nn.Linear(128, 10)

    def forward(self, x):
        mean, std = x.mean((1, 2, 3), True), x.std((1, 2, 3), correction=0, keepdim=True)
        x = (x - mean) / std.clamp_min(1 / (255 * x[0].numel() ** 0.5))
        x = self.conv1(x)
        for i in range(1, 7):
            block = getattr(self, f"block{i}")
            y = block["2"](block["1"](x))
            if y.shape != x.shape:
                zeros = (y.shape[1] - x.shape[1]) // 2
                x = F.pad(F.avg_pool2d(x, 2), (0, 0, 0, 0, zeros, zeros))
            x = x + y
        x = F.relu(self.bn(x.mean((2, 3), True)))
        return self.linear(x.flatten(1))


TORCHVISION = (
    "alexnet vgg11 vgg13 vgg16 vgg19 vgg11_bn vgg13_bn vgg16_bn vgg19_bn "
    "googlenet resnet18 resnet34 resnet50 resnet101 mobilenet_v2"
).split()
CIFAR_RESNETS = {"resnet20": 3, "resnet32": 5, "resnet44": 7, "resnet56": 9, "resnet110": 18}
IMAGENET = TORCHVISION + ["alexnet-caffe", "googlenet-caffe"]
SMALL = [*CIFAR_RESNETS, "lenet5", "calli-small"] + [
    f"lightlayers-{data}{kind}"
    for data in ("mnist", "cifar10", "cifar100")
    for kind in ("", "-conv2d", "-separable")
]


def lightlayers(name, k):
    _, data, *kind = name.split("-")
    if not kind:
        layer, head = light(k or (3 if data == "mnist" else 5)), LightHead
    else:
        layer, head = {"conv2d": plain, "separable": separable}[kind[0]], nn.Linear
    if data == "mnist":
        return LightChain(layer, head)
    return LightResidual(layer, head, {"cifar10": 10, "cifar100": 100}[data])


def build(name, k=None):
    """The network of that name, and the shape of one of its inputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name == "googlenet":
            model = torchvision.models.googlenet(aux_logits=False, init_weights=False)
        elif name in TORCHVISION:
            model = torchvision.models.get_model(name)
        elif name in CIFAR_RESNETS:
            model = CifarResNet(CIFAR_RESNETS[name])
        elif name.startswith("lightlayers-"):
            model = lightlayers(name, k)
        else:
            own = {
                "lenet5": LeNet5,
                "alexnet-caffe": AlexNetCaffe,
                "googlenet-caffe": GoogLeNetCaffe,
                "calli-small": CalliSmall,
            }
            model = own[name]()
    if name == "lenet5" or "mnist" in name:
        shape = (1, 28, 28)
    elif name == "alexnet-caffe":
        shape = (3, 227, 227)
    else:
        shape = (3, 224, 224) if name in IMAGENET else (3, 32, 32)
    return model.eval(), shape
