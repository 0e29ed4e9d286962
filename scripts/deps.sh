#!/usr/bin/env bash
# deps.sh KIND... - looks whether a Debian machine has what KIND (demo, test, bench, coverage, format) needs, and installs the rest.
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# Nothing is removed for it: where packages conflict (gcc-multilib with every cross compiler; gcc-12-multilib does not) apt-get says so.
# Silent where nothing is missing, and then it asks for no rights and no network. Otherwise apt-get, through sudo where we are
# not root; where that cannot be, one sentence with the command, and status 1.
set -u

missing=()

# need PACKAGE COMMAND...: the package is missing if the command fails.
need()
{
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

has() { command -v "$1"; }
has_header() { echo "#include <$1>" | cc -E -; }
has_cxx_header() { echo "#include <$1>" | c++ -x c++ -E -; }
makes_32_bit() { echo 'int main(void) { return 0; }' | gcc -m32 -x c - -o /dev/null; }
# What only a package database knows; where there is none we believe that it is there, and the build says what is not.
is_installed() { ! has dpkg-query || dpkg-query -W -f '${Status}' "$1" | grep -q '^install ok installed'; }

need_for_demo()
{
    need make has make
    need gcc has gcc
    need libc6-dev has_header stdio.h
    need cmake has cmake
    # of the command
    need pkg-config has pkg-config
    need libpopt-dev has_header popt.h
    need libjson-c-dev has_header json-c/json.h
    need zlib1g-dev has_header zlib.h
}

need_for_test()
{
    need_for_demo
    need g++ has g++
    need clang has clang
    need libclang-rt-dev has_clang_runtime
    need libcmocka-dev has_header cmocka.h
    need python3 has python3
    need strace has strace
    need valgrind has valgrind
    need libc6-dbg is_installed libc6-dbg
    need spin has spin
    # The 32-bit layout is checked where the compiler makes 32-bit programs. (Of the two packages that bring that, this one lives
    # beside the cross compilers.)
    if [ "$(uname -m)" = x86_64 ]; then
        need "gcc-$(gcc_release)-multilib" makes_32_bit
    fi
}

need_for_soak()
{
    need_for_test
    need afl++ has afl-clang-fast
}

# What runs on the other side, cmocka and the command's libraries, is not installed: scripts/ports.sh unpacks it below build/.
need_for_port_aarch64()
{
    need_for_demo
    need python3 has python3
    need "gcc-$(gcc_release)-aarch64-linux-gnu" has_cross_compiler
    need libc6-dev-arm64-cross test -e /usr/aarch64-linux-gnu/include/stdio.h
    need qemu-user has qemu-aarch64
}

need_for_port_musl()
{
    need_for_test
    need musl-tools has musl-gcc
    need xz-utils has xz
    need bzip2 has bzip2
}

need_for_port_32() { need_for_test; }

has_cross_compiler() { has aarch64-linux-gnu-gcc || has "aarch64-linux-gnu-gcc-$(gcc_release)"; }
gcc_release() { gcc -dumpversion 2>/dev/null | cut -d. -f1 | grep . || echo 12; }
has_clang_runtime() { echo 'int main(void) { return 0; }' | clang -fsanitize=address -x c - -o /dev/null; }

# Peers that are libraries: without them the rows say that they are missing.
need_for_bench()
{
    need_for_demo
    need g++ has g++
    need libboost-dev has_cxx_header boost/interprocess/sync/named_upgradable_mutex.hpp
    need qtbase5-dev pkg-config --exists Qt5Core
}

need_for_coverage() { need_for_test; need gcovr has gcovr; }
need_for_format() { need clang-format has clang-format; need git has git; }

install_missing()
{
    local as_root=()
    if [ "$(id -u)" != 0 ]; then
        as_root=(sudo)
    fi
    local command="${as_root[*]:+sudo }apt-get install -y --no-remove --no-install-recommends ${missing[*]}"
    if ! has apt-get >/dev/null; then
        echo "This machine lacks ${missing[*]} (Debian's names), and has no apt-get to install them with." >&2
        return 1
    fi
    if [ ${#as_root[@]} -gt 0 ] && ! may_sudo; then
        echo "To install what is missing, run: sudo apt-get update && $command" >&2
        return 1
    fi
    echo "Installing ${missing[*]} (this takes a minute)" >&2
    export DEBIAN_FRONTEND=noninteractive
    if ! { "${as_root[@]}" apt-get update -qq && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
           apt-get install -y -qq --no-remove --no-install-recommends "${missing[@]}"; } >/dev/null; then
        echo "Installing failed. Run this and see why: $command" >&2
        return 1
    fi
}

# A password can be asked for only on a terminal.
may_sudo() { has sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; }

for kind in "${@:-demo}"; do
    case $kind in
    demo | test | soak | bench | coverage | format | port_aarch64 | port_musl | port_32) "need_for_$kind" ;;
    *)
        echo "usage: deps.sh demo|test|soak|bench|coverage|format|port_aarch64|port_musl|port_32 ..." >&2
        exit 2
        ;;
    esac
done

if [ ${#missing[@]} -gt 0 ]; then
    # A package may have been missed by more than one kind.
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
    install_missing || exit 1
fi
