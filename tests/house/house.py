"""house.py - what the tests of the tree share: where it is, which files it has, how a check reports.
SPDX-License-Identifier: Apache-2.0 OR MIT
"""
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def files_under(root, *directories, suffixes=(".c", ".h")):
    """Paths relative to `root`, sorted."""
    found = []
    for directory in directories:
        for where, _, names in os.walk(os.path.join(root, directory)):
            found += [os.path.relpath(os.path.join(where, n), root) for n in names if n.endswith(suffixes)]
    return sorted(found)


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as file:
        return file.read()


def without_comments(text):
    """C source with comments and the insides of strings blanked; lines stay where they were."""
    pattern = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.S)
    return pattern.sub(lambda m: m.group() if m.group()[0] == '"' else re.sub(r"[^\n]", " ", m.group()), text)


def run(command, **options):
    """Run a command; returns (status, what it printed on both)."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    return done.returncode, done.stdout


def must(command, **options):
    status, output = run(command, **options)
    if status != 0:
        sys.exit(f"{' '.join(command)}\n{output}exit status {status}")
    return output


def report(what, problems, looked_at):
    """Print the problems; exits. Having looked at nothing is a problem too."""
    if looked_at == 0:
        problems = [f"{what}: found nothing to look at"]
    for problem in problems:
        print(problem)
    print(f"{what}: {looked_at} looked at, {len(problems)} wrong")
    sys.exit(1 if problems else 0)


def self_test(what, check, cases):
    """Each case: (what is planted, {path: text}, a piece of the expected complaint, or None where there must be none)."""
    failures = 0
    for title, tree, expected in cases:
        with tempfile.TemporaryDirectory() as root:
            for path, text in tree.items():
                os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
                with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                    file.write(text)
            problems = check(root)
        good = not problems if expected is None else any(expected in p for p in problems)
        failures += not good
        print(f"{'ok    ' if good else 'FAILED'} {title}" + ("" if good else f": {problems}"))
    print(f"{what}: {len(cases)} planted, {failures} handled wrongly")
    sys.exit(1 if failures or not cases else 0)
