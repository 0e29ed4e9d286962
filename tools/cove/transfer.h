/* transfer.h - what `cove write` and `cove read` share.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef COVE_TOOLS_TRANSFER_H
#define COVE_TOOLS_TRANSFER_H

#include "cli.h"

/* The options that both ends take. Targets of popt, so plain ints and strings. */
struct transfer_options {
    char *timeout;
    char *capacity;
    int existing;
    int any_owner;
    int progress;
};

/* One end of a stream and the descriptor at its other side. */
struct transfer {
    const char *name;
    cove_stream *stream;
    cove_segment *segment; /* with --any-owner; otherwise the stream keeps it */
    int descriptor;
    struct cli_wait wait;
    struct cli_progress progress;
};

/* Check the words, open the end, say what was created. Returns a status to end with, or -1. */
int transfer_open(struct transfer *transfer, const char *name, enum cove_end end, const struct transfer_options *given,
                  uint32_t flags);

/* Close the end, as a writer's end of stream. Returns 0 or an error. */
/* Leave without ending the stream: the other end is told that we gave up. */
void transfer_abandon(struct transfer *transfer);
int transfer_close(struct transfer *transfer);

/* A pipe holds 64 KiB unless asked for more; larger steps cost less. Other descriptors are left as they are. */
void transfer_widen_pipe(int descriptor);

/* A descriptor that does not block: wait a slice for it. */
void transfer_wait_descriptor(int descriptor, short events);

/* Returns true where `result` says no more than that a slice of the wait is over, and there is time left. */
bool transfer_may_wait(struct transfer *transfer, int64_t result, const char *waiting_for);

#endif
