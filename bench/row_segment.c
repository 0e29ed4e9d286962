/* row_segment.c - rows about segments: attaching alone and among many, growing.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "bench.h"

#include <cove.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ATTACHES = 1000, GROW_MIB = 64, GROWTHS_QUICK = 5, GROWTHS = 20 };
#define MIB (UINT64_C(1) << 20)

static void check(int result, const char *what)
{
    if (result < 0)
        fail_row("%s: %s: %s", what, cove_errname(result), cove_last_error());
}

/* ---- attach ---- */

/* What everything that shares memory by name does at the least. */
static double attach_bare(int directory, const char *file)
{
    uint64_t start = now_ns();
    int fd = openat(directory, file, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    void *memory = fd < 0 ? MAP_FAILED : mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    uint64_t end = now_ns();

    if (memory == MAP_FAILED)
        fail_row("%s: %s", file, strerror(errno));
    munmap(memory, MIB);
    close(fd);
    return (double)(end - start) / 1e3;
}

static void attach_cove(const char *name, struct series *opens, struct series *closes)
{
    struct cove_options options = {.flags = COVE_EXISTING};
    cove_segment *segment;

    uint64_t start = now_ns();
    int result = cove_open(&segment, name, &options);
    uint64_t opened = now_ns();
    check(result, "cove_open");
    result = cove_close(segment);
    uint64_t closed = now_ns();
    check(result, "cove_close");
    series_add(opens, (double)(opened - start) / 1e3);
    series_add(closes, (double)(closed - opened) / 1e3);
}

static void measure_attach(const struct settings *settings, struct report *report)
{
    struct series opens = {0}, closes = {0}, bare = {0};
    int directory = open(cove_directory(), O_PATH | O_DIRECTORY | O_CLOEXEC);
    char file[96];

    snprintf(file, sizeof file, "%s.cove", settings->segment);
    for (int i = 0; i < ATTACHES; i++) {
        series_add(&bare, attach_bare(directory, file));
        attach_cove(settings->segment, &opens, &closes);
    }
    close(directory);
    report->unit = "us";
    report->value_is = "p50";
    report->tails = true;
    report->goal_kind = GOAL_VALUE_AT_MOST;
    report->goal = 100;
    report_add(report, "open + mmap", ROLE_LIMIT, &bare, 0.5);
    report_add(report, "cove", ROLE_COVE, &opens, 0.5);
    report_add(report, "cove close", ROLE_VARIANT, &closes, 0.5);
}

static void make_segment(const struct settings *settings)
{
    cove_segment *segment;

    check(cove_open(&segment, settings->segment, NULL), "cove_open");
    check(cove_close(segment), "cove_close");
}

void row_attach_alone(const struct settings *settings, struct report *report)
{
    make_segment(settings);
    measure_attach(settings, report);
}

/* A neighbour attaches, says so, and leaves when the pipe's writing end is closed. */
static void be_neighbour(const struct settings *settings, _Atomic uint32_t *attached, const int pipe_ends[2])
{
    struct cove_options options = {.flags = COVE_EXISTING, .timeout_ns = INT64_C(60000000000)};
    cove_segment *segment;
    char byte;

    close(pipe_ends[1]);
    check(cove_open(&segment, settings->segment, &options), "a neighbour's cove_open");
    atomic_fetch_add_explicit(attached, 1, memory_order_release); /* edge: read acquire by who counts */
    while (read(pipe_ends[0], &byte, 1) < 0 && errno == EINTR)
        ;
    check(cove_close(segment), "a neighbour's cove_close");
    _exit(0);
}

void row_attach_crowd(const struct settings *settings, struct report *report)
{
    _Atomic uint32_t *attached = shared_memory(sizeof *attached);
    int pipe_ends[2];

    make_segment(settings);
    fail_with_children();
    if (pipe2(pipe_ends, O_CLOEXEC) < 0)
        fail_row("pipe: %s", strerror(errno));
    for (unsigned i = 0; i < settings->member_count; i++)
        if (fork_or_die() == 0)
            be_neighbour(settings, attached, pipe_ends);
    while (atomic_load_explicit(attached, memory_order_acquire) < settings->member_count)
        idle_ns(1000000);
    struct cove_segment_info info;
    check(cove_stat(settings->segment, &info), "cove_stat");
    if (info.members_alive != settings->member_count)
        fail_row("%u members where %u attached", info.members_alive, settings->member_count);
    measure_attach(settings, report);
    report_note(report, "%u others attached", settings->member_count);
    uint64_t start = now_ns();
    close(pipe_ends[1]);
    unsigned failed = reap_all();
    if (failed)
        fail_row("%u of %u neighbours failed", failed, settings->member_count);
    report_note(report, "all of them left in %.0f ms", (double)(now_ns() - start) / 1e6);
}

/* ---- growth ---- */

static double grow_bare(void)
{
    int fd = memfd_create("cove-bench", MFD_CLOEXEC);
    uint64_t start = now_ns();

    for (off_t at = 0; at < (off_t)(GROW_MIB * MIB); at += (off_t)MIB)
        if (posix_fallocate(fd, at, (off_t)MIB) != 0)
            fail_row("no %d MiB of memory", GROW_MIB);
    uint64_t end = now_ns();
    close(fd);
    return (double)(end - start) / 1e6 / GROW_MIB;
}

static double grow_cove(const struct settings *settings)
{
    cove_segment *segment;

    check(cove_open(&segment, settings->segment, NULL), "cove_open");
    uint64_t start = now_ns();
    for (int i = 0; i < GROW_MIB; i++)
        if (!cove_alloc(segment, MIB))
            fail_row("cove_alloc: %s", cove_last_error());
    uint64_t end = now_ns();
    check(cove_close(segment), "cove_close");
    check(cove_unlink(settings->segment, 0), "cove_unlink");
    return (double)(end - start) / 1e6 / GROW_MIB;
}

void row_grow(const struct settings *settings, struct report *report)
{
    struct series cove = {0}, bare = {0};

    for (int i = 0; i < (settings->quick ? GROWTHS_QUICK : GROWTHS); i++) {
        series_add(&bare, grow_bare());
        series_add(&cove, grow_cove(settings));
    }
    report->unit = "ms/MiB";
    report->value_is = "p50";
    report_add(report, "fallocate", ROLE_LIMIT, &bare, 0.5);
    report_add(report, "cove", ROLE_COVE, &cove, 0.5);
    report_note(report, "%d blocks of 1 MiB taken from a new segment", GROW_MIB);
}
