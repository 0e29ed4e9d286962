"""layers.py - a file includes headers of its own layer and of lower ones; what is outside src/ uses <cove.h> alone.
SPDX-License-Identifier: Apache-2.0 OR MIT
"""
import os
import re
import sys

sys.dont_write_bytecode = True
from house import ROOT, files_under, read, report, self_test, without_comments

# From the lowest to the highest: src/NAME/ may include what stands before it, and itself.
LAYERS = ["base", "os", "region", "segment", "heap", "object", "sync", "container", "channel", "wait"]

# Includes that break the order on purpose: (file, header as it is written, why). One that is no longer needed is an error.
EXCEPTIONS = []

# Code that lives on the public interface alone.
OUTSIDE = ["tools", "bindings", "compat", "bridge", "bench", "examples"]

# What differs between systems stays behind src/os/os.h.
SYSTEM_HEADERS = re.compile(r"^(sys|linux|asm|net|arpa)/|^(unistd|fcntl|poll|sched|signal|dirent|grp|pwd|syscall)\.h$")
MAY_CALL_THE_SYSTEM = ["os", "region"]

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)


def includes_of(root, path):
    """(line, opening quote, header as written) of each include."""
    text = without_comments(read(root, path))
    for match in INCLUDE.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, match.group(1), match.group(2)


def resolve(root, path, header):
    """The file of the tree that a header means, or None for one of the system."""
    for base in (os.path.dirname(path), "src", "include"):
        candidate = os.path.normpath(os.path.join(base, header))
        if os.path.isfile(os.path.join(root, candidate)):
            return candidate
    return None


def complaint_inside(path, header, target):
    """For a file of src/."""
    own = path.split("/")[1]
    if target is None:
        if SYSTEM_HEADERS.search(header) and own not in MAY_CALL_THE_SYSTEM:
            return f"includes <{header}>: only src/{' and src/'.join(MAY_CALL_THE_SYSTEM)} talk to the system"
        return None
    if target.startswith("include/"):
        return None
    other = target.split("/")[1]
    if not target.startswith("src/") or other not in LAYERS:
        return f'includes "{header}", which belongs to no layer'
    if LAYERS.index(other) > LAYERS.index(own):
        return f'includes "{header}": layer {other} lies above layer {own}'
    return None


def complaint_outside(path, header, target):
    if target is None or target.split("/")[0] == path.split("/")[0] or target == "include/cove.h":
        return None
    if target.startswith("include/cove/"):
        return None
    return f'includes "{header}" ({target}): code outside src/ uses <cove.h> alone'


def complaint_public(path, header, target):
    if target is not None and not target.startswith("include/"):
        return f'includes "{header}" ({target}), which is not installed'
    return None


def judge(root, path):
    top, rest = path.split("/", 1)
    if top == "src" and rest.split("/")[0] not in LAYERS:
        yield f"{path}: lies in no layer ({', '.join(LAYERS)})", None
        return
    complain = {"src": complaint_inside, "include": complaint_public}.get(top, complaint_outside)
    for line, quote, header in includes_of(root, path):
        target = resolve(root, path, header)
        if target is None and quote == '"':
            yield f'{path}:{line}: includes "{header}", which is not in the tree', header
            continue
        complaint = complain(path, header, target)
        if complaint:
            yield f"{path}:{line}: {complaint}", header


def check(root, exceptions=()):
    unused = {(path, header) for path, header, _ in exceptions}
    problems = []
    for path in files_under(root, "src", "include", *OUTSIDE):
        for problem, header in judge(root, path):
            if (path, header) in {(p, h) for p, h, _ in exceptions}:
                unused.discard((path, header))
            else:
                problems.append(problem)
    return problems + [f'{path}: its exception for "{header}" is no longer needed' for path, header in sorted(unused)]


PLANTED = [
    ("a good tree", {"src/heap/heap.c": '#include "base/base.h"\n#include <cove.h>\n#include <string.h>\n',
                     "src/base/base.h": "", "include/cove.h": ""}, None),
    ("a layer above", {"src/base/a.c": '#include "heap/heap.h"\n', "src/heap/heap.h": ""}, "lies above layer base"),
    ("a layer above, by a path", {"src/os/a.c": '#include "../heap/heap.h"\n', "src/heap/heap.h": ""}, "lies above"),
    ("a layer above, in brackets", {"src/os/a.c": "#include <heap/heap.h>\n", "src/heap/heap.h": ""}, "lies above"),
    ("the same in a comment", {"src/os/a.c": '/*\n#include "heap/heap.h"\n*/\n', "src/heap/heap.h": ""}, None),
    ("a tool that looks inside", {"tools/cove/a.c": '#include "heap/heap.h"\n', "src/heap/heap.h": ""}, "<cove.h> alone"),
    ("a benchmark that looks inside", {"bench/a.c": '#include "../src/os/os.h"\n', "src/os/os.h": ""}, "<cove.h> alone"),
    ("a header of its own", {"bench/a.c": '#include "bench.h"\n', "bench/bench.h": ""}, None),
    ("a public header that needs a private one", {"include/cove/a.h": '#include "os/os.h"\n', "src/os/os.h": ""},
     "not installed"),
    ("a system call outside src/os", {"src/heap/a.c": "#include <sys/mman.h>\n"}, "talk to the system"),
    ("a directory that is no layer", {"src/misc/a.c": ""}, "lies in no layer"),
    ("an exception", {"src/base/excepted.c": '#include "heap/heap.h"\n', "src/heap/heap.h": ""}, None),
    ("an exception that nobody needs", {"src/base/excepted.c": ""}, "no longer needed"),
    ("an exception for another header", {"src/base/excepted.c": '#include "heap/heap.h"\n#include "sync/a.h"\n',
                                         "src/heap/heap.h": "", "src/sync/a.h": ""}, "layer sync lies above"),
    ("a header that is not there", {"src/os/a.c": '#include "nothing.h"\n'}, "not in the tree"),
]

PLANTED_EXCEPTIONS = [("src/base/excepted.c", "heap/heap.h", "planted")]


def check_planted(root):
    return check(root, [e for e in PLANTED_EXCEPTIONS if os.path.exists(os.path.join(root, e[0]))])


if __name__ == "__main__":
    if sys.argv[1:] == ["--self-test"]:
        self_test("layers", check_planted, PLANTED)
    report("layers", check(ROOT, EXCEPTIONS), len(files_under(ROOT, "src", "include", *OUTSIDE)))
