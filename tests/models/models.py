"""models.py [--long] [--only TEXT] [MODEL...] - verifies the protocols of this directory with Spin; mutants fail.
SPDX-License-Identifier: Apache-2.0 OR MIT

Each row below is one search through all states of a model within the bounds of its definitions; the heads of the
models say what they mean. A search that is cut short (depth, memory) has failed, and so has a mutant that passes,
fails otherwise than it should, or leaves no trail. Of each model the lines that no search reached are told, and are a
failure too. --long, or COVE_SOAK=1 in the environment, adds larger bounds. --only picks rows by a piece of text.

Status 0: all is as it should be; 1: not; 77: there is no Spin, or no C compiler, here.
"""
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))

# How a search is compiled and run: what it looks for.
SAFETY = ("-DSAFETY", "")
PROGRESS = ("-DNP -DNOCLAIM -DNFAIR=3", "-l -f")  # no cycle in which nobody gets anything, each process being fair
ALWAYS = ("-DNFAIR=3", "-a -f")  # a formula of the model, likewise

# model, definitions, how, what is searched
COMPLETE = [
    ("mutex", "POLLS CRASHES=2", SAFETY, "two die anywhere, recoverers too"),
    ("mutex", "POLLS CRASHES=1 ALL_ABORT", SAFETY, "one dies; all abort, and commit with effects"),
    ("mutex", "NO_SLICES NO_DATA RESTS TIMEOUTS CRASHES=0", SAFETY, "no wake-up is lost, waiters give up"),
    ("mutex", "POLLS NO_DATA RESTS CRASHES=1", PROGRESS, "somebody always gets it"),
    ("fair", "NO_LONG_SLICES ATTEMPTS=3 TIMEOUTS CRASHES=0", SAFETY, "order; no wake-up is lost, waiters give up"),
    ("fair", "NO_LONG_SLICES ATTEMPTS=3 SLOW_LOOK CRASHES=0", SAFETY, "order; the queue changes while it is looked at"),
    ("fair", "POLLS ATTEMPTS=3 CRASHES=1", SAFETY, "order, one dies anywhere"),
    ("fair", "POLLS ATTEMPTS=2 CRASHES=1 PASSES", SAFETY, "those before are passed, one dies anywhere"),
    ("fair", "POLLS ATTEMPTS=2 CRASHES=1", PROGRESS, "everybody gets it"),
    ("rwlock", "POLLS TIMEOUTS CRASHES=1", SAFETY, "one dies anywhere, writers give up"),
    ("rwlock", "NO_SLICES TIMELY RESTS CRASHES=0", SAFETY, "no wake-up is lost"),
    ("rwlock", "POLLS ROLES CRASHES=1 WRITER_GETS_IN", ALWAYS, "a writer that has the word gets in"),
    ("semaphore", "POLLS CRASHES=2", SAFETY, "two die anywhere"),
    ("semaphore", "POLLS CRASHES=1 PERMITS=2 PLAIN=3", SAFETY, "owned and plain permits, one dies anywhere"),
    ("semaphore", "NO_SLICES RESTS CRASHES=0", SAFETY, "no wake-up is lost"),
    ("semaphore", "NO_SLICES RESTS CRASHES=0 PERMITS=2 PLAIN=3", SAFETY, "likewise, owned and plain permits"),
    ("semaphore", "POLLS CRASHES=1", PROGRESS, "somebody always gets one"),
    ("condition", "NO_SLICES", SAFETY, "no signal is lost"),
    ("condition", "CRASHES=1 ANY_ORDER THINGS=2", SAFETY, "no signal is lost, one dies, woken in any order"),
    ("barrier", "NO_SLICES TIMEOUTS CRASHES=0", SAFETY, "no wake-up is lost, waiters give up"),
    ("barrier", "POLLS TIMEOUTS CRASHES=1", SAFETY, "one dies anywhere, waiters give up"),
    ("barrier", "POLLS CRASHES=1", PROGRESS, "rounds go on, one dies"),
]
LONG = [
    ("mutex", "POLLS CRASHES=3", SAFETY, "three die anywhere"),
    ("mutex", "POLLS CRASHES=2 ALL_ABORT", SAFETY, "two die; all abort, and commit with effects"),
    ("mutex", "POLLS CRASHES=1 LANES=4", SAFETY, "four lanes"),
    ("mutex", "CRASHES=1 NO_DATA", SAFETY, "asleep, one dies anywhere"),
    ("mutex", "NO_SLICES NO_DATA RESTS TIMEOUTS CRASHES=0 LANES=4", SAFETY, "no wake-up is lost, four lanes"),
    ("fair", "NO_LONG_SLICES ATTEMPTS=4 CRASHES=0", SAFETY, "order, four attempts"),
    ("fair", "NO_LONG_SLICES ATTEMPTS=4 TIMEOUTS CRASHES=0", SAFETY, "order, four attempts, waiters give up"),
    ("fair", "NO_LONG_SLICES ATTEMPTS=3 TIES CRASHES=0", SAFETY, "two come in one nanosecond"),
    ("fair", "POLLS ATTEMPTS=3 CRASHES=1 PASSES", SAFETY, "those before are passed, one dies anywhere"),
    ("fair", "POLLS ATTEMPTS=3 CRASHES=1", PROGRESS, "everybody gets it"),
    ("fair", "POLLS ATTEMPTS=4 CRASHES=1", SAFETY, "order, four attempts, one dies anywhere"),
    ("fair", "POLLS ATTEMPTS=3 CRASHES=2", SAFETY, "order, two die anywhere"),
    ("fair", "ATTEMPTS=3 CRASHES=1", SAFETY, "asleep, one dies anywhere"),
    ("rwlock", "POLLS TIMEOUTS CRASHES=2", SAFETY, "two die anywhere"),
    ("rwlock", "NO_SLICES TIMELY RESTS CRASHES=1", SAFETY, "no wake-up is lost, though one dies"),
    ("rwlock", "POLLS CRASHES=1 WRITER_GETS_IN", ALWAYS, "a writer that has the word gets in"),
    ("semaphore", "NO_SLICES RESTS CRASHES=0 TIMEOUTS PLAIN=3", SAFETY, "no wake-up is lost, waiters give up"),
    ("semaphore", "NO_SLICES RESTS CRASHES=0 SLOW_LOOK", SAFETY, "marks change while they are counted"),
    ("condition", "NO_SLICES THINGS=4", SAFETY, "no signal is lost, four things"),
    ("condition", "CRASHES=2 ANY_ORDER THINGS=4", SAFETY, "no signal is lost, two die, woken in any order"),
    ("barrier", "POLLS TIMEOUTS CRASHES=2", SAFETY, "two die anywhere"),
    ("barrier", "POLLS CRASHES=2", PROGRESS, "rounds go on, two die"),
]

ASSERTION, HANG, CYCLE = "assertion violated", "invalid end state", "cycle"

# model, definitions (the last is the mutant), how, how it fails, what is wrong with it
MUTANTS = [
    ("mutex", "POLLS CRASHES=1 LATE_OWNER", SAFETY, ASSERTION, "the place is filled after the word is taken"),
    ("mutex", "POLLS CRASHES=1 CLEARS_FIRST", SAFETY, ASSERTION, "the place is emptied before the word is given back"),
    ("mutex", "POLLS CRASHES=1 EARLY_FREE", SAFETY, ASSERTION, "recovery frees before it undoes"),
    ("mutex", "POLLS CRASHES=1 NAIVE_RECOVERY", SAFETY, ASSERTION, "recovery does not undo"),
    ("mutex", "POLLS CRASHES=1 BLIND_FREE", SAFETY, ASSERTION, "recovery frees a word without looking whom it names"),
    ("mutex", "POLLS CRASHES=1 FORGETS_PHASE", SAFETY, ASSERTION, "recovery undoes again what was undone"),
    ("mutex", "POLLS CRASHES=1 LAZY_CLAIM", SAFETY, ASSERTION, "recovery does not look again once it has the claim"),
    ("mutex", "NO_SLICES NO_DATA RESTS TIMEOUTS CRASHES=0 GIVES_UP_SILENTLY", SAFETY, HANG,
     "who gives up keeps a wake-up"),
    ("mutex", "NO_DATA RESTS CRASHES=1 NO_SLICES", SAFETY, HANG, "waiters do not sleep in slices"),
    ("fair", "NO_LONG_SLICES ATTEMPTS=3 CRASHES=0 NEWCOMERS_PASS", SAFETY, ASSERTION,
     "who comes takes a word that others wait for"),
    ("fair", "NO_LONG_SLICES ATTEMPTS=3 CRASHES=0 ONE_LOOK", SAFETY, HANG, "who took WAITERS off does not look again"),
    ("rwlock", "POLLS CRASHES=1 READER_NO_FENCE", SAFETY, ASSERTION, "the reader's mark is a plain store"),
    ("rwlock", "POLLS CRASHES=1 LOOK_FIRST", SAFETY, ASSERTION, "the reader looks before it marks"),
    ("rwlock", "POLLS CRASHES=1 DROPS_BEFORE_MARK", SAFETY, ASSERTION, "a reader in turn marks after giving the word back"),
    ("rwlock", "POLLS CRASHES=1 IGNORES_NEWS", SAFETY, ASSERTION, "a reader passes the news of a death"),
    ("rwlock", "POLLS CRASHES=1 EARLY_FREE", SAFETY, ASSERTION, "recovery frees before it undoes"),
    ("rwlock", "POLLS CRASHES=1 NAIVE_RECOVERY", SAFETY, ASSERTION, "recovery does not undo"),
    ("rwlock", "POLLS ROLES CRASHES=1 WRITER_GETS_IN KEEPS_MARK", ALWAYS, CYCLE,
     "recovery leaves a dead reader's mark"),
    ("rwlock", "NO_SLICES TIMELY RESTS CRASHES=0 READS_DRAIN_LATE", SAFETY, HANG, "`drain` is read after the marks"),
    ("rwlock", "RESTS CRASHES=0 NO_SLICES", SAFETY, HANG, "no slices, and a store that stays in its buffer"),
    ("semaphore", "POLLS CRASHES=0 MARKS_LATE", SAFETY, ASSERTION, "the mark is set after the word is changed"),
    ("semaphore", "POLLS CRASHES=0 KEEPS_SEQUENCE", SAFETY, ASSERTION, "taking an owned one does not change the word"),
    ("semaphore", "NO_SLICES RESTS CRASHES=0 SLEEPS_AT_ONCE", SAFETY, HANG, "who set WAITERS does not count again"),
    ("semaphore", "NO_SLICES RESTS CRASHES=0 TIMEOUTS NO_PASSING_ON", SAFETY, HANG, "who gives up keeps a wake-up"),
    ("condition", "CRASHES=0 CLEARS_ALONE", SAFETY, ASSERTION, "WAITERS is taken off without a new sequence"),
    ("condition", "CRASHES=0 LEAVES_FIRST", SAFETY, ASSERTION, "the mutex is free before the waiter is registered"),
    ("condition", "CRASHES=1 NO_SLICES", SAFETY, ASSERTION, "waiters do not sleep in slices"),
    ("barrier", "POLLS CRASHES=1 NEVER_BREAKS", SAFETY, ASSERTION, "a death does not break it"),
    ("barrier", "POLLS CRASHES=1 KEEPS_EPOCH", SAFETY, ASSERTION, "resetting it does not begin an epoch"),
]
LONG_MUTANTS = [
    ("barrier", "POLLS CRASHES=2 MARK_FIRST", SAFETY, ASSERTION, "recovery empties the mark before it breaks it"),
    ("barrier", "POLLS CRASHES=2 TELLS_ONCE", SAFETY, ASSERTION, "who was told of one death is not told of the next"),
    ("fair", "NO_LONG_SLICES ATTEMPTS=4 CRASHES=0 TIMEOUTS ONE_WAKING_LOOK", SAFETY, HANG,
     "who took WAITERS off, finding nobody to wake, does not look again"),
    ("fair", "POLLS ATTEMPTS=4 CRASHES=1 GIVES_AS_IT_WAS", SAFETY, ASSERTION, "recovery leaves WAITERS as it was"),
]

# Limits of a search: depth, log2 of the slots of its hash table (it grows), memory in MB, seconds.
SHORT = (2000000, 22, 900, 240)
MUTANT = (500000, 20, 900, 240)
LONG_MUTANT = (500000, 24, 4000, 3600)
LARGE = (20000000, 24, 8000, 6 * 3600)


class Search:
    """One run of the verifier; `bad` says what is wrong with it as such, `error` what it found."""

    def __init__(self, model, definitions, how, directory, limits):
        self.directory = directory
        flags = ["-D" + d for d in definitions.split()]
        depth, slots, memory_mb, seconds = limits
        optimise = {MUTANT: "-O0", LARGE: "-O2"}.get(limits, "-O1")
        for file in os.listdir(HERE):
            if file.endswith(".pml"):
                shutil.copy(os.path.join(HERE, file), directory)
        self.replay = ["spin", *flags, "-t", "-p", model + ".pml"]
        began = time.monotonic()
        self.bad, self.error, self.text, self.reached, self.compiled = None, None, "", set(), set()
        commands = [
            ["spin", *flags, "-a", model + ".pml"],
            [os.environ.get("CC", "cc"), "-w", optimise, "-DCOLLAPSE", f"-DMEMLIM={memory_mb}", *how[0].split(),
             "-o", "pan", "pan.c"],
        ]
        for command in commands:
            status, text = self.run(command, 120)
            if status != 0 or not os.path.exists(os.path.join(directory, "pan.c")):
                self.bad = f"{' '.join(command)}: {text.strip()}"
                return
        status, self.text = self.run(["./pan", f"-m{depth}", f"-w{slots}", *how[1].split()], seconds)
        self.seconds = time.monotonic() - began
        self.judge(status)
        self.note_lines(model)

    def run(self, command, seconds):
        try:
            done = subprocess.run(command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            return 124, f"not done after {seconds} s"
        return done.returncode, done.stdout

    def number(self, pattern):
        found = re.findall(pattern, self.text)
        return float(found[-1]) if found else 0

    def judge(self, status):
        self.states, self.depth = self.number(r"(\d+) states, stored"), self.number(r"depth reached (\d+)")
        self.memory = self.number(r"([\d.]+)\s+total actual memory usage")
        found = re.search(r"^pan:\d+: (.*)$", self.text, re.M)
        self.error = found.group(1) if found else None
        if status == 124 or "errors: " not in self.text:
            self.bad = "the search ended early: " + self.text.strip()[-300:]
        elif "max search depth too small" in self.text or "out of memory" in self.text or "memory bound" in self.text:
            self.bad = "the search is not complete: more depth or memory is needed"
        elif self.error and not any(f.endswith(".trail") for f in os.listdir(self.directory)):
            self.bad = "it failed without a trail"

    def note_lines(self, model):
        """Which lines of the model are in this search at all, and which of them were reached."""
        name = re.escape(model + ".pml")
        missed = set(re.findall(name + r":(\d+), state (\d+),", self.text))
        _, table = self.run(["./pan", "-d"], 60)
        table = re.findall(r"^\s*state +(\d+) -.*" + name + r":(\d+) ", table, re.M)
        states = {(line, state) for state, line in table}
        self.compiled = {int(line) for line, _ in states}
        self.reached = {int(line) for line, _ in states - missed}

    def show_trail(self):
        _, text = self.run(self.replay, 120)
        steps = [line.strip() for line in text.splitlines() if re.match(r"\s*\d+:\s+proc", line)]
        print(f"    {' '.join(self.replay)}, its last steps:")
        for step in steps[-60:]:
            print("    " + step)


def row(model, verdict, search, text, definitions):
    figures = f"{search.states / 1e6:8.3f} M states {search.depth:8.0f} deep" \
        f" {search.memory:5.0f} MB {search.seconds:6.1f} s" if search.text else "not run"
    print(f"{verdict:6} {model:9} {figures:48}  {text}  [{definitions}]", flush=True)


def verify(model, definitions, how, text, limits, lines):
    with tempfile.TemporaryDirectory() as directory:
        search = Search(model, definitions, how, directory, limits)
        good = not search.bad and not search.error
        row(model, "ok" if good else "FAILED", search, text, definitions)
        if search.bad or search.error:
            print("    " + (search.bad or search.error))
        if search.error and not search.bad:
            search.show_trail()
        compiled, reached = lines.setdefault(model, (set(), set()))
        compiled |= search.compiled
        reached |= search.reached
        return good


def fails(model, definitions, how, expected, text, limits):
    with tempfile.TemporaryDirectory() as directory:
        search = Search(model, definitions, how, directory, limits)
        wrong = search.bad or (not search.error and "a mutant passes") or \
            (expected not in search.error and f"it fails otherwise than by `{expected}`: {search.error}")
        row(model, "FAILED" if wrong else "caught", search, text, definitions)
        if wrong:
            print("    " + wrong)
        return not wrong


def tell_unreached(model, compiled, reached):
    """Lines in which there is something to do that no search of the model did."""
    with open(os.path.join(HERE, model + ".pml"), encoding="utf-8") as file:
        text = file.read().splitlines()
    wrong = 0
    for line in sorted(compiled - reached):
        code = text[line - 1].strip()
        if code not in ("}", "false", "od"):  # the ends of processes that have none, or wait at their end for ever
            print(f"FAILED {model}.pml:{line}: no search comes here: {code}")
            wrong += 1
    return wrong


def main():
    arguments = sys.argv[1:]
    long = "--long" in arguments or os.environ.get("COVE_SOAK") == "1"
    only = arguments[arguments.index("--only") + 1] if "--only" in arguments else ""
    models = [a for a in arguments if not a.startswith("-") and a != only]
    if not shutil.which("spin") or not shutil.which(os.environ.get("CC", "cc")):
        print("skipped: no spin here, or no C compiler (Debian: apt-get install spin gcc)")
        return 77
    resource.setrlimit(resource.RLIMIT_STACK, (64 << 20, resource.getrlimit(resource.RLIMIT_STACK)[1]))
    passed = failed = 0
    lines = {}

    def wanted(model, *texts):
        return (not models or model in models) and only in " ".join(texts)

    def add(good):
        nonlocal passed, failed
        passed, failed = passed + bool(good), failed + (not good)

    for model, definitions, how, text in COMPLETE:
        if wanted(model, definitions, text):
            add(verify(model, definitions, how, text, SHORT, lines))
    if not only:
        for model, (compiled, reached) in lines.items():
            failed += tell_unreached(model, compiled, reached)
    for mutants, limits in [(MUTANTS, MUTANT)] + ([(LONG_MUTANTS, LONG_MUTANT)] if long else []):
        for model, definitions, how, expected, text in mutants:
            if wanted(model, definitions, text):
                add(fails(model, definitions, how, expected, text, limits))
    for model, definitions, how, text in LONG if long else []:
        if wanted(model, definitions, text):
            add(verify(model, definitions, how, text, LARGE, {}))
    print(f"models: {passed} as they should be, {failed} not")
    return 1 if failed or passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
