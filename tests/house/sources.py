"""sources.py - every source names its licence, and no file names a place that only exists on its author's machine.
SPDX-License-Identifier: Apache-2.0 OR MIT
"""
import os
import re
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
from house import ROOT, report, self_test

SPDX = "SPDX-License-Identifier: Apache-2.0 OR MIT"
SOURCE = re.compile(r"(\.(c|h|cc|cpp|hpp|py|sh|cmake|map|pc\.in|cmake\.in|pml|rs|go)|(^|/)(CMakeLists\.txt|Makefile)|^\.ci/.*)$")
MACHINE_PATH = re.compile(r"(?<![\w.$}])/(?:home|Users|root|work|workspace|mnt)/[\w.-]+")


def tracked(root):
    """Files that git knows or would take; all of them where there is no git, or this is no checkout."""
    names = []
    if shutil.which("git"):
        command = ["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(command, capture_output=True).stdout.decode().split("\0")
    if not any(names):
        names = [os.path.relpath(os.path.join(where, n), root) for where, _, files in os.walk(root) for n in files]
        names = [n for n in names if not n.startswith(("build/", ".git/"))]
    return sorted(n for n in names if os.path.isfile(os.path.join(root, n)))


def check(root):
    problems = []
    for name in tracked(root):
        with open(os.path.join(root, name), "rb") as file:
            text = file.read().decode("utf-8", errors="replace")
        if SOURCE.search(name) and SPDX not in text:
            problems.append(f"{name}: no line `{SPDX}`")
        if "\0" in text:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            match = MACHINE_PATH.search(line)
            if match:
                problems.append(f"{name}:{number}: names `{match.group()}`, which is a place on one machine")
    return problems


HOME = "/ho" + "me/"
PLANTED = [
    ("a good source", {"src/a.c": f"/* {SPDX} */\n"}, None),
    ("a source without a licence", {"src/a.c": "int a;\n"}, "src/a.c: no line"),
    ("a script without a licence", {".ci/run": "#!/bin/sh\n"}, ".ci/run: no line"),
    ("a text that needs none", {"README.md": "Cove\n"}, None),
    ("somebody's home", {"README.md": f"see {HOME}somebody/cove\n"}, "README.md:1: names"),
    ("a path below a variable", {"README.md": f"see $PREFIX{HOME}x and docs{HOME}x\n"}, None),
]

if __name__ == "__main__":
    if sys.argv[1:] == ["--self-test"]:
        self_test("sources", check, PLANTED)
    report("sources", check(ROOT), len(tracked(ROOT)))
