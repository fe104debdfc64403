"""Trains the shipped checkpoint: ResNet-20 on the built-in `shapes` data.

The images come from Rankfold itself, so that what is trained on is what is evaluated on:

    cargo run --release -p rankfold-data --example export -- shapes train train.safetensors
    cargo run --release -p rankfold-data --example export -- shapes test test.safetensors
    python3 models/shapes-resnet20/train.py --train train.safetensors --test test.safetensors \
        --out models/shapes-resnet20/model.safetensors

Needs torch and safetensors. Seeded; another machine or number of threads rounds differently.
"""

import argparse
import hashlib
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Block(nn.Module):
    """Two 3x3 convolutions; where the size changes, the shortcut is a strided subsample whose
    missing channels are zeros (option A of He et al. 2015), without parameters."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.missing = stride, (outputs - inputs) // 2

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.missing, self.missing))
        return F.relu(x + y)


class ResNet20(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        for stage, (inputs, outputs) in enumerate([(16, 16), (16, 32), (32, 64)], 1):
            blocks = [Block(inputs if i == 0 else outputs, outputs, 2 if i == 0 and stage > 1 else 1)
                      for i in range(3)]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def normalize(images):
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    return ((images.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def augment(images, generator):
    """Random mirrorings and transpositions of a whole batch: none of them changes a class."""
    for dims in ((2,), (3,)):
        if torch.rand((), generator=generator) < 0.5:
            images = images.flip(dims)
    return images.transpose(2, 3) if torch.rand((), generator=generator) < 0.5 else images


@torch.no_grad()
def accuracy(model, images, labels):
    model.eval()
    right = sum((model(normalize(x)).argmax(1) == y).sum().item()
                for x, y in zip(images.split(500), labels.split(500)))
    model.train()
    return 100 * right / len(labels)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--out")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--decay", type=float, default=0.05)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    generator = torch.Generator().manual_seed(args.seed)
    train, test = load_file(args.train), load_file(args.test)
    images, labels = train["images"], train["labels"]

    model = ResNet20().to(memory_format=torch.channels_last)
    steps = args.epochs * (len(labels) // args.batch)
    optimizer = torch.optim.AdamW(model.parameters(), args.rate, weight_decay=args.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.rate, steps, pct_start=0.15)
    began = time.time()
    for epoch in range(args.epochs):
        losses = []
        order = torch.randperm(len(labels), generator=generator)
        for pick in order[: len(order) // args.batch * args.batch].split(args.batch):
            inputs = normalize(augment(images[pick], generator))
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(model(inputs).float(), labels[pick])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
            if len(losses) % 71 == 0:
                recent = torch.stack(losses[-71:]).mean()
                print(f"epoch {epoch + 1}, step {len(losses)}: loss {recent:.4f}, "
                      f"{time.time() - began:.0f} s", flush=True)
    print(f"test accuracy {accuracy(model, test['images'], test['labels']):.2f} %")

    if args.out:
        weights = {name: value.contiguous() for name, value in model.state_dict().items()}
        save_file(weights, args.out, {"format": "pt"})
        with open(args.out, "rb") as file:
            print("sha256", hashlib.sha256(file.read()).hexdigest())


if __name__ == "__main__":
    main()
