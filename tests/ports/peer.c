/* peer.c - one member of a segment that is shared by programs of other libcs and word sizes; mixed.c tells it what to do.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 *     peer ROLE SEGMENT [HOW]
 *
 * Built once for each kind of program, with <cove.h> alone. It says each step as a line on stdout, and waits for a byte
 * on stdin where it is to wait. Status 0: it did its part; 1: something else happened, which stderr tells. */
#include <cove.h>

#include <errno.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define START 1000
#define PIECE 1000u
#define PIECES 100u
#define PATIENCE_NS INT64_C(30000000000)

/* The fields of another size than the next make a different layout where word sizes would matter. */
struct account {
    uint8_t tag;
    cove_mutex lock;
    int64_t from, to;
    uint64_t rounds;
};
static const struct cove_type account_type = {.name = "account", .version = 1, .size_bytes = sizeof(struct account)};

static cove_segment *segment;
static struct account *account;

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vprintf(format, arguments);
    va_end(arguments);
    (void)printf("\n");
    if (fflush(stdout) != 0)
        exit(1);
}

static void must(int64_t result, const char *what)
{
    if (result >= 0)
        return;
    exit(cove_complain(what));
}

static void wait_for_byte(void)
{
    char byte;
    while (read(STDIN_FILENO, &byte, 1) < 0 && errno == EINTR)
        ;
}

static void wait_to_be_killed(void)
{
    for (;;)
        (void)pause();
}

static void open_account(const char *name)
{
    void *object = NULL;
    must(cove_open(&segment, name, NULL), "open");
    int result = cove_object_open(&object, segment, "account", &account_type, 0);
    must(result, "object");
    account = object;
    if (result == COVE_CREATED) {
        account->tag = 7;
        account->from = START;
    }
}

/* ---- a lock: one holds it in the middle of a change, another waits for it */

static void change_half(void)
{
    must(cove_begin(segment), "begin");
    must(cove_mutex_lock(segment, &account->lock, COVE_FOREVER), "lock");
    must(cove_save(segment, &account->from, 2 * sizeof account->from), "save");
    account->from -= 100;
}

/* The kernel forgets the list of this thread's robust locks: the row's byte alone will tell of its death. */
static void leave_no_sign(void)
{
    static struct robust_list_head none;
    none.list.next = &none.list;
    must(syscall(SYS_set_robust_list, &none, sizeof none), "set_robust_list");
}

/* Ends as a thread without any clean-up of libc's, while the process lives: the sign of life alone will tell. */
static void *hold_and_vanish(void *unused)
{
    (void)unused;
    change_half();
    say("held");
    wait_for_byte();
    (void)syscall(SYS_exit, 0);
    return NULL;
}

static void hold(const char *how)
{
    pthread_t thread;
    if (strcmp(how, "thread") == 0) {
        must(-pthread_create(&thread, NULL, hold_and_vanish, NULL), "thread");
        wait_to_be_killed();
    }
    change_half();
    if (strcmp(how, "unmarked") == 0)
        leave_no_sign();
    say("held");
    wait_to_be_killed();
}

static void take(void)
{
    say("ready");
    int result = cove_mutex_lock(segment, &account->lock, PATIENCE_NS);
    must(result, "take");
    say("took %s from=%" PRId64 " to=%" PRId64 " tag=%d", result ? cove_errname(result) : "0", account->from,
        account->to, account->tag);
    must(cove_mutex_unlock(segment, &account->lock), "unlock");
}

/* ---- many at work at once, until they are killed or told to end */

static void *stop_when_told(void *stop)
{
    wait_for_byte();
    /* relaxed: nothing else is passed on with it. */
    atomic_store_explicit((_Atomic int *)stop, 1, memory_order_relaxed);
    return NULL;
}

static void transfer(void)
{
    static _Atomic int stop;
    pthread_t thread;
    must(-pthread_create(&thread, NULL, stop_when_told, (void *)&stop), "thread");
    say("ready");
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        must(cove_begin(segment), "begin");
        must(cove_mutex_lock(segment, &account->lock, PATIENCE_NS), "lock");
        must(cove_save(segment, &account->from, 3 * sizeof account->from), "save");
        account->from -= 1;
        cove_ref block = cove_alloc(segment, 200); /* goes back where the transaction does not commit */
        must(block ? 0 : -ENOMEM, "alloc");
        account->to += 1;
        account->rounds += 1;
        must(cove_free(segment, block), "free");
        must(cove_commit(segment), "commit");
    }
    (void)pthread_join(thread, NULL);
}

/* ---- a stream, whose other end dies */

static unsigned char byte_at(uint64_t at)
{
    return (unsigned char)(at * 7 + at / 256);
}

static cove_stream *open_stream(const char *name, enum cove_end end)
{
    char full[300];
    cove_stream *stream = NULL;
    (void)snprintf(full, sizeof full, "%s/pipe", name);
    must(cove_stream_open(&stream, full, end, &(struct cove_stream_options){.capacity_bytes = 16384}), "stream");
    return stream;
}

/* Writes all, or until the other end is gone. Returns how much, or the error. */
static int64_t write_pieces(cove_stream *stream, uint64_t count)
{
    unsigned char piece[PIECE];
    uint64_t at = 0;
    for (uint64_t i = 0; i < count; i++) {
        for (size_t k = 0; k < PIECE; k++)
            piece[k] = byte_at(at + k);
        int64_t written = cove_stream_write(stream, piece, PIECE, PATIENCE_NS);
        if (written < 0)
            return written;
        at += (uint64_t)written;
    }
    return (int64_t)at;
}

static void write_and_die(const char *name)
{
    cove_stream *stream = open_stream(name, COVE_WRITER);
    int64_t written = write_pieces(stream, PIECES);
    must(written, "write");
    say("wrote %" PRId64, written);
    wait_to_be_killed();
}

static void read_to_the_end(const char *name)
{
    cove_stream *stream = open_stream(name, COVE_READER);
    unsigned char bytes[777];
    uint64_t at = 0;
    say("ready");
    int64_t count;
    while ((count = cove_stream_read(stream, bytes, sizeof bytes, PATIENCE_NS)) > 0)
        for (int64_t i = 0; i < count; i++, at++)
            must(bytes[i] == byte_at(at) ? 0 : -EIO, "the bytes that were written");
    say("read %" PRIu64 " %s", at, count < 0 ? cove_errname((int)count) : "END");
    (void)cove_stream_close(stream);
}

static void read_a_little_and_die(const char *name)
{
    cove_stream *stream = open_stream(name, COVE_READER);
    char bytes[100];
    say("ready");
    must(cove_stream_read(stream, bytes, sizeof bytes, PATIENCE_NS), "read");
    say("sipped");
    wait_to_be_killed();
}

static void write_until_told(const char *name)
{
    cove_stream *stream = open_stream(name, COVE_WRITER);
    int64_t result = write_pieces(stream, UINT64_MAX);
    say("filled %s", cove_errname((int)result));
    (void)cove_stream_close(stream);
}

/* ---- the judge */

static void print_problem(const char *sentence, void *unused)
{
    (void)unused;
    (void)fprintf(stderr, "%s\n", sentence);
}

static void judge(const char *name)
{
    struct cove_segment_info info;
    must(cove_recover(segment), "recover");
    must(cove_segment_stat(segment, &info), "stat");
    int64_t problems = cove_segment_check(segment, print_problem, NULL);
    say("problems %" PRId64 " alive %u dead %u off %" PRId64 " rounds %s", problems, info.members_alive,
        info.members_dead, account->from + account->to - START,
        (uint64_t)account->to == account->rounds ? "kept" : "lost");
    must(cove_unlink(name, 1), "unlink");
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    const char *role = argv[1], *name = argv[2];
    open_account(name);
    if (strcmp(role, "hold") == 0)
        hold(argc > 3 ? argv[3] : "");
    else if (strcmp(role, "take") == 0)
        take();
    else if (strcmp(role, "transfer") == 0)
        transfer();
    else if (strcmp(role, "write") == 0)
        write_and_die(name);
    else if (strcmp(role, "read") == 0)
        read_to_the_end(name);
    else if (strcmp(role, "sip") == 0)
        read_a_little_and_die(name);
    else if (strcmp(role, "fill") == 0)
        write_until_told(name);
    else if (strcmp(role, "judge") == 0)
        judge(name);
    else
        return 2;
    must(cove_close(segment), "close");
    return 0;
}
