"""layout.py - the bytes in shared memory: fixed-width fields, static asserts, and one layout for every compiler and word size.
SPDX-License-Identifier: Apache-2.0 OR MIT

    layout.py              check
    layout.py --with COMPILER [RUNNER]
                           check what this compiler makes of it, for another machine: its programs are run by RUNNER
    layout.py --print      print what layout.golden should hold now, to be looked at and pasted by hand
    layout.py --self-test  check that planted faults are found

layout.golden is what other builds of Cove, and segments that lie on somebody's machine, expect. It is never written by a
program: whoever changes it has decided to change the layout, and counts the layout number up with it.
"""
import errno
import itertools
import os
import re
import shlex
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
from house import ROOT, files_under, must, read, report, self_test, without_comments

GOLDEN = "tests/house/layout.golden"

# Structs of public headers that users embed in what they share: (header, struct).
PUBLIC = [(f"include/cove/{noun}.h", f"cove_{noun}")
          for noun in ("barrier", "condition", "counter", "event", "mutex", "once", "revision", "rwlock", "semaphore")]

COMPILERS = ["gcc", "clang"]
SHARED_STRUCT = re.compile(r"\bstruct\s+(covei_\w+_shm)\s*\{")
INTEGER = r"u?int(?:8|16|32|64)_t"
FIELD_TYPE = re.compile(rf"^(?:{INTEGER}|_Atomic\s+{INTEGER}|_Atomic\(\s*{INTEGER}\s*\)|char|struct\s+covei_\w+_shm)$")
FIELD = re.compile(r"^(?P<type>.*?[\s)])(?P<name>[A-Za-z_]\w*)\s*(?P<array>(?:\[[^\]]*\]\s*)*)$", re.S)
ALIGNAS = re.compile(r"\b(?:alignas|_Alignas)\s*\((?:[^()]|\([^()]*\))*\)")


def body_at(text, brace):
    """What stands between the brace at `brace` and its partner."""
    depth = 0
    for position in range(brace, len(text)):
        depth += (text[position] == "{") - (text[position] == "}")
        if depth == 0:
            return text[brace + 1:position]
    return text[brace + 1:]


class Field:
    def __init__(self, declaration):
        """One declaration of a struct's body; `complaint` says what is wrong with it."""
        self.name, self.flexible, self.complaint = None, False, None
        plain = " ".join(ALIGNAS.sub(" ", declaration).split())
        match = FIELD.match(plain)
        if not match:
            self.complaint = f"not one plain field: `{plain}`"
            return
        kind = match["type"].strip()
        self.name = match["name"]
        self.flexible = re.sub(r"\s", "", match["array"]).startswith("[]")
        if not FIELD_TYPE.match(kind):
            self.complaint = f"field {self.name} is `{kind}`: only fixed-width integers, char arrays and shared structs"
        elif kind == "char" and not match["array"]:
            self.complaint = f"field {self.name} is a single char, whose sign differs between machines"


class Struct:
    def __init__(self, header, name, body):
        self.header, self.name = header, name
        self.fields = [Field(d) for d in body.split(";") if d.strip()]


def structs_of(root):
    """Every shared struct of the tree, in the order in which they stand."""
    structs = []
    for header in files_under(root, "src", suffixes=("_shm.h",)):
        text = without_comments(read(root, header))
        for match in SHARED_STRUCT.finditer(text):
            structs.append(Struct(header, match.group(1), body_at(text, match.end() - 1)))
    for header, name in PUBLIC:
        if os.path.exists(os.path.join(root, header)):
            text = without_comments(read(root, header))
            match = re.search(rf"\bstruct\s+{name}\s*\{{", text)
            if match:
                structs.append(Struct(header, name, body_at(text, match.end() - 1)))
    return structs


def check_fields(struct):
    if not struct.fields:
        yield f"{struct.header}: struct {struct.name} has no fields"
    for field in struct.fields:
        if field.complaint:
            yield f"{struct.header}: struct {struct.name}: {field.complaint}"


def check_asserts(root, struct):
    """A static assert on its size, and one on the offset of each field behind the first."""
    if struct.header.startswith("include/"):
        return
    asserts = " ".join(re.findall(r"(?:_Static_assert|static_assert|COVEI_\w*OFFSET\w*|COVEI_\w*SIZE\w*)\s*\(.*?\)\s*;",
                                  without_comments(read(root, struct.header)), re.S))
    where = f"{struct.header}: struct {struct.name}"
    if not re.search(rf"sizeof\s*\(\s*struct\s+{struct.name}\s*\)", asserts):
        yield f"{where}: no static assert on its size"
    asserted = set(re.findall(rf"offsetof\s*\(\s*struct\s+{struct.name}\s*,\s*(\w+)", asserts))
    missing = [f.name for f in struct.fields[1:] if f.name and f.name not in asserted]
    if missing:
        yield f"{where}: no static assert on the offset of {', '.join(missing)}"


def check_strays(root):
    """Structs of shared memory stand in *_shm.h files, and those files hold no others."""
    for path in files_under(root, "src"):
        text = without_comments(read(root, path))
        shared = path.endswith("_shm.h")
        for name in re.findall(r"\bstruct\s+(\w+)\s*\{", text):
            if shared != bool(re.fullmatch(r"covei_\w+_shm", name)):
                yield f"{path}: struct {name}: covei_..._shm are defined in *_shm.h files, and nothing else is"


def program(structs):
    """A C program that prints one line for each struct and field."""
    lines = ["#include <stddef.h>", "#include <stdio.h>"]
    lines += [f'#include "{h}"' for h in dict.fromkeys(s.header for s in structs)]
    lines.append("int main(void)\n{")
    for struct in structs:
        tag = f"struct {struct.name}"
        lines.append(f'    printf("{struct.name} size %zu align %zu\\n", sizeof({tag}), _Alignof({tag}));')
        for field in struct.fields:
            size = "(size_t)0" if field.flexible else f"sizeof((({tag} *)0)->{field.name})"
            lines.append(f'    printf("    {field.name} at %zu size %zu\\n", offsetof({tag}, {field.name}), {size});')
    return "\n".join(lines + ["    return 0;", "}", ""])


class Target:
    """A way to compile: its name, the compiler's command, and what runs its programs."""
    def __init__(self, name, command, runner=()):
        self.name, self.command, self.runner = name, list(command), list(runner)


def targets():
    """Each way to compile here: both compilers, and both word sizes where the machine has two."""
    for compiler in COMPILERS:
        yield Target(compiler, [compiler])
    if os.uname().machine == "x86_64":
        # gcc-12-multilib brings the 32-bit libc but not the link to the kernel's headers, which gcc-multilib would.
        multiarch = must(["gcc", "-print-multiarch"]).strip()
        for compiler in COMPILERS:
            yield Target(f"{compiler} -m32", [compiler, "-m32", "-idirafter", f"/usr/include/{multiarch}"])


def layout_by(root, target, structs):
    """What a compiler makes of it, as text. Raises RuntimeError with what it said."""
    with tempfile.TemporaryDirectory() as scratch:
        source, binary = os.path.join(scratch, "layout.c"), os.path.join(scratch, "layout")
        with open(source, "w", encoding="utf-8") as file:
            file.write(program(structs))
        compile_command = target.command + ["-std=c11", "-w", "-D_GNU_SOURCE", "-I", root, "-I", os.path.join(root, "src"),
                                     "-I", os.path.join(root, "include"), source, "-o", binary]
        done = subprocess.run(compile_command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{shlex.join(target.command)}: {done.stderr}")
        try:
            return subprocess.run(target.runner + [binary], capture_output=True, text=True, check=True).stdout
        except OSError as error:
            reason = "this kernel does not run its programs" if error.errno == errno.ENOEXEC else str(error)
            raise RuntimeError(f"{shlex.join(target.command)}: {reason}") from error


def by_struct(layout):
    """{struct: its lines}, the first of which holds its size."""
    structs = {}
    for line in layout.splitlines():
        if line and not line.startswith(" "):
            structs[line.split()[0]] = lines = []
        if line:
            lines.append(line.strip())
    return structs


def differences(expected, found):
    """A sentence for each struct that only one of them has, and for the first lines of one that differ."""
    golden_structs, found_structs = by_struct(expected), by_struct(found)
    for name in sorted(golden_structs.keys() ^ found_structs.keys()):
        yield f"struct {name} is only in {'layout.golden' if name in golden_structs else 'the sources'}"
    for name in sorted(golden_structs.keys() & found_structs.keys()):
        pairs = itertools.zip_longest(golden_structs[name], found_structs[name], fillvalue="nothing")
        different = [f"{name}: golden has `{a}`, found `{b}`" for a, b in pairs if a != b]
        yield from different[:4]


def golden(root):
    """The golden file without its comments; "" where there is none."""
    path = os.path.join(root, GOLDEN)
    if not os.path.exists(path):
        return ""
    return "".join(line for line in read(root, GOLDEN).splitlines(True) if not line.startswith("#"))


def check_compiled(root, structs, ways):
    expected = golden(root)
    for target in ways:
        try:
            found = layout_by(root, target, structs)
        except RuntimeError as error:
            yield f"{target.name}: {error}"
            continue
        for line in differences(expected, found):
            yield f"{target.name}: {line}"


def check(root):
    structs = structs_of(root)
    problems = list(check_strays(root))
    for struct in structs:
        problems += list(check_fields(struct)) + list(check_asserts(root, struct))
    if not any(f.name is None for s in structs for f in s.fields):
        problems += check_compiled(root, structs, targets())
    return problems


HEAD = "#include <stdalign.h>\n#include <stddef.h>\n#include <stdint.h>\n"
GOOD = HEAD + """struct covei_x_shm {
    alignas(8) _Atomic uint64_t a; /* first; always */
    uint32_t b[2];
    char c[8];
};
_Static_assert(sizeof(struct covei_x_shm) == 24, "x");
_Static_assert(offsetof(struct covei_x_shm, b) == 8, "x");
_Static_assert(offsetof(struct covei_x_shm, c) == 16, "x");
"""
GOOD_GOLDEN = """# a comment
covei_x_shm size 24 align 8
    a at 0 size 8
    b at 8 size 8
    c at 16 size 8
"""


def planted(old, new, golden_text=GOOD_GOLDEN):
    assert old in GOOD
    return {"src/os/x_shm.h": GOOD.replace(old, new), GOLDEN: golden_text}


PLANTED = [
    ("a good header", planted("", ""), None),
    ("a size_t", planted("uint32_t b[2];", "size_t b;"), "field b is `size_t`"),
    ("a long", planted("uint32_t b[2];", "long b;"), "field b is `long`"),
    ("an int", planted("uint32_t b[2];", "int b[2];"), "field b is `int`"),
    ("a pointer", planted("uint32_t b[2];", "char *b;"), "not one plain field"),
    ("a pointer to a struct", planted("uint32_t b[2];", "struct covei_y_shm *b;"), "not one plain field"),
    ("an enum", planted("uint32_t b[2];", "enum kind b;"), "field b is `enum kind`"),
    ("a bool", planted("uint32_t b[2];", "_Bool b;"), "field b is `_Bool`"),
    ("a bit-field", planted("uint32_t b[2];", "uint32_t b : 3;"), "not one plain field"),
    ("an atomic int", planted("_Atomic uint64_t a", "_Atomic int a"), "field a is `_Atomic int`"),
    ("no assert on the size", planted("_Static_assert(sizeof", "// _Static_assert(sizeof"), "no static assert on its size"),
    ("an offset that nobody asserts", planted("_Static_assert(offsetof(struct covei_x_shm, b)", "// "), "offset of b"),
    ("a field that has moved", planted("", "", GOOD_GOLDEN.replace("b at 8", "b at 12")), "golden has `b at 12"),
    ("a struct that the golden file lacks", planted("", "", "# nothing\n"), "only in the sources"),
    ("a struct that the sources lack", planted("", "", GOOD_GOLDEN + "covei_y_shm size 8 align 8\n"), "only in layout.golden"),
    ("a field that the golden file lacks", planted("", "", GOOD_GOLDEN.replace("    c at 16 size 8\n", "")), "found `c at 16"),
    ("another layout in 32 bit",
     {"src/os/x_shm.h": HEAD + "struct covei_x_shm {\n    uint32_t a;\n    uint64_t b;\n};\n"
      "_Static_assert(sizeof(struct covei_x_shm) <= 16, \"x\");\n"
      "_Static_assert(offsetof(struct covei_x_shm, b) <= 8, \"x\");\n",
      GOLDEN: "covei_x_shm size 16 align 8\n    a at 0 size 4\n    b at 8 size 8\n"},
     "gcc -m32: covei_x_shm" if os.uname().machine == "x86_64" else None),
    ("a shared struct elsewhere", {"src/os/x.h": GOOD, GOLDEN: ""}, "are defined in *_shm.h files"),
]

if __name__ == "__main__":
    if sys.argv[1:] == ["--self-test"]:
        self_test("layout", check, PLANTED)
    if sys.argv[1:] == ["--print"]:
        sys.stdout.write(layout_by(ROOT, Target("gcc", ["gcc"]), structs_of(ROOT)))
        sys.exit(0)
    if sys.argv[1:2] == ["--with"]:
        # Static, so that whatever runs it needs no libraries of that machine.
        there = Target(sys.argv[2], shlex.split(sys.argv[2]) + ["-static"], shlex.split(" ".join(sys.argv[3:])))
        report("layout", list(check_compiled(ROOT, structs_of(ROOT), [there])), len(structs_of(ROOT)))
    report("layout", check(ROOT), len(structs_of(ROOT)))
