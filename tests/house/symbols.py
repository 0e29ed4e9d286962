"""symbols.py LIBCOVE.SO LIBCOVE.A - what the libraries define: cove_ names for everybody, covei_ names in the archive, no others.
SPDX-License-Identifier: Apache-2.0 OR MIT
"""
import re
import sys

sys.dont_write_bytecode = True
from house import ROOT, files_under, must, read, report

DEFINED = re.compile(r"^[0-9a-f]* ([A-Za-z]) (\S+)$", re.M)
DECLARED = re.compile(r"COVE_API\b[^;()]*?\b(cove_\w+)\s*\(")


def names(nm_output):
    """Defined global names; the version node (an absolute symbol) and the version after @ are not names."""
    return {n.split("@")[0] for kind, n in DEFINED.findall(nm_output) if kind.isupper() and kind not in "UA"}


def problems_of(shared, archive, declared):
    """Of three sets of names."""
    problems = [f"libcove.so exports {n}" for n in sorted(shared) if not n.startswith("cove_")]
    problems += [f"libcove.so exports {n}, which no public header declares" for n in sorted(shared - declared)
                 if n.startswith("cove_")]
    problems += [f"{n} is declared in a public header, and libcove.so has it not" for n in sorted(declared - shared)]
    problems += [f"libcove.a defines {n}" for n in sorted(archive) if not n.startswith(("cove_", "covei_"))]
    return problems


def declared_names():
    return {n for path in files_under(ROOT, "include") for n in DECLARED.findall(read(ROOT, path))}


def self_test():
    shared = names("0000 A COVE_0\n0001 T cove_open@@COVE_0\n0002 T covei_leak@@COVE_0\n0003 t local\n     U malloc\n")
    archive = names("\na.o:\n0001 T cove_open\n0002 T covei_x\n0003 B counter\n")
    found = problems_of(shared, archive, {"cove_open", "cove_missing"})
    expected = ["libcove.so exports covei_leak",
                "cove_missing is declared in a public header, and libcove.so has it not",
                "libcove.a defines counter"]
    extra = problems_of({"cove_open", "cove_stray"}, set(), {"cove_open"})
    good = found == expected and extra == ["libcove.so exports cove_stray, which no public header declares"]
    print("symbols: planted faults found" if good else f"symbols: FAILED: {found} {extra}")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    if sys.argv[1:] == ["--self-test"]:
        self_test()
    shared_library, static_library = sys.argv[1:]
    shared = names(must(["nm", "-D", "--defined-only", shared_library]))
    archive = names(must(["nm", "-g", "--defined-only", static_library]))
    report("symbols", problems_of(shared, archive, declared_names()), len(shared))
