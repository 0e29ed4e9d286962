/* transfer.c - what `cove write` and `cove read` share: opening their end, and waiting in slices.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIPE_BYTES (1 << 20)

static bool read_options(struct transfer *transfer, struct cove_stream_options *options,
                         const struct transfer_options *given)
{
    transfer->wait.timeout_ns = COVE_FOREVER;
    if (given->timeout && !cli_timeout("--timeout", given->timeout, &transfer->wait.timeout_ns))
        return false;
    return !given->capacity || cli_size("--capacity", given->capacity, &options->capacity_bytes);
}

/* The same in a segment that may be another user's. */
static int open_any_owner(struct transfer *transfer, enum cove_end end, const struct cove_stream_options *options)
{
    struct cli_name parts;
    struct cove_options of_segment = {.flags = COVE_ANY_OWNER | (options->flags & COVE_EXISTING)};
    if (!cli_name_split(transfer->name, &parts))
        exit(CLI_USE);
    int result = cove_open(&transfer->segment, parts.segment, &of_segment);
    return result < 0 ? result : cove_stream_open_in(&transfer->stream, transfer->segment, parts.object, end, options);
}

int transfer_close(struct transfer *transfer)
{
    int result = cove_stream_close(transfer->stream);
    int of_segment = cove_close(transfer->segment);
    return result < 0 ? result : of_segment;
}

void transfer_abandon(struct transfer *transfer)
{
    (void)cove_stream_abandon(transfer->stream);
    (void)cove_close(transfer->segment);
}

int transfer_open(struct transfer *transfer, const char *name, enum cove_end end, const struct transfer_options *given,
                  uint32_t flags)
{
    struct cove_stream_options options = {.flags = flags | (given->existing ? COVE_EXISTING : 0)};
    struct cli_name parts;
    transfer->name = name;
    if (!cli_is_object_name(name, "stream", &parts) || !read_options(transfer, &options, given))
        return CLI_USE;
    int result = given->any_owner ? open_any_owner(transfer, end, &options)
                                  : cove_stream_open(&transfer->stream, name, end, &options);
    if (result < 0) {
        int status = result == COVE_EOWNER ? cli_failed_owner(name, "say --any-owner if you trust that user")
                                           : cli_failed_name(name, result);
        (void)cove_close(transfer->segment);
        return status;
    }
    if (result == COVE_CREATED)
        cli_say_created(name, "stream");
    cli_progress_begin(&transfer->progress, name, end == COVE_WRITER ? "written" : "read", given->progress);
    /* What is read goes to the terminal itself: no line of ours between. */
    if (end == COVE_READER && isatty(STDOUT_FILENO) && !given->progress)
        transfer->progress.wanted = false;
    return -1;
}

void transfer_widen_pipe(int descriptor)
{
    (void)fcntl(descriptor, F_SETPIPE_SZ, PIPE_BYTES);
}

void transfer_wait_descriptor(int descriptor, short events)
{
    struct pollfd look = {.fd = descriptor, .events = events};
    (void)poll(&look, 1, (int)(CLI_SLICE_NS / 1000000));
}

bool transfer_may_wait(struct transfer *transfer, int64_t result, const char *waiting_for)
{
    cli_progress_step(&transfer->progress, 0, waiting_for);
    if (cli_stopped())
        return false;
    return result == -ETIMEDOUT && !cli_wait_over(&transfer->wait);
}
