"""install.py CMAKE BUILD_DIRECTORY C_COMPILER - installs into a fresh prefix, moves it, and builds a small outside program against it.
SPDX-License-Identifier: Apache-2.0 OR MIT

The program sends bytes through a stream, so it links, loads and runs with what was installed alone: through pkg-config and through
CMake's find_package, against the shared library and against the static one.
"""
import os
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
from house import files_under, must, report, ROOT

PROGRAM = r"""
#include <cove.h>
#include <stdio.h>
#include <string.h>

static int echo(cove_stream *writer, cove_stream *reader)
{
    char back[6] = "";
    if (cove_stream_write(writer, "hello", 6, COVE_FOREVER) != 6)
        return cove_complain("write");
    if (cove_stream_read(reader, back, sizeof back, COVE_FOREVER) != 6)
        return cove_complain("read");
    return strcmp(back, "hello") != 0;
}

int main(void)
{
    cove_stream *writer, *reader;
    if (cove_stream_open(&writer, "outside/hello", COVE_WRITER, NULL) < 0 ||
        cove_stream_open(&reader, "outside/hello", COVE_READER, NULL) < 0)
        return cove_complain("outside/hello");
    int status = echo(writer, reader);
    cove_stream_close(writer);
    cove_stream_close(reader);
    if (cove_unlink("outside", 0) < 0)
        return cove_complain("outside");
    printf("cove %s says hello\n", cove_version());
    return status;
}
"""

PROJECT = """
cmake_minimum_required(VERSION 3.25)
project(outside C)
find_package(cove {version} REQUIRED)
add_executable(with_shared outside.c)
target_link_libraries(with_shared PRIVATE cove::cove)
add_executable(with_static outside.c)
target_link_libraries(with_static PRIVATE cove::static)
"""


class Outside:
    """A directory outside of the tree with a prefix and a program in it."""

    def __init__(self, scratch, cmake, build, compiler):
        self.scratch, self.cmake, self.compiler = scratch, cmake, compiler
        first, self.prefix = os.path.join(scratch, "first"), os.path.join(scratch, "moved")
        must([cmake, "--install", build, "--prefix", first], env={k: v for k, v in os.environ.items() if k != "DESTDIR"})
        os.rename(first, self.prefix)
        self.files = files_under(self.prefix, ".", suffixes=("",))
        self.libraries = os.path.dirname(self.path_of("libcove.so"))
        self.segments = os.path.join(scratch, "segments")
        os.mkdir(self.segments)
        with open(os.path.join(scratch, "outside.c"), "w", encoding="utf-8") as file:
            file.write(PROGRAM)

    def path_of(self, name):
        """The one installed file whose path ends in that."""
        found = [f for f in self.files if ("/" + f).endswith("/" + name)]
        if len(found) != 1:
            sys.exit(f"installed {len(found)} files named {name}: {self.files}")
        return os.path.join(self.prefix, found[0])

    def pkg_config(self, *wishes):
        environment = dict(os.environ, PKG_CONFIG_PATH=os.path.dirname(self.path_of("cove.pc")))
        environment.pop("PKG_CONFIG_LIBDIR", None)
        return must(["pkg-config", *wishes, "cove"], env=environment).split()

    def works(self, program, shared):
        """Run it; what is wrong, if anything. A static one must run where there is no library to be found."""
        environment = {"COVE_DIR": self.segments, "PATH": os.environ["PATH"]}
        if shared:
            environment["LD_LIBRARY_PATH"] = self.libraries
        done = subprocess.run([program], env=environment, capture_output=True, text=True, timeout=30)
        if done.returncode != 0 or "says hello" not in done.stdout:
            return f"status {done.returncode}: {done.stdout}{done.stderr}"
        left = os.listdir(self.segments)
        return f"left {left} behind" if left else None


def through_pkg_config(outside, static):
    program = os.path.join(outside.scratch, "pkg_static" if static else "pkg_shared")
    libraries = outside.pkg_config("--libs", *(["--static"] if static else []))
    if static:
        libraries = ["-l:libcove.a" if l == "-lcove" else l for l in libraries]
    must([outside.compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", os.path.join(outside.scratch, "outside.c"), "-o",
          program, *outside.pkg_config("--cflags"), *libraries])
    return outside.works(program, shared=not static)


def build_with_cmake(outside):
    build = os.path.join(outside.scratch, "build")
    with open(os.path.join(outside.scratch, "CMakeLists.txt"), "w", encoding="utf-8") as file:
        file.write(PROJECT.format(version=outside.pkg_config("--modversion")[0]))
    must([outside.cmake, "-S", outside.scratch, "-B", build, f"-DCMAKE_PREFIX_PATH={outside.prefix}",
          f"-DCMAKE_C_COMPILER={outside.compiler}"])
    must([outside.cmake, "--build", build])
    return build


def wrong_with(outside):
    """(what was tried, what is wrong or None) for each way in."""
    yield "pkg-config, shared", through_pkg_config(outside, static=False)
    yield "pkg-config, static", through_pkg_config(outside, static=True)
    build = build_with_cmake(outside)
    yield "find_package, cove::cove", outside.works(os.path.join(build, "with_shared"), shared=True)
    yield "find_package, cove::static", outside.works(os.path.join(build, "with_static"), shared=False)
    yield "headers", complain_of_headers(outside)
    yield "the command", complain_of_command(outside)
    yield "licences", None if outside.path_of("LICENSE-APACHE") and outside.path_of("LICENSE-MIT") else "missing"


def complain_of_headers(outside):
    missing = [h for h in files_under(ROOT, "include") if h not in outside.files]
    return f"not installed: {missing}" if missing else None


def complain_of_command(outside):
    done = subprocess.run([outside.path_of("bin/cove"), "version"], env={}, capture_output=True, text=True, timeout=30)
    version = outside.pkg_config("--modversion")[0]
    return None if done.returncode == 0 and version in done.stdout else f"{done.returncode} {done.stdout}{done.stderr}"


def main(cmake, build, compiler):
    with tempfile.TemporaryDirectory() as scratch:
        tried = list(wrong_with(Outside(scratch, cmake, build, compiler)))
    report("install", [f"{what}: {wrong}" for what, wrong in tried if wrong], len(tried))


if __name__ == "__main__":
    main(*sys.argv[1:])
