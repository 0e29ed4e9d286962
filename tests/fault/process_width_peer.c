/* process_width_peer.c - the other process of process_width.c, built for another width of pointers than the test.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 *     process_width_peer work ROUNDS  transfers, allocates, echoes what stream `there` brings into stream `back`
 *     process_width_peer hold         is in the middle of a transfer, tells its standard output, waits to be killed
 *     process_width_peer recover      somebody else was: recovers him, and finds everything as it was
 *
 * Uses the public interface alone; its status is 0, or tells the line of what went wrong. */
#include <cove.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The same bytes as struct bank of process.h. */
struct bank {
    cove_mutex lock[3];
    int64_t cents[2];
    cove_ref ref;
};

#define CENTS INT64_C(2000) /* of both accounts */

#define WANT(condition)                                                                                \
    do {                                                                                               \
        if (!(condition)) {                                                                            \
            (void)fprintf(stderr, "peer, line %d: %s: %s\n", __LINE__, #condition, cove_last_error()); \
            _exit(__LINE__ % 255 + 1);                                                                 \
        }                                                                                              \
    } while (0)

static cove_segment *segment;
static struct bank *bank;

static void begin_transfer(void)
{
    WANT(cove_begin(segment) == 0);
    WANT(cove_mutex_lock(segment, &bank->lock[0], COVE_FOREVER) == 0);
    WANT(cove_mutex_lock(segment, &bank->lock[1], COVE_FOREVER) == 0);
    WANT(cove_save(segment, bank->cents, sizeof bank->cents) == 0);
    bank->cents[0] -= 3;
}

static void work(long rounds)
{
    cove_stream *there = NULL, *back = NULL;
    char bytes[1000];
    int64_t count;
    WANT(cove_stream_open_in(&there, segment, "there", COVE_READER, NULL) >= 0);
    WANT(cove_stream_open_in(&back, segment, "back", COVE_WRITER, NULL) >= 0);
    for (long i = 0; i < rounds; i++) {
        begin_transfer();
        WANT(cove_free_from(segment, &bank->ref) == 0);
        WANT(cove_alloc_into(segment, &bank->ref, (size_t)(i % 700 + 1)) == 0);
        bank->cents[1] += 3;
        WANT(cove_commit(segment) == 0);
    }
    while ((count = cove_stream_read(there, bytes, sizeof bytes, COVE_FOREVER)) > 0)
        WANT(cove_stream_write(back, bytes, (size_t)count, COVE_FOREVER) == count);
    WANT(count == 0);
    WANT(cove_stream_close(there) == 0);
    WANT(cove_stream_close(back) == 0);
}

static void hold(void)
{
    begin_transfer();
    WANT(cove_alloc(segment, 5000) != 0);
    WANT(write(STDOUT_FILENO, "!", 1) == 1);
    for (;;)
        (void)pause();
}

static void recover(void)
{
    WANT(cove_mutex_lock(segment, &bank->lock[0], INT64_C(5000000000)) == COVE_RECOVERED);
    WANT(bank->cents[0] + bank->cents[1] == CENTS);
    WANT(cove_mutex_unlock(segment, &bank->lock[0]) == 0);
    WANT(cove_recover(segment) >= 0);
    WANT(cove_segment_check(segment, NULL, NULL) == 0);
}

int main(int count, char **arguments)
{
    void *object = NULL;
    WANT(count >= 2);
    WANT(cove_open(&segment, "t", &(struct cove_options){.flags = COVE_EXISTING}) == 0);
    WANT(cove_object_open(&object, segment, "bank", &(struct cove_type){.name = "unit", .size_bytes = sizeof *bank},
                          COVE_EXISTING) == 0);
    bank = object;
    if (strcmp(arguments[1], "work") == 0)
        work(count > 2 ? strtol(arguments[2], NULL, 10) : 0);
    else if (strcmp(arguments[1], "hold") == 0)
        hold();
    else
        recover();
    WANT(cove_close(segment) == 0);
    return 0;
}
