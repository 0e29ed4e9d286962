"""headers.py - each public header compiles alone, in C11 and C++17, with both compilers and every warning that users may have on.
SPDX-License-Identifier: Apache-2.0 OR MIT
"""
import sys

sys.dont_write_bytecode = True
from house import ROOT, files_under, report, run

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror"]
LANGUAGES = [
    ("gcc", "c", ["-std=c11", "-Wstrict-prototypes"]),
    ("clang", "c", ["-std=c11", "-Wstrict-prototypes"]),
    ("gcc", "c", ["-std=gnu17"]),
    ("g++", "c++", ["-std=c++17"]),
    ("clang++", "c++", ["-std=c++17"]),
]

# Public macros are expanded once, since that is where their warnings appear.
USES = {
    "cove/base.h": "int use(int r); int use(int r) { return r == COVE_ECORRUPT && COVE_FOREVER > COVE_NOWAIT; }",
    "cove/heap.h": """
        struct node { COVE_REF(struct node) next; };
        struct node *use(cove_segment *segment, struct node *node);
        struct node *use(cove_segment *segment, struct node *node) { return COVE_AT(segment, node->next); }""",
}


def compile_alone(compiler, language, options, header):
    source = f"#include <{header}>\n{USES.get(header, '')}\n#include <{header}>\n"
    command = [compiler, "-x", language, *options, *WARNINGS, f"-I{ROOT}/include", "-fsyntax-only", "-"]
    return run(command, input=source)


if __name__ == "__main__":
    headers = [path[len("include/"):] for path in files_under(ROOT, "include")]
    problems = []
    for header in headers:
        for compiler, language, options in LANGUAGES:
            status, output = compile_alone(compiler, language, options, header)
            if status != 0:
                problems.append(f"{header} with {compiler} {' '.join(options)}:\n{output}")
    report("headers", problems, len(headers) * len(LANGUAGES))
