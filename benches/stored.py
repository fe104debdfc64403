"""Results in a JSON file, and the commands that make them: what the scripts of benches share."""

import datetime
import json
import os
import platform
import shlex
import subprocess
import sys


class Stored:
    """What has been measured: written as soon as it is there, and not measured again."""

    def __init__(self, path):
        self.path = path
        self.all = json.loads(path.read_text()) if path.exists() else {}
        self.rows = self.all.setdefault("rows", {})

    def keep(self):
        self.all["machine"] = f"{platform.machine()}, {os.cpu_count()} cores"
        self.all["date"] = datetime.date.today().isoformat()
        self.path.write_text(json.dumps(self.all, indent=1) + "\n")


def run(command, **options):
    """A command that has to succeed, or else the program ends with it."""
    command = [str(part) for part in command]
    done = subprocess.run(command, **({"stdout": subprocess.DEVNULL} | options))
    if done.returncode:
        said = f"\n{done.stderr}" if done.stderr else ""
        sys.exit(f"ended with {done.returncode}: {shlex.join(command)}{said}")
    return done
