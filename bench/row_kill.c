/* row_kill.c - rows about death: of a mutex's holder, of a stream's writer.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "kill.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { WORDS = 8, MESSAGES = 100 };
#define GIB (UINT64_C(1) << 30)

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

    kill_open();
    kill_check(cove_object_open(&object, kill_segment, "account", &type, 0), "cove_object_open");
    account = object;
}

/* Half of a change, made under the lock and never finished. */
static void mutex_take(void)
{
    mutex_prepare();
    kill_check(cove_begin(kill_segment), "cove_begin");
    kill_check(cove_mutex_lock(kill_segment, &account->lock, COVE_FOREVER), "cove_mutex_lock");
    kill_check(cove_save(kill_segment, account->words, sizeof account->words), "cove_save");
    for (size_t i = 0; i < WORDS / 2; i++)
        account->words[i]++;
}

static void mutex_wait(void)
{
    int result = cove_mutex_lock(kill_segment, &account->lock, COVE_FOREVER);

    kill_page->woken_ns = now_ns();
    kill_check(result, "cove_mutex_lock");
    if (result != COVE_RECOVERED)
        fail_row("the lock of a killed holder came without COVE_RECOVERED");
    for (size_t i = 1; i < WORDS; i++)
        if (account->words[i] != account->words[0])
            fail_row("half of a killed holder's change is left");
    kill_check(cove_mutex_unlock(kill_segment, &account->lock), "cove_mutex_unlock");
    kill_close();
}

/* ---- robust pthread mutex ---- */

static void robust_make(void)
{
    pthread_mutexattr_t attributes;

    if (pthread_mutexattr_init(&attributes) || pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) ||
        pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) ||
        pthread_mutex_init(&kill_page->robust, &attributes))
        fail_row("no robust pthread mutex");
}

static void robust_take(void)
{
    if (pthread_mutex_lock(&kill_page->robust) != 0)
        fail_row("pthread_mutex_lock failed");
}

static void robust_wait(void)
{
    int result = pthread_mutex_lock(&kill_page->robust);

    kill_page->woken_ns = now_ns();
    if (result != EOWNERDEAD)
        fail_row("robust mutex: %s where its holder was killed", strerror(result));
}

/* ---- stream and pipe: the reader is told that its writer is dead ---- */

static cove_stream *stream;

static void stream_open(enum cove_end end)
{
    kill_open();
    kill_check(cove_stream_open_in(&stream, kill_segment, "stream", end, NULL), "cove_stream_open_in");
}

static void stream_take(void)
{
    stream_open(COVE_WRITER);
    for (uint64_t i = 0; i < MESSAGES; i++)
        kill_check(cove_stream_write(stream, &i, sizeof i, COVE_FOREVER), "cove_stream_write");
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
    kill_page->woken_ns = now_ns();
    if (result != COVE_EPEER)
        fail_row("the reader of a killed writer was told %s",
                 result == 0 ? "end of stream" : cove_errname((int)result));
    if (got != MESSAGES * sizeof *messages)
        fail_row("%zu bytes of a killed writer's %zu arrived", got, MESSAGES * sizeof *messages);
    for (uint64_t i = 0; i < MESSAGES; i++)
        if (messages[i] != i)
            fail_row("message %llu of a killed writer is wrong", (unsigned long long)i);
    kill_check(cove_stream_close(stream), "cove_stream_close");
    kill_close();
}

static int pipe_ends[2] = {-1, -1};

static void pipe_make(void)
{
    if (pipe2(pipe_ends, O_CLOEXEC) < 0)
        fail_row("pipe: %s", strerror(errno));
}

/* Or the reader would never see the end. */
static void pipe_born(void)
{
    for (int i = 0; i < 2; i++)
        close(pipe_ends[i]);
    pipe_ends[0] = pipe_ends[1] = -1;
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

    kill_page->woken_ns = now_ns();
    if (n != 0)
        fail_row("pipe: no end of file from a killed writer");
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
    kill_run(holds, 2, settings->small_kills, 0, settings, report);
}

void row_kill_mutex_large(const struct settings *settings, struct report *report)
{
    struct hold holds[] = {HOLD_MUTEX, HOLD_ROBUST};

    report->goal = 20;
    kill_run(holds, 2, settings->large_kills, GIB, settings, report);
    report_note(report, "1 GiB resident");
}

void row_kill_stream(const struct settings *settings, struct report *report)
{
    struct hold holds[] = {
        {.name = "cove", .role = ROLE_COVE, .take = stream_take, .prepare = stream_prepare, .wait = stream_wait},
        {.name = "pipe",
         .role = ROLE_PEER,
         .make = pipe_make,
         .born = pipe_born,
         .take = pipe_take,
         .prepare = pipe_prepare,
         .wait = pipe_wait},
    };

    report->goal = 10;
    kill_run(holds, 2, settings->small_kills, 0, settings, report);
}
