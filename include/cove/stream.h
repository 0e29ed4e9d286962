/* cove/stream.h - bytes from one process to another: what a pipe or a FIFO does, without the kernel in between.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * One writer and one reader at a time, in any process of the machine, either of which may come first. The bytes lie
 * in a ring in the segment. What is written stays there, in order, until it is consumed: a new reader goes on where
 * the last one stopped or died, and a new writer behind what the last one committed.
 *
 * Ends. When the writer closes, the reader gets what is left, then 0 (end of stream) once; the next call waits for
 * the next writer. When the writer dies, the reader gets what it had committed, then COVE_EPEER once, and
 * cove_last_error says who died and after how many bytes. When the reader closes or dies, the writer's next call
 * gives -EPIPE or COVE_EPEER (once; bytes that were not consumed stay for the next reader), unless the writer was
 * opened with COVE_STREAM_STAY.
 *
 * Threads: each end is used by one thread at a time. Signals: not async-signal-safe.
 * Crash: a cove_stream_write of up to a quarter of the capacity is there whole or not at all; a longer one as a
 * prefix. A reader that dies inside a call has consumed nothing by it, or what it took if it died at the call's very
 * end. */
#ifndef COVE_STREAM_H
#define COVE_STREAM_H

#include <cove/segment.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cove_stream cove_stream;

enum cove_end { COVE_WRITER = 1, COVE_READER = 2 };

/* stream flags, besides COVE_EXISTING and COVE_EXCLUSIVE */
#define COVE_STREAM_STAY 0x100u /* writer: a reader that ends or dies is no error; wait for the next */
#define COVE_STREAM_NOSPIN 0x200u /* sleep at once where there is nothing to do, instead of spinning briefly first */
#define COVE_STREAM_SPIN 0x400u /* never sleep while waiting (it takes a whole core) */

struct cove_stream_options {
    uint32_t flags;
    uint32_t reserved32;
    uint64_t capacity_bytes; /* of the ring, when it is created: a power of two of at least 4 KiB; default 1 MiB */
    uint64_t reserved[4];
};

/* Open one end of the stream `name`, "SEGMENT/OBJECT"; segment and stream are created where they are missing.
 * Returns 0, COVE_CREATED, or an error as cove_open and cove_object_open; -EBUSY where that end is taken: the
 * sentence names by whom. */
COVE_API COVE_CHECKED
int cove_stream_open(cove_stream **stream, const char *name, enum cove_end end,
                     const struct cove_stream_options *options);

/* The same inside an open segment, by the object's own name. */
COVE_API COVE_CHECKED
int cove_stream_open_in(cove_stream **stream, cove_segment *segment, const char *name, enum cove_end end,
                        const struct cove_stream_options *options);

/* Close this end; a writer's close is the end of the stream for the reader. NULL is allowed. In a forked child it
 * drops the inherited copy and the parent's end stays. Returns 0. */
COVE_API int cove_stream_close(cove_stream *stream);

/* Close this end without ending well: the other end is told COVE_EPEER, as if this process had died. For a writer
 * that could not write all that it meant to. Returns 0. */
COVE_API int cove_stream_abandon(cove_stream *stream);

/* Copy `size_bytes` bytes into the stream, waiting for room as long as `timeout_ns`.
 * Returns how many went in: all, unless time ran out or the reader went (then fewer; the next call tells why). If
 * none:
 * -EAGAIN (COVE_NOWAIT), -ETIMEDOUT, -EINTR (cove_interrupt), -EPIPE (the reader closed), COVE_EPEER (it died),
 * -EPERM (not the writer),
 * COVE_EFORKED. */
COVE_API int64_t cove_stream_write(cove_stream *stream, const void *data, size_t size_bytes, int64_t timeout_ns);

/* Messages in a batch: `count` pieces of `size_bytes` each, back to back in `data`, published by one store. All or
 * none: together, each with 8 bytes more and padded to 8, at most a quarter of the capacity (else -EMSGSIZE). Returns
 * `count` or an error as cove_stream_write. To the reader they are pieces for cove_stream_peek, and plain bytes for
 * cove_stream_read. */
COVE_API int64_t cove_stream_write_many(cove_stream *stream, const void *data, size_t size_bytes, size_t count,
                                        int64_t timeout_ns);

/* Copy out up to `size_bytes` bytes: waits until there is at least one, then takes what is there, though
 * little more than a quarter of the capacity in one call.
 * Returns the number of bytes, 0 at the end of the stream (the writer closed), -EAGAIN (COVE_NOWAIT), -ETIMEDOUT,
 * -EINTR (cove_interrupt),
 * COVE_EPEER (the writer died; all that it committed was read), COVE_ECORRUPT, -EPERM (not the reader), COVE_EFORKED.
 * */
COVE_API int64_t cove_stream_read(cove_stream *stream, void *data, size_t size_bytes, int64_t timeout_ns);

/* Zero copy, writer: room for `size_bytes` contiguous bytes (at most a quarter of the capacity) at `*data`, to be
 * filled and then published by cove_stream_commit. Returns 0 or an error as cove_stream_write, or -EMSGSIZE.
 * Reserving again replaces the reservation. */
COVE_API COVE_CHECKED
int cove_stream_reserve(cove_stream *stream, void **data, size_t size_bytes, int64_t timeout_ns);

/* Publish the first `size_bytes` bytes of the reservation (0: drop it). Returns 0, -EINVAL (no reservation, or it is
 * shorter). */
COVE_API int cove_stream_commit(cove_stream *stream, size_t size_bytes);

/* Zero copy, reader: the next piece, as it lies in the ring: `*data` is its address. Returns its length, or as
 * cove_stream_read.
 * The bytes stay valid until they are consumed. */
COVE_API int64_t cove_stream_peek(cove_stream *stream, const void **data, int64_t timeout_ns);

/* Take `size_bytes` bytes, at most what the last cove_stream_peek returned, out of the stream. Returns 0, -EINVAL. */
COVE_API int cove_stream_consume(cove_stream *stream, size_t size_bytes);

struct cove_stream_info {
    uint64_t capacity_bytes;
    uint64_t bytes_read; /* consumed since the stream was made */
    uint64_t bytes_unread; /* committed and not consumed */
    int32_t writer_pid; /* 0: there is none */
    int32_t reader_pid;
    char writer_command[32];
    char reader_command[32];
    uint64_t reserved[4];
};

COVE_API COVE_CHECKED
int cove_stream_stat(cove_stream *stream, struct cove_stream_info *info);

#ifdef __cplusplus
}
#endif
#endif
