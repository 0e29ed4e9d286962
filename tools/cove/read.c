/* read.c - `cove read SEG/STREAM`: a stream to standard output, without a copy between.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * write(2) takes the bytes straight from the ring, and they are consumed as far as it took them: whoever reads next
 * goes on with the byte that standard output did not get. */
#include "transfer.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static struct transfer_options given;

static const struct poptOption options[] = {
    {"timeout", 't', POPT_ARG_STRING, &given.timeout, 0, "give up when nothing came for so long (default: forever)",
     "TIME"},
    {"capacity", 0, POPT_ARG_STRING, &given.capacity, 0, "size of a new stream's ring, a power of two (default 1M)",
     "SIZE"},
    {"existing", 'e', POPT_ARG_NONE, &given.existing, 0, "create nothing", NULL},
    {"any-owner", 0, POPT_ARG_NONE, &given.any_owner, 0, "accept a segment that belongs to another user", NULL},
    {"progress", 'p', POPT_ARG_NONE, &given.progress, 0, "show a line of progress even where stderr is no terminal",
     NULL},
    POPT_TABLEEND,
};

/* While we wait for the writer, whoever reads our output may have gone: nobody would notice before the next byte. */
static bool output_is_gone(int descriptor)
{
    struct pollfd look = {.fd = descriptor};
    return poll(&look, 1, 0) == 1 && (look.revents & POLLERR);
}

/* The next piece. Returns its length, 0 at the stream's end, or an error; -EPIPE: our output is gone. */
static int64_t next_piece(struct transfer *transfer, const void **piece)
{
    for (;;) {
        int64_t length = cove_stream_peek(transfer->stream, piece, cli_wait_slice(&transfer->wait));
        if (length >= 0) {
            cli_wait_reset(&transfer->wait);
            return length;
        }
        if (!transfer_may_wait(transfer, length, "waiting for the writer"))
            return length;
        if (output_is_gone(transfer->descriptor))
            return -EPIPE;
    }
}

/* Write some of the piece. Returns how much, or an error; -EINTR: a signal asked us to stop. */
static ssize_t put(int descriptor, const void *piece, size_t length)
{
    for (;;) {
        ssize_t count = write(descriptor, piece, length);
        if (count >= 0)
            return count;
        if (cli_stopped())
            return -EINTR;
        if (errno == EAGAIN)
            transfer_wait_descriptor(descriptor, POLLOUT);
        else if (errno != EINTR)
            return -errno;
    }
}

static int output_failed(ssize_t error)
{
    if (error != -EPIPE)
        cli_say("standard output", "cannot write: %s; what it did not get stays in the stream", strerror((int)-error));
    return CLI_FAILED;
}

/* Everything up to the end. Returns an exit status; `*closed` tells that our output was closed. */
static int copy(struct transfer *transfer, bool *closed)
{
    for (;;) {
        const void *piece;
        int64_t length = next_piece(transfer, &piece);
        if (length == 0)
            return CLI_DONE;
        if (cli_stopped())
            return CLI_FAILED;
        if (length < 0) {
            *closed = length == -EPIPE;
            return *closed ? CLI_FAILED : cli_failed(transfer->name, length);
        }
        ssize_t count = put(transfer->descriptor, piece, (size_t)length);
        if (count < 0) {
            *closed = count == -EPIPE;
            return count == -EINTR ? CLI_FAILED : output_failed(count);
        }
        int result = cove_stream_consume(transfer->stream, (size_t)count);
        if (result < 0)
            return cli_failed(transfer->name, result);
        cli_progress_step(&transfer->progress, (uint64_t)count, "");
    }
}

/* A closed output must not kill us before the stream is closed. Returns true where it would have killed us. */
static bool ignore_sigpipe(void)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN}, before;
    sigemptyset(&ignore.sa_mask);
    return sigaction(SIGPIPE, &ignore, &before) == 0 && before.sa_handler != SIG_IGN;
}

static int run(const struct cli_call *call)
{
    struct transfer transfer = {.descriptor = STDOUT_FILENO};
    bool closed = false, dies_of_sigpipe = ignore_sigpipe();
    cli_stop_install();
    int status = transfer_open(&transfer, call->names[0], COVE_READER, &given, 0);
    if (status >= 0)
        return status;
    transfer_widen_pipe(transfer.descriptor);
    status = copy(&transfer, &closed);
    cli_progress_end(&transfer.progress);
    int result = transfer_close(&transfer);
    if (cli_stopped())
        cli_stop_die(cli_stopped());
    if (closed && dies_of_sigpipe)
        cli_stop_die(SIGPIPE);
    if (closed)
        cli_say("standard output", "cannot write: %s", strerror(EPIPE));
    if (status == CLI_DONE && result < 0)
        return cli_failed(transfer.name, result);
    return status;
}

const struct cli_verb cli_read = {
    .name = "read",
    .arguments = "SEGMENT/STREAM",
    .summary = "copy a stream to standard output",
    .text =
        "Creates what is missing; reader or writer may come first. Ends when the writer has ended and all is read.\n"
        "When the writer died, everything that it had committed is printed, then who died, and the status is 1.\n"
        "A reader that is interrupted leaves what it did not print to the next one.\n\n"
        "  cove read robot/backup | tar x",
    .options = options,
    .least = 1,
    .most = 1,
    .run = run,
};
