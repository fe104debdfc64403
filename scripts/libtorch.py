#!/usr/bin/env python3
"""Puts libtorch into the cache and tells cargo where it is.

The CPU half of PyTorch's wheel is enough to build and to run everything; `--cuda` adds the other half
for a machine with a GPU. Each half is one folder that appears by a rename, so it is either whole or not
there, and a lock makes simultaneous set-ups wait for each other instead of fetching twice.
"""

import argparse
import contextlib
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import Callable, NamedTuple, Optional

from cache import SetupError, cache_dir, finish, put_in_place, say

VERSION = "2.11.0"
ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / ".cargo" / "config.toml"
MARK = "# Written by `make libtorch`; delete it to choose libtorch anew."


class Wheel(NamedTuple):
    """A file of the package index, pinned by its digest."""

    name: str
    version: str
    sha256: str
    abi: str = "none"


TORCH = Wheel("torch", VERSION, "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a", "cp311")
CPU = [
    TORCH,
    Wheel("nvidia-cuda-runtime", "13.0.96", "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548"),
    Wheel("nvidia-cuda-cupti", "13.0.85", "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8"),
]
CUDA = [
    *CPU,
    Wheel("nvidia-cublas", "13.1.0.3", "ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171"),
    Wheel("nvidia-cuda-nvrtc", "13.0.88", "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575"),
    Wheel("nvidia-cudnn-cu13", "9.19.0.56", "d20e1734305e9d68889a96e3f35094d733ff1f83932ebe462753973e53a572bf"),
    Wheel("nvidia-cufft", "12.0.0.61", "6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3"),
    Wheel("nvidia-cufile", "1.15.1.6", "08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44"),
    Wheel("nvidia-curand", "10.4.0.35", "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc"),
    Wheel("nvidia-cusolver", "12.0.4.66", "0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112"),
    Wheel("nvidia-cusparse", "12.6.3.3", "2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b"),
    Wheel("nvidia-cusparselt-cu13", "0.8.0", "25e30a8a7323935d4ad0340b95a0b69926eee755767e8e0b1cf8dd85b197d3fd"),
    Wheel("nvidia-nccl-cu13", "2.28.9", "e4553a30f34195f3fa1da02a6da3d6337d28f2003943aa0a3d247bbc25fefc42"),
    Wheel("nvidia-nvjitlink", "13.0.88", "13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b"),
    Wheel("nvidia-nvshmem-cu13", "3.4.5", "290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80"),
    Wheel("nvidia-nvtx", "13.0.85", "4936d1d6780fbe68db454f5e72a42ff64d1fd6397df9f363ae786930fd5c1cd4"),
]
PLATFORMS = [*(f"manylinux_2_{minor}" for minor in range(28, 4, -1)), "manylinux2014", "manylinux2010", "manylinux1"]

CPU_LIBRARIES = {
    "torch/lib/libtorch_cpu.so",
    "torch/lib/libc10.so",
    "torch/lib/libgomp.so.1",
    "nvidia/cu13/lib/libcudart.so.13",
    "nvidia/cu13/lib/libcupti.so.13",
}
CUDA_LIBRARIES = {
    "torch/lib/libtorch_cuda.so",
    "torch/lib/libtorch_cuda_linalg.so",
    "torch/lib/libtorch_nvshmem.so",
    "torch/lib/libc10_cuda.so",
    "torch/lib/libcaffe2_nvrtc.so",
}


def cpu_member(member: PurePosixPath) -> Optional[PurePosixPath]:
    """Where a wheel's member goes in the CPU half, or None where it stays out."""
    if str(member) in CPU_LIBRARIES:
        return PurePosixPath("lib") / member.name
    if member.parts[:2] == ("torch", "include"):
        return member.relative_to("torch")
    return licence_member(member)


def cuda_member(member: PurePosixPath) -> Optional[PurePosixPath]:
    """Where a wheel's member goes in the CUDA half: as in site-packages, since the libraries look for each other there."""
    if str(member) in CUDA_LIBRARIES:
        return member
    if member.parts[0] == "nvidia" and ".so" in member.name:
        return member
    return licence_member(member)


def licence_member(member: PurePosixPath) -> Optional[PurePosixPath]:
    info = member.parts[0]
    if info.endswith(".dist-info") and re.match(r"licen[cs]e|notice|copying", member.name, re.IGNORECASE):
        return PurePosixPath("licenses") / info.split("-")[0] / member.name
    return None


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def fetch(wheel: Wheel, folder: Path) -> Path:
    """The wheel's file in `folder`, downloaded by pip unless an earlier attempt left it there whole."""
    stem = wheel.name.replace("-", "_")
    for path in folder.glob(f"{stem}-{wheel.version}-*.whl"):
        if sha256(path) == wheel.sha256:
            return path
        path.unlink()
    if importlib.util.find_spec("pip") is None:
        raise SetupError(
            f"pip is needed to fetch {wheel.name} {wheel.version}, and {sys.executable} has none",
            "install it (Debian, Ubuntu: apt-get install python3-pip), or set LIBTORCH to a libtorch " + VERSION,
        )
    # A folder of its own: a pip that outlives an interrupted set-up disturbs nobody.
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as own:
        requirements = Path(own) / "requirements.txt"
        requirements.write_text(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--no-cache-dir"]
        command += ["--only-binary=:all:", "--require-hashes", "--requirement", str(requirements), "--dest", own]
        command += ["--python-version", "3.11", "--implementation", "cp", "--abi", wheel.abi]
        for tag in PLATFORMS:
            command += ["--platform", f"{tag}_x86_64"]
        if not sys.stderr.isatty():
            command += ["--quiet", "--progress-bar", "off"]
        status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode
        found = list(Path(own).glob("*.whl"))
        if status != 0 or not found:
            raise SetupError(
                f"pip could not fetch {wheel.name} {wheel.version} (exit status {status})",
                f"look at its message above; run this again when the network is there, or set LIBTORCH to a libtorch {VERSION}",
            )
        return found[0].rename(folder / found[0].name)


def unpack(wheel: Path, tree: Path, place: Callable[[PurePosixPath], Optional[PurePosixPath]]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            target = None if info.is_dir() else place(PurePosixPath(info.filename))
            if target is None:
                continue
            path = tree / target
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, open(path, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)


class Half(NamedTuple):
    """One half of libtorch: its folder, the wheels it comes from, what it takes of them, what it is whole with."""

    folder: Path
    wheels: list
    place: Callable[[PurePosixPath], Optional[PurePosixPath]]
    whole: list

    def ready(self) -> bool:
        return all((self.folder / name).is_file() for name in self.whole)

    def install(self) -> None:
        """Puts the half in place unless it is there."""
        put_in_place(self.folder, self.ready, self.fill)

    def fill(self, tree: Path, kept: Path) -> None:
        for number, wheel in enumerate(self.wheels, 1):
            say(f"fetching {wheel.name} {wheel.version} ({number} of {len(self.wheels)})")
            unpack(fetch(wheel, kept), tree, self.place)
        # What no wheel has: the version that tch checks, and the library that its link line names.
        (tree / "build-version").write_text(VERSION + "\n")
        if (tree / "lib").is_dir():
            (tree / "lib" / "libtorch.so").write_text("INPUT(libtorch_cpu.so libc10.so)\n")


def cpu_half(cache: Path) -> Half:
    whole = ["build-version", "include/torch/headeronly/version.h", "lib/libtorch.so"]
    whole += [f"lib/{PurePosixPath(name).name}" for name in sorted(CPU_LIBRARIES)]
    return Half(cache / f"libtorch-{VERSION}", CPU, cpu_member, whole)


def cuda_half(cache: Path) -> Half:
    return Half(cache / f"libtorch-{VERSION}-cuda", CUDA, cuda_member, ["build-version", *sorted(CUDA_LIBRARIES)])


def version_of(libtorch: Path) -> Optional[str]:
    """The version that a libtorch or a PyTorch install says it is."""
    header = libtorch / "include" / "torch" / "headeronly" / "version.h"
    if header.is_file():
        parts = re.findall(r"define TORCH_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", header.read_text())
        if len(parts) == 3:
            return ".".join(parts)
    build = libtorch / "build-version"
    return build.read_text().strip().split("+")[0] if build.is_file() else None


def check(libtorch: Path, source: str) -> Path:
    for name in ("lib/libtorch_cpu.so", "include/torch/script.h"):
        if not (libtorch / name).is_file():
            raise SetupError(
                f"{source} names {libtorch}, which has no {name}",
                "name the folder that holds lib/ and include/, or unset it to have libtorch fetched"
            )
    version = version_of(libtorch)
    if version != VERSION:
        raise SetupError(
            f"{source} names {libtorch}, which is libtorch {version or 'of unknown version'}; {VERSION} is needed",
            f"name a libtorch {VERSION}, or unset it to have one fetched"
        )
    return libtorch.resolve()


def chosen_before() -> Optional[Path]:
    """The libtorch that an earlier set-up wrote down, where it still is one."""
    if not CONFIG.is_file() or not CONFIG.read_text().startswith(MARK):
        return None
    found = re.search(r'^LIBTORCH = "(.*)"$', CONFIG.read_text(), re.MULTILINE)
    if found is None:
        return None
    with contextlib.suppress(SetupError):
        return check(Path(found.group(1).replace('\\"', '"').replace("\\\\", "\\")), str(CONFIG))
    return None


def tell_cargo(libtorch: Path) -> None:
    """Writes `.cargo/config.toml`, by which plain cargo finds libtorch."""
    escaped = str(libtorch).replace("\\", "\\\\").replace('"', '\\"')
    text = f'{MARK}\n[env]\nLIBTORCH = "{escaped}"\n'
    if CONFIG.is_file():
        present = CONFIG.read_text()
        if present == text:
            return
        if not present.startswith(MARK):
            if f'LIBTORCH = "{escaped}"' not in present:
                raise SetupError(
                    f"{CONFIG} is not ours to change and does not name libtorch",
                    f'add these lines to it:  [env]  LIBTORCH = "{escaped}"'
                )
            return
    CONFIG.parent.mkdir(exist_ok=True)
    sibling = CONFIG.with_name(f".config.toml.{os.getpid()}")
    sibling.write_text(text)
    os.replace(sibling, CONFIG)


def run(cuda: bool) -> None:
    named = os.environ.get("LIBTORCH")
    if named:
        libtorch = check(Path(named).expanduser().absolute(), "LIBTORCH")
    else:
        libtorch = chosen_before()
    if libtorch is None:
        if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
            raise SetupError(
                f"libtorch can be fetched for x86-64 Linux only, and this is {platform.machine()} {platform.system()}",
                f"set LIBTORCH to a libtorch {VERSION}"
            )
        half = cpu_half(cache_dir())
        half.install()
        libtorch = half.folder.resolve()
    tell_cargo(libtorch)
    if cuda:
        ours = cpu_half(cache_dir()).folder
        if libtorch != ours.resolve():
            if not (libtorch / "lib" / "libtorch_cuda.so").is_file():
                raise SetupError(
                    f"CUDA=1 adds to the libtorch of the cache, and {libtorch} is in use",
                    f"unset LIBTORCH and delete {CONFIG}, or name a libtorch that has CUDA"
                )
        else:
            cuda_half(cache_dir()).install()
    say(f"libtorch {VERSION} is at {libtorch}" + (" with CUDA" if cuda else ""))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuda", action="store_true", help="fetch the CUDA half too (about 3 GB)")
    arguments = parser.parse_args()
    return finish(lambda: run(arguments.cuda))


if __name__ == "__main__":
    sys.exit(main())
