"""Which small changes to rankfold-decompose and rankfold-compress tests notice.

    PYTHON benches/mutants.py [--sample 300] [--seed 0] [--minutes M] [--missed]

(PYTHON is the one that scripts/venv.py prints; `make mutants` asks it) draws a sample of all changes that
cargo-mutants knows. They are built together, in a checkout of their own (target/mutants): each stands beside
what it replaces, and a number in the environment says which one is in force. A change that cannot stand there
is built by itself. Then the tests of its crate run, and what those do not notice goes to tests of crates that
use it. What became of every change is in benches/results/mutants.json as soon as it is known; what is there
is not tried again, so that the work can be done in parts. --missed tries again what nothing has noticed,
after tests were added.

cargo-mutants lists the changes and does not make them: its filters by name let some through.
"""

import argparse
import collections
import json
import os
import pathlib
import random
import re
import resource
import signal
import subprocess
import sys
import time

import tree_sitter
import tree_sitter_rust

from stored import Stored

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benches" / "results" / "mutants.json"
TREE = ROOT / "target" / "mutants"
CRATES = ["rankfold-decompose", "rankfold-compress"]
# The tests that run what the two make, by folder and target; those of single networks would take minutes for
# every change.
USERS = [("rankfold-torch", "rankfold_torch"), ("tests", "full_rank")]
# Tests that take so many times longer than they should have noticed, but not before so many seconds.
PATIENCE, AT_LEAST = 10, 60
# Tests that ask for more memory have noticed.
MEMORY = 12 << 30
CHOSEN = "RANKFOLD_MUTANT"
ENVIRONMENT = {**os.environ, "CARGO_TARGET_DIR": str(TREE / "target"), "CARGO_PROFILE_DEV_DEBUG": "none"}
PARSER = tree_sitter.Parser(tree_sitter.Language(tree_sitter_rust.language()))
SWITCH = f"""
/// Whether a change is in force.
#[inline]
pub(crate) fn mutant(number: u32) -> bool {{
    static CHOSEN: std::sync::LazyLock<Option<u32>> =
        std::sync::LazyLock::new(|| std::env::var("{CHOSEN}").ok()?.parse().ok());
    *CHOSEN == Some(number)
}}
"""


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


def tests():
    """What builds all tests in question. A build of single packages would choose other features of the rest."""
    names = [path.stem for crate in CRATES for path in (TREE / "crates" / crate / "tests").glob("*.rs")]
    names += [target for _, target in USERS[1:]]
    return ["--workspace", "--lib", *(part for name in sorted(names) for part in ("--test", name))]


class Source:
    """A file with changes in it, each of which waits for its number."""

    def __init__(self, path):
        self.path = path
        self.text = path.read_bytes()
        self.starts = [0, *(match.end() for match in re.finditer(b"\n", self.text))]
        self.tree = PARSER.parse(self.text)
        # What may stand for a node, and what is put around tokens, by the byte where they start or end.
        self.changed = collections.defaultdict(list)
        self.before = collections.defaultdict(list)
        self.after = collections.defaultdict(list)

    def byte(self, place):
        """Columns count characters, from one."""
        start = self.starts[place["line"] - 1]
        line = self.text[start:].split(b"\n", 1)[0].decode()
        return start + len(line[: place["column"] - 1].encode())

    def take(self, number, mutant):
        """Whether the change can be made one of several."""
        start, end = (self.byte(mutant["span"][side]) for side in ("start", "end"))
        new, force = mutant["replacement"], f"crate::mutant({number})"
        node = self.tree.root_node.descendant_for_byte_range(start, end)
        match mutant["genre"]:
            case "FnValue":
                self.before[start].append(f"if {force} {{ return {new}; }} ")
            case "BinaryOperator" if node.parent.type in ("binary_expression", "compound_assignment_expr"):
                left, right = (node.parent.child_by_field_name(side) for side in ("left", "right"))
                self.changed[node.parent.id].append((force, lambda: f"{self.render(left)} {new} {self.render(right)}"))
            case "UnaryOperator" if node.parent.type == "unary_expression":
                operand = node.parent.children[-1]
                self.changed[node.parent.id].append((force, lambda: self.render(operand)))
            case "MatchArm" if node.type == "match_arm":
                pattern = node.child_by_field_name("pattern")
                condition = pattern.child_by_field_name("condition")
                if condition:
                    self.before[condition.start_byte].append(f"!{force} && ")
                else:
                    self.after[pattern.end_byte].append(f" if !{force}")
            case "MatchArmGuard":
                kept = f"{force} ||" if new == "true" else f"!{force} &&"
                self.before[start].append(f"{kept} (")
                self.after[end].append(")")
            case _:
                return False
        return True

    def render(self, node):
        """The node's text with all changes in it."""
        if node.children:
            parts, at = [], node.start_byte
            for child in node.children:
                parts += [self.text[at : child.start_byte].decode(), self.render(child)]
                at = child.end_byte
            parts.append(self.text[at : node.end_byte].decode())
        else:
            around = self.before[node.start_byte], self.after[node.end_byte]
            parts = [*around[0], node.text.decode(), *around[1]]
        whole = "".join(parts)
        if node.id not in self.changed:
            return whole
        for force, other in self.changed[node.id]:
            whole = f"if {force} {{ {other()} }} else {{ {whole} }}"
        return f"({whole})"

    def write(self, more):
        root = self.tree.root_node
        ends = self.text[: root.start_byte].decode(), self.text[root.end_byte :].decode()
        self.path.write_text(ends[0] + self.render(root) + ends[1] + more)


def place(mutants, numbers):
    """Puts all these changes into the checkout; those that cannot be told apart there come back."""
    output("git", "checkout", "--quiet", "--", "crates", cwd=TREE)
    sources, alone = {}, set()
    for crate in CRATES:
        path = TREE / "crates" / crate / "src" / "lib.rs"
        sources[path] = Source(path)
    for number in numbers:
        path = TREE / mutants[number]["file"]
        source = sources.setdefault(path, Source(path) if path not in sources else None)
        if not source.take(number, mutants[number]):
            alone.add(number)
    for path, source in sources.items():
        source.write(SWITCH if path.name == "lib.rs" else "")
    return alone


def built():
    """The test programs with their folders by package, and those of users under `None`; or the errors of the build."""
    command = ["cargo", "test", "--no-run", "--quiet", "--message-format", "json", *tests()]
    done = subprocess.run(command, cwd=TREE, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode:
        return None, [m["message"] for m in messages if m["reason"] == "compiler-message" and m["message"]["level"] == "error"]
    programs = collections.defaultdict(dict)
    for message in messages:
        if message["reason"] == "compiler-artifact" and message.get("executable") and message["profile"]["test"]:
            folder = pathlib.Path(message["manifest_path"]).parent
            package = message["package_id"].rsplit("#", 1)[0].rsplit("/", 1)[-1]
            if package in CRATES:
                programs[package][message["executable"]] = folder
            elif (package, message["target"]["name"]) in USERS:
                programs[None][message["executable"]] = folder
    return programs, []


def blamed(errors):
    """The changes that errors are about: each named in the text that it points at, or last before it."""
    numbers = set()
    for error in errors:
        for span in error["spans"]:
            if span["is_primary"]:
                text = (TREE / span["file_name"]).read_bytes()
                inside = re.search(rb"crate::mutant\((\d+)\)", text[span["byte_start"] : span["byte_end"]])
                before = re.findall(rb"crate::mutant\((\d+)\)", text[: span["byte_start"]])
                if inside or before:
                    numbers.add(int(inside[1] if inside else before[-1]))
    return numbers


def limit_memory():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def passes(program, folder, number, seconds):
    """Whether a test program finds nothing wrong with a change in force."""
    environment = {**ENVIRONMENT, CHOSEN: str(number)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
    process = subprocess.Popen([program], cwd=folder, env=environment, start_new_session=True, preexec_fn=limit_memory, **quiet)
    try:
        return process.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def patience(programs):
    """Seconds for each test program, the shortest first. What fails as it is would seem to notice every change."""
    times = {}
    for program, folder in programs.items():
        start = time.monotonic()
        if not passes(program, folder, -1, 3600):
            sys.exit(f"this fails as it is: {program}")
        times[program] = time.monotonic() - start
    return {program: max(AT_LEAST, PATIENCE * times[program]) for program in sorted(times, key=times.get)}


def outcome(number, rounds):
    """`rounds` has test programs with their folders and seconds, by what it means that one of them notices."""
    for seen, (programs, seconds) in rounds.items():
        if not all(passes(program, programs[program], number, seconds[program]) for program in seconds):
            return seen
    return "missed"


def by_itself(mutant):
    """What becomes of a change that is built alone."""
    output("git", "checkout", "--quiet", "--", "crates", cwd=TREE)
    # Its second line has no file, but what is done.
    patch = re.sub(r"^\+\+\+ .*$", lambda _: f"+++ {mutant['file']}", mutant["diff"], count=1, flags=re.MULTILINE)
    subprocess.run(["git", "apply", "-p0", "--recount", "-"], cwd=TREE, input=patch, text=True, check=True)
    programs, _ = built()
    if programs is None:
        return "does not compile"
    sets = {"noticed": programs[mutant["package"]], "noticed by users": programs[None]}
    return outcome(-1, {seen: (programs, dict.fromkeys(programs, 300)) for seen, programs in sets.items()})


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
    known = listed()
    stored = Stored(RESULTS)
    if not stored.rows:
        names = sorted(known)
        stored.all |= {"seed": arguments.seed, "of": len(names)}
        chosen = random.Random(arguments.seed).sample(names, min(arguments.sample, len(names)))
        stored.rows.update((name, None) for name in sorted(chosen, key=lambda name: known[name]["package"]))
    todo = [None, "missed"] if arguments.missed else [None]
    names = [name for name, became in stored.rows.items() if became in todo]
    for name in [name for name in names if name not in known]:
        print(f"the sources have changed since, this stays {stored.rows[name]}: {name}", flush=True)
        names.remove(name)
    mutants = dict(enumerate(known[name] for name in names))

    def became(number, what):
        stored.rows[mutants[number]["name"]] = what
        stored.all["commit"] = commit
        stored.keep()
        print(f"{what}: {mutants[number]['name']}", flush=True)

    together, alone = set(mutants), set()
    while together:
        refused = place(mutants, sorted(together))
        programs, errors = (None, []) if refused else built()
        if programs:
            break
        refused |= blamed(errors)
        if not refused:
            sys.exit("the changes do not build together, and it is not told why:\n" + "\n".join(e["rendered"] for e in errors))
        print(f"{len(refused)} of {len(together)} cannot stand beside what they replace", flush=True)
        together -= refused
        # A function that returns what it names can return something else of that type, if there is such a thing.
        hopeless = {n for n in refused if mutants[n]["genre"] == "FnValue" and "impl " not in mutants[n]["function"]["return_type"]}
        for number in sorted(hopeless):
            became(number, "does not compile")
        alone |= refused - hopeless
    if together:
        seconds = {package: patience(own) for package, own in programs.items()}
        for number in sorted(together):
            if time.monotonic() > until:
                break
            own = mutants[number]["package"]
            sets = {"noticed": own, "noticed by users": None}
            became(number, outcome(number, {seen: (programs[p], seconds[p]) for seen, p in sets.items()}))
            tell(stored.rows)
    for number in sorted(alone):
        if time.monotonic() > until:
            break
        became(number, by_itself(mutants[number]))
        tell(stored.rows)


if __name__ == "__main__":
    main()
