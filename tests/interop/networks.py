"""The zoo's networks that torchvision does not have, written in plain PyTorch from their papers."""

import torch
import torch.nn.functional as F
from torch import nn


class OptionA(nn.Module):
    """A block of the CIFAR ResNets: a strided subsample padded with zero channels for a shortcut."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride, self.extra = stride, width - before

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.extra // 2, self.extra // 2))
        return F.relu(x + y)


class CifarResNet(nn.Module):
    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        before = 16
        for stage, width in enumerate((16, 32, 64), 1):
            layers = []
            for i in range(blocks):
                layers.append(OptionA(before, width, 2 if stage > 1 and i == 0 else 1))
                before = width
            setattr(self, f"layer{stage}", nn.Sequential(*layers))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


class LeNet5(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2).flatten(1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class AlexNetCaffe(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, 11, 4)
        self.conv2 = nn.Conv2d(96, 256, 5, padding=2, groups=2)
        self.conv3 = nn.Conv2d(256, 384, 3, padding=1)
        self.conv4 = nn.Conv2d(384, 384, 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(384, 256, 3, padding=1, groups=2)
        self.fc6, self.fc7, self.fc8 = nn.Linear(9216, 4096), nn.Linear(4096, 4096), nn.Linear(4096, 1000)
        self.norm = nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(self.norm(F.relu(self.conv1(x))), 3, 2)
        x = F.max_pool2d(self.norm(F.relu(self.conv2(x))), 3, 2)
        x = F.relu(self.conv5(F.relu(self.conv4(F.relu(self.conv3(x))))))
        x = F.max_pool2d(x, 3, 2).flatten(1)
        return self.fc8(F.relu(self.fc7(F.relu(self.fc6(x)))))


class Inception(nn.ModuleDict):
    def __init__(self, before: int, one: int, three: tuple, five: tuple, pool: int) -> None:
        super().__init__(
            {
                "1x1": nn.Conv2d(before, one, 1),
                "3x3_reduce": nn.Conv2d(before, three[0], 1),
                "3x3": nn.Conv2d(three[0], three[1], 3, padding=1),
                "5x5_reduce": nn.Conv2d(before, five[0], 1),
                "5x5": nn.Conv2d(five[0], five[1], 5, padding=2),
                "pool_proj": nn.Conv2d(before, pool, 1),
            }
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        unit = lambda name, x: F.relu(self[name](x))
        three = unit("3x3", unit("3x3_reduce", x))
        five = unit("5x5", unit("5x5_reduce", x))
        return torch.cat([unit("1x1", x), three, five, unit("pool_proj", F.max_pool2d(x, 3, 1, 1))], 1)


class GoogLeNetCaffe(nn.Module):
    # Szegedy et al. 2015, Table 1.
    SHAPES = {
        "3a": (192, 64, (96, 128), (16, 32), 32),
        "3b": (256, 128, (128, 192), (32, 96), 64),
        "4a": (480, 192, (96, 208), (16, 48), 64),
        "4b": (512, 160, (112, 224), (24, 64), 64),
        "4c": (512, 128, (128, 256), (24, 64), 64),
        "4d": (512, 112, (144, 288), (32, 64), 64),
        "4e": (528, 256, (160, 320), (32, 128), 128),
        "5a": (832, 256, (160, 320), (32, 128), 128),
        "5b": (832, 384, (192, 384), (48, 128), 128),
    }

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3)
        self.conv2_reduce, self.conv2 = nn.Conv2d(64, 64, 1), nn.Conv2d(64, 192, 3, padding=1)
        for name, shape in self.SHAPES.items():
            setattr(self, f"inception_{name}", Inception(*shape))
        self.classifier = nn.Linear(1024, 1000)
        self.norm = nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pool = lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True)
        x = self.norm(pool(F.relu(self.conv1(x))))
        x = pool(self.norm(F.relu(self.conv2(F.relu(self.conv2_reduce(x))))))
        for name in self.SHAPES:
            x = getattr(self, f"inception_{name}")(x)
            if name in ("3b", "4e"):
                x = pool(x)
        return self.classifier(x.mean((2, 3)))


def standardized(x: torch.Tensor) -> torch.Tensor:
    """tf.image.per_image_standardization, which sees grey levels of 0 to 255."""
    flat = 255 * x.flatten(1)
    deviation = flat.var(1, unbiased=False).sqrt().clamp(min=flat.shape[1] ** -0.5)
    return ((flat - flat.mean(1, keepdim=True)) / deviation[:, None]).view_as(x)


class CalliSmall(nn.Module):
    """Six pre-activation residual blocks of separable convolutions on standardised images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1)
        self.strides = []
        before = 32
        for i, width in enumerate((64, 64, 64, 128, 128, 128), 1):
            stride = 1 if width == before else 2
            halves = nn.ModuleDict()
            for half, (inner, step) in {"1": (before, stride), "2": (width, 1)}.items():
                halves[half] = nn.ModuleDict(
                    {
                        "bn1": nn.BatchNorm2d(inner),
                        "depthwise": nn.Conv2d(inner, inner, 3, step, 1, groups=inner),
                        "bn2": nn.BatchNorm2d(inner),
                        "pointwise": nn.Conv2d(inner, width, 1),
                    }
                )
            setattr(self, f"block{i}", halves)
            self.strides.append((stride, width - before))
            before = width
        self.bn = nn.BatchNorm2d(128)
        self.linear = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(standardized(x))
        for i, (stride, extra) in enumerate(self.strides, 1):
            y = x
            for half in getattr(self, f"block{i}").values():
                y = half["depthwise"](F.relu(half["bn1"](y)))
                y = half["pointwise"](F.relu(half["bn2"](y)))
            if stride > 1:
                x = F.pad(F.avg_pool2d(x, 2), (0, 0, 0, 0, extra // 2, extra // 2))
            x = x + y
        return self.linear(F.relu(self.bn(x.mean((2, 3), keepdim=True))).flatten(1))


class CalliSum(nn.Module):
    """1000 hidden nodes that learn to add two numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(2, 1000)
        self.sum = nn.Linear(1000, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.sum(F.relu(self.hidden(x.flatten(1))))


class CalliAutoencoder(nn.Module):
    """Two convolutions that halve an image and two transposed ones that double it again."""

    def __init__(self) -> None:
        super().__init__()
        up = {"stride": 2, "padding": 1, "output_padding": 1}
        self.conv1, self.bn1 = nn.Conv2d(1, 32, 3, 2, 1), nn.BatchNorm2d(32)
        self.conv2, self.bn2 = nn.Conv2d(32, 64, 3, 2, 1), nn.BatchNorm2d(64)
        self.deconv1, self.bn3 = nn.ConvTranspose2d(64, 32, 3, **up), nn.BatchNorm2d(32)
        self.deconv2, self.bn4 = nn.ConvTranspose2d(32, 1, 3, **up), nn.BatchNorm2d(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.relu(self.bn3(self.deconv1(x)))
        return torch.tanh(self.bn4(self.deconv2(x)))


class CalliBaseline(nn.Module):
    """Çallı's baseline, its 5×5 convolutions as they are or replaced."""

    def __init__(self, kind: str = "") -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        for i, width in ((2, 32), (3, 64), (4, 128)):
            setattr(self, f"conv{i}", self.layer(kind, width // 2, width))
            setattr(self, f"bn{i}", nn.BatchNorm2d(width))
        self.linear = nn.Linear(128, 10)

    @staticmethod
    def layer(kind: str, before: int, width: int) -> nn.Module:
        depthwise = nn.Conv2d(before, before, 5, padding=2, groups=before, bias=False)
        match kind:
            case "":
                return nn.Conv2d(before, width, 5, padding=2)
            case "composed":
                row = nn.Conv2d(before, width, (1, 5), padding=(0, 2), bias=False)
                column = nn.Conv2d(width, width, (5, 1), padding=(2, 0), bias=False)
                return nn.Sequential(row, nn.BatchNorm2d(width), nn.ReLU(), column)
            case "separable":
                return nn.Sequential(depthwise, nn.Conv2d(before, width, 1))
            case "nonlinear":
                return nn.Sequential(depthwise, nn.BatchNorm2d(before), nn.ReLU(), nn.Conv2d(before, width, 1))
        raise ValueError(kind)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(standardized(x))))
        x = F.relu(self.bn2(F.max_pool2d(self.conv2(x), 2)))
        x = F.relu(self.bn3(self.conv3(x)))
        x = F.relu(self.bn4(F.max_pool2d(self.conv4(x), 2)))
        return self.linear(x.mean((2, 3)))


def light(kind: str, before: int, width: int, kernel: int, k: int) -> nn.Module:
    """A convolution of Jha et al. 2020: LightLayers', a separable or an ordinary one."""
    pad = kernel // 2
    if kind == "light":
        return nn.Sequential(nn.Conv2d(before, k, kernel, padding=pad), nn.ReLU(), nn.Conv2d(k, width, kernel, padding=pad))
    if kind == "separable":
        depthwise = nn.Conv2d(before, before, kernel, padding=pad, groups=before, bias=False)
        return nn.Sequential(depthwise, nn.Conv2d(before, width, 1))
    return nn.Conv2d(before, width, kernel, padding=pad)


class LightNet(nn.Module):
    """The networks of Jha et al. 2020, residual or not, up to the logits."""

    def __init__(self, kind: str, channels: int, widths: tuple, classes: int, k: int, residual: bool) -> None:
        super().__init__()
        self.residual, self.light, self.classes = residual, kind == "light", classes
        before = channels
        for i, width in enumerate(widths, 1):
            block = nn.ModuleDict()
            for j, inner in ((1, before), (2, width)):
                block[f"conv{j}"] = light(kind, inner, width, 3, k)
                block[f"bn{j}"] = nn.BatchNorm2d(width, eps=1e-3)
            if residual:
                block["shortcut"] = light(kind, before, width, 1, k)
                block["shortcut_bn"] = nn.BatchNorm2d(width, eps=1e-3)
            setattr(self, f"block{i}", block)
            before = width
        if self.light:
            self.classifier = nn.Sequential(nn.Linear(before, 8, bias=False), nn.Linear(8, classes))
        else:
            self.classifier = nn.Linear(before, classes)
        self.blocks = len(widths)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for i in range(1, self.blocks + 1):
            block = getattr(self, f"block{i}")
            y = F.relu(block["bn1"](block["conv1"](x)))
            y = block["bn2"](block["conv2"](y))
            if self.residual:
                y = y + block["shortcut_bn"](block["shortcut"](x))
            x = F.max_pool2d(F.relu(y), 2)
        x = x.mean((2, 3))
        if not self.light:
            return self.classifier(x)
        scale = (2 / self.classes) ** 0.5
        kernel = (scale * self.classifier[1].weight) @ (scale * self.classifier[0].weight)
        return F.linear(x, kernel, self.classifier[1].bias)


def lightlayers(k: int | None = None) -> dict:
    """All of them by the zoo's names, of inner width k or the one that did best in the paper."""
    made = {}
    for data, channels, widths, classes, best, residual in (
        ("mnist", 1, (8, 16, 32), 10, 3, False),
        ("cifar10", 3, (16, 32, 64), 10, 5, True),
        ("cifar100", 3, (16, 32, 64), 100, 5, True),
    ):
        for suffix, kind in (("", "light"), ("-conv2d", "plain"), ("-separable", "separable")):
            arguments = (kind, channels, widths, classes, k or best, residual)
            made[f"lightlayers-{data}{suffix}"] = lambda arguments=arguments: LightNet(*arguments)
    return made
