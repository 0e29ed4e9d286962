/* row_kill.c - rows about death: how long after kill() a waiter goes on.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * In each round a waiter and a victim are born. The victim takes what the waiter wants, changes something half, and
 * stays. When the kernel says that the waiter sleeps, and a while later that differs from round to round (so that
 * kills do not keep step with the waiter's slices), the victim is killed. The time runs from just before kill() to the
 * waiter's next instruction behind its wait.
 *
 *   waiter   prepare -> ready .............. go -> wait ............... woken_ns, check, end
 *   victim   ............ prepare -> holding .......... (killed)
 *   judge    ............................... go, until it sleeps, delay, kill ........... its end, read woken_ns
 *
 * Each word of the page goes from 0 to 1 once, by edge S of bench.h. */
#include "bench.h"

#include <cove.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORDS = 8, MESSAGES = 100 };
#define GIB (UINT64_C(1) << 30)
#define LONGEST_DELAY_NS 10000000u /* a waiter's longest slice */

struct page {
    _Atomic uint32_t ready, holding, go;
    uint64_t woken_ns;
    pthread_mutex_t robust;
};

/* One way to hold something and one to wait for it. */
struct hold {
    const char *name;
    enum role role;
    void (*make)(void); /* before the round's processes; NULL: nothing to do */
    void (*take)(void); /* the victim: take it, and return */
    void (*prepare)(void); /* the waiter: whatever comes before waiting */
    void (*wait)(void); /* the waiter: returns when it goes on; sets page->woken_ns, then checks */
    struct series times;
};

static struct page *page;
static const char *segment_name;
static cove_segment *segment;

static void check(int64_t result, const char *what)
{
    if (result < 0)
        fail_row("%s: %s: %s", what, cove_errname((int)result), cove_last_error());
}

/* ---- cove_mutex ---- */

struct account {
    cove_mutex lock;
    uint64_t words[WORDS]; /* all the same, but inside a transaction */
};

static struct account *account;

static void mutex_prepare(void)
{
    static const struct cove_type type = {.name = "account", .version = 1, .size_bytes = sizeof(struct account)};
    void *object;

    check(cove_open(&segment, segment_name, NULL), "cove_open");
    check(cove_object_open(&object, segment, "account", &type, 0), "cove_object_open");
    account = object;
}

/* Half of a change, made under the lock and never finished. */
static void mutex_take(void)
{
    mutex_prepare();
    check(cove_begin(segment), "cove_begin");
    check(cove_mutex_lock(segment, &account->lock, COVE_FOREVER), "cove_mutex_lock");
    check(cove_save(segment, account->words, sizeof account->words), "cove_save");
    for (size_t i = 0; i < WORDS / 2; i++)
        account->words[i]++;
}

static void mutex_wait(void)
{
    int result = cove_mutex_lock(segment, &account->lock, COVE_FOREVER);

    page->woken_ns = now_ns();
    check(result, "cove_mutex_lock");
    if (result != COVE_RECOVERED)
        fail_row("the lock of a killed holder came without COVE_RECOVERED");
    for (size_t i = 1; i < WORDS; i++)
        if (account->words[i] != account->words[0])
            fail_row("half of a killed holder's change is left");
    check(cove_mutex_unlock(segment, &account->lock), "cove_mutex_unlock");
    check(cove_close(segment), "cove_close");
}

/* ---- robust pthread mutex ---- */

static void robust_make(void)
{
    pthread_mutexattr_t attributes;

    if (pthread_mutexattr_init(&attributes) || pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) ||
        pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) ||
        pthread_mutex_init(&page->robust, &attributes))
        fail_row("no robust pthread mutex");
}

static void robust_take(void)
{
    if (pthread_mutex_lock(&page->robust) != 0)
        fail_row("pthread_mutex_lock failed");
}

static void robust_wait(void)
{
    int result = pthread_mutex_lock(&page->robust);

    page->woken_ns = now_ns();
    if (result != EOWNERDEAD)
        fail_row("robust mutex: %s where its holder was killed", strerror(result));
}

/* ---- stream and pipe: the reader is told that its writer is dead ---- */

static cove_stream *stream;

static void stream_open(enum cove_end end)
{
    check(cove_open(&segment, segment_name, NULL), "cove_open");
    check(cove_stream_open_in(&stream, segment, "stream", end, NULL), "cove_stream_open_in");
}

static void stream_take(void)
{
    stream_open(COVE_WRITER);
    for (uint64_t i = 0; i < MESSAGES; i++)
        check(cove_stream_write(stream, &i, sizeof i, COVE_FOREVER), "cove_stream_write");
}

static void stream_prepare(void)
{
    stream_open(COVE_READER);
}

static void stream_wait(void)
{
    uint64_t messages[MESSAGES + 1];
    size_t got = 0;
    int64_t result;

    while ((result = cove_stream_read(stream, (char *)messages + got, sizeof messages - got, COVE_FOREVER)) > 0)
        got += (size_t)result;
    page->woken_ns = now_ns();
    if (result != COVE_EPEER)
        fail_row("the reader of a killed writer was told %s",
                 result == 0 ? "end of stream" : cove_errname((int)result));
    if (got != MESSAGES * sizeof *messages)
        fail_row("%zu bytes of a killed writer's %zu arrived", got, MESSAGES * sizeof *messages);
    for (uint64_t i = 0; i < MESSAGES; i++)
        if (messages[i] != i)
            fail_row("message %llu of a killed writer is wrong", (unsigned long long)i);
    check(cove_stream_close(stream), "cove_stream_close");
    check(cove_close(segment), "cove_close");
}

static int pipe_ends[2] = {-1, -1};

static void pipe_make(void)
{
    for (int i = 0; i < 2; i++)
        if (pipe_ends[i] >= 0)
            close(pipe_ends[i]); /* the last round's */
    if (pipe2(pipe_ends, O_CLOEXEC) < 0)
        fail_row("pipe: %s", strerror(errno));
}

static void pipe_take(void)
{
    close(pipe_ends[0]);
}

static void pipe_prepare(void)
{
    close(pipe_ends[1]);
}

static void pipe_wait(void)
{
    char byte;
    ssize_t n = read(pipe_ends[0], &byte, 1);

    page->woken_ns = now_ns();
    if (n != 0)
        fail_row("pipe: no end of file from a killed writer");
}

/* ---- a round ---- */

static void set(_Atomic uint32_t *word)
{
    signal_store(word, 1);
}

static void be_waiter(const struct hold *hold)
{
    if (hold->prepare)
        hold->prepare();
    set(&page->ready);
    await_change(&page->go, 0);
    hold->wait();
    _exit(0);
}

static void be_victim(const struct hold *hold, size_t resident_bytes)
{
    if (resident_bytes && mmap(NULL, resident_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
                               -1, 0) == MAP_FAILED)
        fail_row("no %zu bytes of memory: %s", resident_bytes, strerror(errno));
    hold->take();
    set(&page->holding);
    for (;;)
        pause();
}

/* 'S' in /proc/PID/stat: behind the command's name, which may hold anything but ends in the last ')'. */
static bool is_asleep(pid_t pid)
{
    char path[40], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        fail_row("the waiter is gone");
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    const char *end = strrchr(text, ')');
    return end && end[1] == ' ' && end[2] == 'S';
}

static void expect_good_end(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            fail_row("waitpid: %s", strerror(errno));
    if (status != 0)
        _exit(1); /* it has said why */
}

static void run_round(struct hold *hold, size_t resident_bytes)
{
    memset(page, 0, sizeof *page);
    if (hold->make)
        hold->make();
    pid_t waiter = fork_or_die();
    if (waiter == 0)
        be_waiter(hold);
    await_change(&page->ready, 0);
    pid_t victim = fork_or_die();
    if (victim == 0)
        be_victim(hold, resident_bytes);
    if (hold->make == pipe_make) {
        close(pipe_ends[0]);
        close(pipe_ends[1]);
        pipe_ends[0] = pipe_ends[1] = -1;
    }
    await_change(&page->holding, 0);
    set(&page->go);
    do
        idle_ns(1000000);
    while (!is_asleep(waiter));
    idle_ns((uint64_t)random() % LONGEST_DELAY_NS);
    uint64_t killed = now_ns();
    kill(victim, SIGKILL);
    expect_good_end(waiter);
    series_add(&hold->times, (double)(page->woken_ns - killed) / 1e6);
    while (waitpid(victim, NULL, 0) < 0 && errno == EINTR)
        ;
}

static void run_kills(struct hold *holds, size_t count, unsigned kills, size_t resident_bytes,
                      const struct settings *settings, struct report *report)
{
    segment_name = settings->segment;
    page = shared_memory(sizeof *page);
    fail_with_children();
    for (unsigned i = 0; i < kills; i++)
        for (size_t k = 0; k < count; k++)
            run_round(&holds[k], resident_bytes);
    report->unit = "ms";
    report->value_is = "p99";
    report->tails = true;
    report->goal_kind = GOAL_VALUE_AT_MOST;
    for (size_t k = 0; k < count; k++)
        report_add(report, holds[k].name, holds[k].role, &holds[k].times, 0.99);
    report_note(report, "p99 of %u kills", kills);
}

#define HOLD_MUTEX                                                                                          \
    {                                                                                                       \
        .name = "cove", .role = ROLE_COVE, .take = mutex_take, .prepare = mutex_prepare, .wait = mutex_wait \
    }
#define HOLD_ROBUST                                                                                                \
    {                                                                                                              \
        .name = "pthread robust", .role = ROLE_PEER, .make = robust_make, .take = robust_take, .wait = robust_wait \
    }

void row_kill_mutex(const struct settings *settings, struct report *report)
{
    struct hold holds[] = {HOLD_MUTEX, HOLD_ROBUST};

    report->goal = 10;
    run_kills(holds, 2, settings->small_kills, 0, settings, report);
}

void row_kill_mutex_large(const struct settings *settings, struct report *report)
{
    struct hold holds[] = {HOLD_MUTEX, HOLD_ROBUST};

    report->goal = 20;
    run_kills(holds, 2, settings->large_kills, GIB, settings, report);
    report_note(report, "1 GiB resident");
}

void row_kill_stream(const struct settings *settings, struct report *report)
{
    struct hold holds[] = {
        {.name = "cove", .role = ROLE_COVE, .take = stream_take, .prepare = stream_prepare, .wait = stream_wait},
        {.name = "pipe",
         .role = ROLE_PEER,
         .make = pipe_make,
         .take = pipe_take,
         .prepare = pipe_prepare,
         .wait = pipe_wait},
    };

    report->goal = 10;
    run_kills(holds, 2, settings->small_kills, 0, settings, report);
}
