/* write.c - `cove write SEG/STREAM [FILE]`: a file or standard input into a stream, without a copy between.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * read(2) puts the bytes straight into the ring. Only the end of the input closes the stream, so that the reader takes
 * nothing for whole that is not: a writer that is interrupted, or cannot read its input, gives up instead. */
#include "transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct transfer_options given;
static int keep;

static const struct poptOption options[] = {
    {"timeout", 't', POPT_ARG_STRING, &given.timeout, 0, "give up when nothing moved for so long (default: forever)",
     "TIME"},
    {"capacity", 0, POPT_ARG_STRING, &given.capacity, 0, "size of a new stream's ring, a power of two (default 1M)",
     "SIZE"},
    {"keep", 'k', POPT_ARG_NONE, &keep, 0, "when the reader ends or dies, wait for the next one", NULL},
    {"existing", 'e', POPT_ARG_NONE, &given.existing, 0, "create nothing", NULL},
    {"any-owner", 0, POPT_ARG_NONE, &given.any_owner, 0, "accept a segment that belongs to another user", NULL},
    {"progress", 'p', POPT_ARG_NONE, &given.progress, 0, "show a line of progress even where stderr is no terminal",
     NULL},
    POPT_TABLEEND,
};

/* The input: -1 after a sentence. "-" is standard input, as it is everywhere. */
static int open_input(const char *file)
{
    if (!file || strcmp(file, "-") == 0)
        return STDIN_FILENO;
    int descriptor = open(file, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        cli_say(file, "cannot read: %s", strerror(errno));
    return descriptor;
}

static uint64_t input_size(int descriptor)
{
    struct stat status;
    if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode))
        return 0;
    (void)posix_fadvise(descriptor, 0, 0, POSIX_FADV_SEQUENTIAL);
    off_t at = lseek(descriptor, 0, SEEK_CUR);
    return at >= 0 && at < status.st_size ? (uint64_t)(status.st_size - at) : 0;
}

/* Room in the ring. Returns 0, or what cove_stream_reserve said when it was not just a slice that ended. */
static int find_room(struct transfer *transfer, void **room, size_t size_bytes)
{
    for (;;) {
        int result = cove_stream_reserve(transfer->stream, room, size_bytes, cli_wait_slice(&transfer->wait));
        if (result == 0) {
            cli_wait_reset(&transfer->wait);
            return 0;
        }
        if (!transfer_may_wait(transfer, result, "waiting for the reader"))
            return result;
    }
}

/* Fill the room. Returns the number of bytes, 0 at the input's end, -EINTR when asked to stop, or another error. */
static ssize_t fill(struct transfer *transfer, void *room, size_t size_bytes)
{
    for (;;) {
        ssize_t count = read(transfer->descriptor, room, size_bytes);
        if (count >= 0)
            return count;
        if (cli_stopped())
            return -EINTR;
        if (errno == EAGAIN)
            transfer_wait_descriptor(transfer->descriptor, POLLIN);
        else if (errno != EINTR)
            return -errno;
    }
}

/* The whole input. Returns an exit status; a signal is noticed by the caller. */
static int copy(struct transfer *transfer, size_t step_bytes, const char *input_name)
{
    for (;;) {
        void *room;
        int result = find_room(transfer, &room, step_bytes);
        if (result < 0)
            return cli_stopped() ? CLI_FAILED : cli_failed(transfer->name, result);
        ssize_t count = fill(transfer, room, step_bytes);
        if (count == 0)
            return CLI_DONE;
        if (count < 0) {
            if (!cli_stopped())
                cli_say(input_name, "cannot read: %s; the stream is left unfinished", strerror((int)-count));
            return CLI_FAILED;
        }
        result = cove_stream_commit(transfer->stream, (size_t)count);
        if (result < 0)
            return cli_failed(transfer->name, result);
        cli_progress_step(&transfer->progress, (uint64_t)count, "");
        if (cli_stopped())
            return CLI_FAILED;
    }
}

static int run(const struct cli_call *call)
{
    struct transfer transfer = {0};
    struct cove_stream_info info;
    const char *input_name = call->name_count > 1 ? call->names[1] : "standard input";
    transfer.descriptor = open_input(call->name_count > 1 ? call->names[1] : NULL);
    if (transfer.descriptor < 0)
        return CLI_FAILED;
    cli_stop_install();
    int status = transfer_open(&transfer, call->names[0], COVE_WRITER, &given, keep ? COVE_STREAM_STAY : 0);
    if (status >= 0)
        return status;
    int result = cove_stream_stat(transfer.stream, &info);
    if (result < 0)
        return cli_failed(transfer.name, result);
    transfer_widen_pipe(transfer.descriptor);
    transfer.progress.expected_bytes = input_size(transfer.descriptor);
    /* A quarter of the ring is the most that can be reserved. */
    status = copy(&transfer, info.capacity_bytes / 4, input_name);
    cli_progress_end(&transfer.progress);
    if (status != CLI_DONE || cli_stopped())
        transfer_abandon(&transfer);
    if (cli_stopped())
        cli_stop_die(cli_stopped());
    if (status == CLI_DONE && (result = transfer_close(&transfer)) < 0)
        return cli_failed(transfer.name, result);
    return status;
}

const struct cli_verb cli_write = {
    .name = "write",
    .arguments = "SEGMENT/STREAM [FILE]",
    .summary = "copy FILE, or standard input, into a stream",
    .text = "Creates what is missing; reader or writer may come first. What is written stays until it is read.\n"
            "Fails when the reader ends or dies, and names it; with --keep it waits for the next reader instead.\n"
            "An interrupted writer does not end the stream: the reader is told that it gave up.\n\n"
            "  tar c photos | cove write robot/backup",
    .options = options,
    .least = 1,
    .most = 2,
    .run = run,
};
