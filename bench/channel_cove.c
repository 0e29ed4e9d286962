/* channel_cove.c - Cove's stream, one in each direction, as a channel: copying, and zero copy.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "channel.h"

#include <cove.h>
#include <stdio.h>
#include <stdlib.h>

struct streams {
    cove_segment *segment;
    cove_stream *writer, *reader;
};

static void check_open(const struct contestant *self, int result, const char *what)
{
    if (result < 0)
        fail_row("%s: %s: %s", self->name, what, cove_last_error());
}

static void open_end(struct contestant *self, cove_stream **stream, cove_segment *segment, int from, enum cove_end end)
{
    struct cove_stream_options options = {.capacity_bytes = self->capacity_bytes};
    char name[80];

    if (self->wait == WAIT_SPIN)
        options.flags = COVE_STREAM_SPIN;
    if (self->wait == WAIT_SLEEP)
        options.flags = COVE_STREAM_NOSPIN;
    snprintf(name, sizeof name, "%s/from-%d", self->tag, from);
    check_open(self, cove_stream_open_in(stream, segment, name, end, &options), "cove_stream_open_in");
}

/* Each process opens for itself: a child inherits no membership. */
static void cove_enter(struct contestant *self)
{
    struct cove_options options = {.lifetime = COVE_LAST_OUT};
    struct streams *streams = calloc(1, sizeof *streams);

    if (!streams)
        fail_row("%s: no memory", self->name);
    check_open(self, cove_open(&streams->segment, self->segment, &options), "cove_open");
    open_end(self, &streams->writer, streams->segment, self->side, COVE_WRITER);
    open_end(self, &streams->reader, streams->segment, 1 - self->side, COVE_READER);
    self->state = streams;
}

static void cove_leave(struct contestant *self)
{
    struct streams *streams = self->state;

    cove_stream_close(streams->writer);
    cove_stream_close(streams->reader);
    cove_close(streams->segment);
    free(streams);
}

static void __attribute__((cold, noreturn))
stream_failed(const struct contestant *self, const char *what, int64_t result)
{
    fail_row("%s: %s: %s: %s", self->name, what, result < 0 ? cove_errname((int)result) : "end of stream",
             cove_last_error());
}

static void stream_send(struct contestant *self, const void *data, size_t size_bytes)
{
    const struct streams *streams = self->state;
    int64_t n = cove_stream_write(streams->writer, data, size_bytes, COVE_FOREVER);

    if (n != (int64_t)size_bytes)
        stream_failed(self, "cove_stream_write", n);
}

static void stream_receive(struct contestant *self, void *data, size_t size_bytes)
{
    const struct streams *streams = self->state;

    for (size_t done = 0; done < size_bytes;) {
        int64_t n = cove_stream_read(streams->reader, (char *)data + done, size_bytes - done, COVE_FOREVER);
        if (n <= 0)
            stream_failed(self, "cove_stream_read", n);
        done += (size_t)n;
    }
}

static void stream_send_many(struct contestant *self, const void *data, size_t size_bytes, size_t count)
{
    const struct streams *streams = self->state;
    int64_t n = cove_stream_write_many(streams->writer, data, size_bytes, count, COVE_FOREVER);

    if (n != (int64_t)count)
        stream_failed(self, "cove_stream_write_many", n);
}

static size_t stream_receive_many(struct contestant *self, const void **data, size_t size_bytes, size_t count)
{
    const struct streams *streams = self->state;
    size_t done = 0;

    /* What is there, to a whole number of messages: a batch is not waited for when part of it has come. */
    do {
        int64_t n = cove_stream_read(streams->reader, self->in + done, size_bytes * count - done, COVE_FOREVER);
        if (n <= 0)
            stream_failed(self, "cove_stream_read", n);
        done += (size_t)n;
    } while (done % size_bytes);
    *data = self->in;
    return done / size_bytes;
}

const struct channel_type channel_cove = {
    .enter = cove_enter,
    .send = stream_send,
    .receive = stream_receive,
    .send_many = stream_send_many,
    .receive_many = stream_receive_many,
    .leave = cove_leave,
};

/* ---- zero copy: built in the ring, looked at in the ring ---- */

static void loan_send(struct contestant *self, const void *data, size_t size_bytes)
{
    const struct streams *streams = self->state;
    void *room;
    int result = cove_stream_reserve(streams->writer, &room, size_bytes, COVE_FOREVER);

    if (result < 0)
        stream_failed(self, "cove_stream_reserve", result);
    __builtin_memcpy(room, data, size_bytes);
    result = cove_stream_commit(streams->writer, size_bytes);
    if (result < 0)
        stream_failed(self, "cove_stream_commit", result);
}

static void loan_receive(struct contestant *self, void *data, size_t size_bytes)
{
    const struct streams *streams = self->state;
    const void *piece;
    int64_t n = cove_stream_peek(streams->reader, &piece, COVE_FOREVER);

    if (n != (int64_t)size_bytes)
        stream_failed(self, "cove_stream_peek", n);
    __builtin_memcpy(data, piece, size_bytes);
    int result = cove_stream_consume(streams->reader, size_bytes);
    if (result < 0)
        stream_failed(self, "cove_stream_consume", result);
}

/* A piece at a time. */
static size_t loan_receive_many(struct contestant *self, const void **data, size_t size_bytes, size_t count)
{
    (void)count;
    loan_receive(self, self->in, size_bytes);
    *data = self->in;
    return 1;
}

const struct channel_type channel_cove_zero_copy = {
    .enter = cove_enter,
    .send = loan_send,
    .receive = loan_receive,
    .send_many = stream_send_many,
    .receive_many = loan_receive_many,
    .leave = cove_leave,
};
