"""What the set-up scripts share: the cache folder, putting a folder in place at once, saying what went wrong."""

import contextlib
import fcntl
import os
import shutil
import sys
from pathlib import Path
from typing import Callable, Iterator


class SetupError(Exception):
    """What went wrong and what to do about it."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.hint = hint


def say(line: str) -> None:
    print(f"rankfold: {line}", file=sys.stderr, flush=True)


def cache_dir() -> Path:
    """The folder that all checkouts share."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return (Path(base) / "rankfold").absolute()


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Holds `path` for this process alone; the kernel lets go when the process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another set-up that holds {path}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def put_in_place(folder: Path, ready: Callable[[], bool], fill: Callable[[Path, Path], None]) -> None:
    """Makes `folder` unless it is `ready`: whole, by a rename, and once however many ask at the same time.

    `fill(tree, kept)` fills the new folder `tree`. What it leaves in `kept` is there for the next attempt
    should this one be interrupted, and is removed after success.
    """
    if ready():
        return
    with lock(folder.with_name(folder.name + ".lock")):
        if ready():
            return
        work = folder.with_name(folder.name + ".partial")
        tree, kept = work / "tree", work / "kept"
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir(parents=True)
        kept.mkdir(exist_ok=True)
        fill(tree, kept)
        os.sync()
        if folder.exists():
            shutil.rmtree(folder)
        os.rename(tree, folder)
        shutil.rmtree(work)


def finish(run: Callable[[], None]) -> int:
    """The exit status of `run`, its failure told in words."""
    try:
        run()
    except SetupError as error:
        say(f"{error}\n\nhint: {error.hint}")
        return 1
    except OSError as error:
        say(f"{error}\n\nhint: look at the space and the permissions there; what was fetched is kept for the next attempt")
        return 1
    except KeyboardInterrupt:
        say("interrupted; the next set-up goes on from here")
        return 130
    return 0
