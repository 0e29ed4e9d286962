#!/usr/bin/env bash
# ports.sh aarch64|musl|32 - builds for another machine, libc or word size, and runs the tests that can run there; `make port-...`.
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# The libraries of the other side (cmocka, and those of the command) come from Debian: packages of that architecture, unpacked and not
# installed, or sources that are built with musl. They lie in build/ports/, got by an apt of its own (its lists and cache are there too), so
# nothing of the machine's changes; compilers and the emulator are installed by deps.sh.
#
# The last line is `N passed, N failed, N left out`; what is left out stands before it, with the reasons.
set -u
cd "$(dirname "$0")/.." || exit 1

# port, program (and one case of it, or *), reason.
# qemu-user translates system calls: what it does not know it refuses or ignores, and its robust mutexes never recover.
LEFT_OUT="
aarch64 test_harness *                                  tests the harness, by a child subreaper, which qemu refuses: daemons would be left
aarch64 test_os_strace *                                strace runs the program, and would trace the emulator
aarch64 test_members test_members_a_thousand_at_once    a thousand emulators are 20 GB
aarch64 test_fork test_fork_around_the_handlers_is_found    qemu ignores MADV_WIPEONFORK, and says that it did it
aarch64 test_fork test_fork_around_the_handlers_may_close_first    likewise
aarch64 test_fork test_fork_parents_death_is_seen_though_the_raw_child_lives    likewise
aarch64 test_os test_os_wiped_page_is_wiped_by_a_fork   likewise
aarch64 test_os test_os_process_that_ended_is_told      qemu makes up the start time in /proc/self/stat, sometimes a tick off
aarch64 test_segment_grow test_grow_in_little_address_space    qemu accepts RLIMIT_AS and does not apply it
aarch64 test_segment_race test_race_of_creators_has_one_winner    40 emulators on few cores take longer than the 5 s that cove_open waits
aarch64 test_segment_race test_race_of_removing_and_creating_leaves_whole_segments    does not end within ten minutes there; why is not known
aarch64 test_trap_nameless *                            its strangers are the program executed anew, which the kernel cannot do with it
aarch64 test_trap_wait test_wait_killed_holder_leaves_half_a_change    shows a robust mutex of pthread's
musl    fault.process_descriptors                       calls posix_spawn_file_actions_addclosefrom_np, which musl has not (not built)
musl    kill.table_clang                                the other compiler's library is made with glibc
musl    fuzz.libfuzzer                                  libFuzzer wants clang
32      fuzz.libfuzzer                                  libFuzzer wants clang
32      fault.process_stopped                           the stepper knows only x86-64 (not built)
32      fault.process_signals                           wraps fallocate, which is fallocate64 there
32      fault.machine_forbidden                         forbids statx, which is the 32-bit libc's fstat
32      fault.machine_regions                           forbids shmget, which is a part of ipc(2) there
32      kill                                            the stepper knows only x86-64 (not built)
"
# Of all ports: they look at the sources, at tools of this machine, or at times.
NOT_RUN='^(house|valgrind|bench|other)$'

declare -A ARCH=([aarch64]=arm64 [32]=i386)
declare -A ROOT=([aarch64]=aarch64 [32]=x86-32 [musl]=musl)
LIBRARIES="libcmocka-dev libcmocka0 libpopt-dev libpopt0 libjson-c-dev libjson-c5 zlib1g-dev zlib1g"
SOURCES="cmocka popt json-c zlib"

JOBS=${JOBS:-$(nproc)}
port=${1:-}
if [ $# != 1 ] || [ -z "${ROOT[$port]:-}" ]; then
    echo "usage: ports.sh aarch64|musl|32" >&2
    exit 2
fi
tree=$PWD
place=$tree/build/ports/${ROOT[$port]}
build=build/port-$port
log=build/ports/$port.log
passed=0 failed=0 left_out=0

die()
{
    echo "ports.sh: $*" >&2
    exit 1
}

# ---- what the other side needs

# The archives that this machine's libc came from: "http://deb.debian.org/debian bookworm main".
archives()
{
    apt-cache policy libc6 | sed -n 's/^ *-\{0,1\}[0-9]* \([a-z+]*:[^ ]*\) \([^ /]*\)\/\([^ ]*\) .*/\1 \2 \3/p' | sort -u
}

private_apt()
{
    local state=$tree/build/ports/apt key=/usr/share/keyrings/debian-archive-keyring.gpg architectures=()
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    archives | sed "s,.*,deb [signed-by=$key] &\ndeb-src [signed-by=$key] &," >"$state/sources.list"
    if [ -n "${ARCH[$port]:-}" ]; then
        architectures=(-o "APT::Architectures::=$(dpkg --print-architecture)" -o "APT::Architectures::=${ARCH[$port]}")
    fi
    apt-get -q "${architectures[@]}" -o "Dir::State::lists=$state/lists" -o "Dir::Cache=$state/cache" \
        -o "Dir::Etc::SourceList=$state/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o "APT::Sandbox::User=$(id -un)" "$@"
}

unpack_libraries()
{
    local package
    mkdir -p "$place/packages" "$place/root"
    # shellcheck disable=SC2046,SC2086 # a list
    (cd "$place/packages" && private_apt download $(printf "%s:${ARCH[$port]} " $LIBRARIES)) || return 1
    for package in "$place"/packages/*.deb; do
        dpkg-deb -x "$package" "$place/root" || return 1
    done
}

build_source()
{
    case $1 in
    cmocka | json-c)
        cmake -S "$2" -B "$place/$1" -DCMAKE_TOOLCHAIN_FILE="$tree/cmake/ports/musl.cmake" -DCMAKE_INSTALL_PREFIX="$place/root" \
            -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=OFF -DBUILD_APPS=OFF -DWITH_EXAMPLES=OFF &&
            cmake --build "$place/$1" -j"$JOBS" && cmake --install "$place/$1"
        ;;
    popt) (cd "$2" && CC=musl-gcc ./configure --prefix="$place/root" --disable-shared --disable-nls && make -j"$JOBS" && make install) ;;
    zlib) (cd "$2" && CC=musl-gcc ./configure --prefix="$place/root" --static && make -j"$JOBS" libz.a && make install) ;;
    esac
}

# Source packages are Debian's archive of the project's own release; Debian's patches to it are not needed here.
build_libraries()
{
    local name archive
    rm -rf "$place/sources"
    mkdir -p "$place/sources" "$place/root"
    # shellcheck disable=SC2086 # a list
    (cd "$place/sources" && private_apt source --download-only $SOURCES) || return 1
    for name in $SOURCES; do
        mkdir "$place/sources/$name"
        archive=$(find "$place/sources" -name "${name}_*.orig.tar.*" ! -name '*.asc')
        tar -x -f "$archive" -C "$place/sources/$name" --strip-components=1 &&
            build_source "$name" "$place/sources/$name" || return 1
    done
}

get_libraries()
{
    if [ -e "$place/ready" ]; then
        return
    fi
    echo "== getting the libraries of the other side"
    rm -rf "$place"
    mkdir -p "$place"
    {
        private_apt update || true # an index that cannot be had is missed below, if it is needed
        if [ "$port" = musl ]; then build_libraries; else unpack_libraries; fi
    } >"$log" 2>&1 || die "the libraries could not be had; all of it is in $log"
    touch "$place/ready"
}

# ---- tests

# Is that left out (a test of ctest, or a program and one of its cases)?
is_left_out()
{
    local of program case
    while read -r of program case _; do
        if [ "$of" = "$port" ] && [ "$program" = "$1" ] && { [ $# = 1 ] || [ "$case" = '*' ] || [ "$case" = "$2" ]; }; then
            return 0
        fi
    done <<<"$LEFT_OUT"
    return 1
}

note()
{
    echo "   $1"
    failed=$((failed + 1))
}

check_layout()
{
    local compiler runner=
    echo "== layout"
    case $port in
    aarch64)
        compiler=$(sed -n 's/^COVE_CROSS_GCC:[^=]*=//p' "$build/CMakeCache.txt") runner=qemu-aarch64
        if command -v clang >/dev/null; then
            layout_of "clang --target=aarch64-linux-gnu" $runner
        fi
        ;;
    musl) compiler=musl-gcc ;;
    32) compiler="gcc -m32 -idirafter /usr/include/$(gcc -print-multiarch)" ;;
    esac
    layout_of "$compiler" $runner
}

layout_of()
{
    if python3 -B tests/house/layout.py --with "$@"; then
        passed=$((passed + 1))
    else
        note "the layout by $1 differs from tests/house/layout.golden"
    fi
}

# As far as it goes: a test program that cannot be built here is one failure, and does not hide what the others say.
build_all()
{
    echo "== building $build"
    unset MAKEFLAGS MFLAGS
    cmake --preset "port-$port" -DCOVE_TESTS=ON >"$build.log" 2>&1 || die "configuring failed; all of it is in $build.log"
    if cmake --build "$build" -j"$JOBS" -- -k >>"$build.log" 2>&1; then
        return
    fi
    grep -E 'error:|undefined reference' "$build.log" | sort -u | sed "s,$tree/,   ,"
    grep -q 'Built target cove_shared' "$build.log" || die "the library could not be built; all of it is in $build.log"
}

# Warnings in the library are not for a port to have. (The build lets them pass: the tools and tests may have some.)
check_warnings()
{
    if grep -E '/(src|include)/[^ ]*: warning:' "$build.log"; then
        note "the library has warnings here"
    fi
}

# The unit tests under the emulator, without the cases that are left out, each program after the other.
run_unit_programs()
{
    local emulator=$1 program name case wanted status count
    for program in "$build"/unit/test_*; do
        name=$(basename "$program")
        wanted=()
        for case in $($emulator "$program" --list 2>/dev/null); do
            if is_left_out "$name" "$case"; then left_out=$((left_out + 1)); else wanted+=("$case"); fi
        done
        if [ ${#wanted[@]} = 0 ]; then
            continue
        fi
        # shellcheck disable=SC2086 # a command
        COVE_TEST_SCALE=4 timeout 900 $emulator "$program" "${wanted[@]}" >"$log.$name" 2>&1 </dev/null
        status=$?
        count=$(grep -c '^\[       OK \]' "$log.$name")
        passed=$((passed + count))
        left_out=$((left_out + $(grep -c '^\[  SKIPPED \] test_' "$log.$name")))
        echo "   $name: $count passed"
        if [ $status != 0 ]; then
            while read -r case; do note "$name $case failed"; done < <(sed -n 's/^\[  FAILED  \] \(test_[a-z0-9_]*\)$/\1/p' "$log.$name" | sort -u)
            grep -q '^\[  FAILED  \] test_' "$log.$name" || note "$name ended with status $status"
            echo "   (what it printed is in $log.$name)"
        fi
    done
}

run_examples()
{
    local program
    for program in "$build"/examples/*; do
        # shellcheck disable=SC2086 # a command
        if [ -f "$program" ] && [ -x "$program" ]; then
            if COVE_TEST_SCALE=4 timeout 120 tests/house/in_empty_cove_dir.sh $1 "$program" >"$log.example" 2>&1 </dev/null; then
                passed=$((passed + 1))
            else
                note "example $(basename "$program") failed: $(tail -n 1 "$log.example")"
            fi
        fi
    done
}

# All that ctest knows, but what is left out.
run_ctest()
{
    local tests=build/ports/$port.ctest names=() name pattern total bad skips
    while read -r name; do
        if is_left_out "$name"; then names+=("$name"); fi
    done < <(ctest --test-dir "$build" -N -LE "$NOT_RUN" | sed -n 's/^ *Test *#[0-9]*: //p')
    left_out=$((left_out + ${#names[@]}))
    pattern="^($(IFS='|'; echo "${names[*]:-nothing}"))\$"
    ctest --test-dir "$build" -j"$JOBS" --output-on-failure -LE "$NOT_RUN" -E "${pattern//./\\.}" </dev/null >"$tests" 2>&1
    grep -E 'Test *#.*(Failed|Timeout|Not Run|Exception|Skipped)' "$tests"
    bad=$(sed -n 's/.* tests passed, \([0-9]*\) tests failed out of [0-9]*$/\1/p' "$tests")
    total=$(sed -n 's/.* tests passed, [0-9]* tests failed out of \([0-9]*\)$/\1/p' "$tests")
    skips=$(grep -c '\*\*\*Skipped' "$tests")
    [ -n "$total" ] || die "ctest found no tests; all of it is in $tests"
    passed=$((passed + total - bad - skips)) failed=$((failed + bad)) left_out=$((left_out + skips))
    echo "   (what the tests printed is in $tests)"
}

print_left_out()
{
    local of what
    echo "== left out"
    while read -r of what; do
        if [ "$of" = "$port" ]; then echo "   $what" | tr -s ' '; fi
    done <<<"$LEFT_OUT"
    echo "   $NOT_RUN: of this machine"
}

scripts/deps.sh "port_$port" || exit 1
mkdir -p build/ports
get_libraries
build_all
check_warnings
check_layout
echo "== tests"
if [ "$port" = aarch64 ]; then
    emulator="qemu-aarch64 -L /usr/aarch64-linux-gnu"
    run_unit_programs "$emulator"
    run_examples "$emulator"
else
    run_ctest
fi
print_left_out
echo "$passed passed, $failed failed, $left_out left out"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
