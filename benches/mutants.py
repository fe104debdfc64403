"""Which small changes to rankfold-decompose and rankfold-compress tests notice.

    python3 benches/mutants.py [--sample 300] [--seed 0] [--minutes M] [--missed]

draws a sample of all changes that cargo-mutants knows, makes one after the other in a checkout of its own
(target/mutants) and runs the tests of the crate that it is in; what those do not notice goes to tests of
crates that use it. What became of every change is in benches/results/mutants.json as soon as it is
known; what is there is not tried again, so that the work can be done in parts. --missed tries again what
nothing has noticed, after tests were added.

cargo-mutants lists the changes and does not make them: its filters by name let some through.
"""

import argparse
import collections
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

from stored import Stored

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benches" / "results" / "mutants.json"
TREE = ROOT / "target" / "mutants"
CRATES = ["rankfold-decompose", "rankfold-compress"]
# The tests that run what the two make; those of single networks would take minutes for every change.
USERS = ["--package", "rankfold-torch", "--package", "rankfold-tests", "--lib", "--test", "full_rank"]
# Seconds that tests may take; those that take longer have noticed.
PATIENCE = 300
ENVIRONMENT = {**os.environ, "CARGO_TARGET_DIR": str(TREE / "target"), "CARGO_PROFILE_DEV_DEBUG": "none"}


def output(*command, cwd=ROOT):
    return subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True).stdout


def check_out():
    """Makes the checkout what is committed here."""
    commit = output("git", "rev-parse", "HEAD").strip()
    if not TREE.exists():
        output("git", "worktree", "prune")
        output("git", "worktree", "add", "--detach", str(TREE), commit)
    output("git", "checkout", "--quiet", "--force", "--detach", commit, cwd=TREE)
    return commit


def listed():
    """All changes, by name."""
    program = output(sys.executable, "scripts/tool.py", "cargo-mutants").strip()
    crates = [part for crate in CRATES for part in ("--package", crate)]
    told = output(program, "mutants", *crates, "--dir", str(TREE), "--no-config", "--list", "--json")
    return {mutant["name"]: mutant for mutant in json.loads(told)}


def apply(mutant):
    # Its second line has no file, but what is done.
    patch = re.sub(r"^\+\+\+ .*$", lambda _: f"+++ {mutant['file']}", mutant["diff"], count=1, flags=re.MULTILINE)
    subprocess.run(["git", "apply", "-p0", "--recount", "-"], cwd=TREE, input=patch, text=True, check=True)


def own(package):
    return ["--package", package, "--tests"]


def check_unchanged():
    """What fails without a change would seem to notice every one."""
    for tests in [*map(own, CRATES), USERS]:
        if not passes(tests):
            sys.exit(f"these fail as they are: cargo test {' '.join(tests)}")


def passes(tests, *options, patience=None):
    """Whether these tests can be built, or with no option pass."""
    command = ["cargo", "test", "--quiet", *tests, *options]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=TREE, env=ENVIRONMENT, start_new_session=True, **quiet)
    try:
        return process.wait(patience) == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def outcome(mutant):
    apply(mutant)
    try:
        for tests, seen in [(own(mutant["package"]), "noticed"), (USERS, "noticed by users")]:
            if not passes(tests, "--no-run"):
                return "does not compile"
            if not passes(tests, patience=PATIENCE):
                return seen
        return "missed"
    finally:
        output("git", "checkout", "--quiet", "--", mutant["file"], cwd=TREE)


def tell(rows):
    counts = collections.Counter(rows.values())
    noticed = counts["noticed"] + counts["noticed by users"]
    judged = noticed + counts["missed"]
    share = 100 * noticed / judged if judged else 0.0
    left = f"{counts['does not compile']} do not compile, {counts[None]} are left"
    print(f"{noticed} of {judged} noticed ({share:.1f} %), {counts['noticed by users']} of them by users; {left}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sample", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--missed", action="store_true")
    arguments = parser.parse_args()
    until = time.monotonic() + 60 * arguments.minutes
    commit = check_out()
    mutants = listed()
    stored = Stored(RESULTS)
    if not stored.rows:
        names = sorted(mutants)
        stored.all |= {"seed": arguments.seed, "of": len(names)}
        chosen = random.Random(arguments.seed).sample(names, min(arguments.sample, len(names)))
        # What one crate's tests need is built once.
        stored.rows.update((name, None) for name in sorted(chosen, key=lambda name: mutants[name]["package"]))
    todo = [None, "missed"] if arguments.missed else [None]
    names = [name for name, became in stored.rows.items() if became in todo]
    if gone := [name for name in names if name not in mutants]:
        sys.exit(f"{RESULTS} is of {stored.all.get('commit')}, and the sources have changed since: there is no {gone[0]}")
    if names:
        check_unchanged()
    for name in names:
        if time.monotonic() > until:
            break
        stored.rows[name] = outcome(mutants[name])
        stored.all["commit"] = commit
        stored.keep()
        print(f"{stored.rows[name]}: {name}", flush=True)
        tell(stored.rows)


if __name__ == "__main__":
    main()
