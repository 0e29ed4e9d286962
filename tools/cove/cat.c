/* cat.c - `cove cat NAME`: the bytes of a region, a file or a segment to standard output.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * write(2) takes the bytes straight from the mapping. Three things about mappings that a read(2) has not:
 *   - Another process may make the object smaller meanwhile. A write from what is gone fails with EFAULT; a touch of
 *     our own would be SIGBUS, which the guard catches. Up to a page behind the new end reads as zeros, so the size
 *     is looked at once more at the end: what was printed is never called whole when it was not.
 *   - An empty object cannot be mapped.
 *   - A hole, when touched, takes a page of memory for good, and where there is none it is SIGBUS. So holes are found
 *     by lseek and printed from zeros of our own: looking changes nothing.
 * Nothing has to be put back when a signal ends this, so signals do what they do by default; a pipe whose reader has
 * gone ends it by SIGPIPE, without a word. */
#include "transfer.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

static struct {
    char *offset, *length;
} given;

static const struct poptOption options[] = {
    {"offset", 0, POPT_ARG_STRING, &given.offset, 0, "begin behind so many bytes (default 0)", "SIZE"},
    {"length", 0, POPT_ARG_STRING, &given.length, 0, "print so many bytes (default: all up to the end)", "SIZE"},
    POPT_TABLEEND,
};

/* One printing: what is left of the mapped part, and where that stands in the whole, for lseek. */
struct printing {
    const char *bytes;
    uint64_t left_bytes;
    uint64_t offset;
    int file; /* to find holes by; below 0 where the backend has no descriptor */
    int error; /* negated errno of the write that failed; 0 */
};

/* How many bytes, of those that are left, are all of one kind: a hole or data. Where nobody can tell it is data. */
static uint64_t stretch(const struct printing *printing, bool *is_hole)
{
    off_t at = (off_t)printing->offset, end = at + (off_t)printing->left_bytes;
    off_t hole = printing->file < 0 ? end : lseek(printing->file, at, SEEK_HOLE);
    *is_hole = hole == at;
    if (hole != at)
        return (uint64_t)((hole < at || hole > end ? end : hole) - at);
    off_t data = lseek(printing->file, at, SEEK_DATA);
    return (uint64_t)((data < at || data > end ? end : data) - at);
}

/* Print `length` bytes of `source`. Returns how many went, less than asked only after an error, which it notes. */
static uint64_t put(struct printing *printing, const char *source, uint64_t length)
{
    uint64_t done = 0;
    while (done < length) {
        ssize_t count = write(STDOUT_FILENO, source + done, (size_t)(length - done));
        if (count >= 0)
            done += (uint64_t)count;
        else if (errno == EAGAIN)
            transfer_wait_descriptor(STDOUT_FILENO, POLLOUT);
        else if (errno != EINTR) {
            printing->error = -errno;
            break;
        }
    }
    return done;
}

/* The same for a hole. */
static uint64_t put_zeros(struct printing *printing, uint64_t length)
{
    static const char zeros[1 << 16];
    uint64_t done = 0;
    while (done < length && !printing->error)
        done += put(printing, zeros, length - done < sizeof zeros ? length - done : sizeof zeros);
    return done;
}

/* Called with the mapped bytes, under the guard. */
static int print(void *data, uint64_t size_bytes, void *context)
{
    struct printing *printing = context;
    printing->bytes = data;
    printing->left_bytes = size_bytes;
    while (printing->left_bytes > 0 && !printing->error) {
        bool is_hole;
        uint64_t length = stretch(printing, &is_hole);
        uint64_t done = is_hole ? put_zeros(printing, length) : put(printing, printing->bytes, length);
        printing->bytes += done;
        printing->offset += done;
        printing->left_bytes -= done;
    }
    return 0;
}

static int shrunk(const char *name, const struct printing *printing)
{
    cli_say(name,
            "another process made it smaller while it was read; what was printed goes up to byte %" PRIu64
            ", and may end in zeros that it never held",
            printing->offset);
    return CLI_FAILED;
}

/* What came of it. `result` is the guard's word, and `size` that of the look behind it. */
static int judge(const char *name, const struct printing *printing, int result, int size)
{
    if (result == COVE_ETRUNCATED || size == COVE_ETRUNCATED)
        return shrunk(name, printing);
    if (result < 0)
        return cli_failed(name, result);
    if (printing->error == -EFAULT) {
        cli_say(name, "byte %" PRIu64 " cannot be read: the disk failed, or there is no memory left for it",
                printing->offset);
        return CLI_FAILED;
    }
    if (printing->error) {
        cli_say("standard output", "cannot write: %s", strerror(-printing->error));
        return CLI_FAILED;
    }
    return CLI_DONE;
}

static int print_region(const char *name, cove_region *region, uint64_t offset)
{
    struct cove_region_info info;
    struct printing printing = {.offset = offset, .file = cove_region_fd(region)};
    int result = cove_region_guard(region, print, &printing);
    int status = judge(name, &printing, result, cove_region_stat(region, &info));
    if (printing.file >= 0)
        (void)close(printing.file);
    return status;
}

static int run(const struct cli_call *call)
{
    const char *name = call->names[0];
    struct cove_region_options region_options = {.flags = COVE_READONLY | COVE_ANY_OWNER};
    struct cli_name parts;
    cove_region *region;
    if (!cli_name_split(name, &parts) ||
        (given.offset && !cli_offset("--offset", given.offset, &region_options.offset)) ||
        (given.length && !cli_size("--length", given.length, &region_options.length_bytes)))
        return CLI_USE;
    if (*parts.object) {
        cli_say(name, "cat prints a whole region or segment; say %s, or cove read for a stream", parts.segment);
        return CLI_USE;
    }
    int result = cove_region_open(&region, name, &region_options);
    if (result < 0)
        return cli_failed_name(name, result);
    int status = print_region(name, region, region_options.offset);
    (void)cove_region_close(region);
    return status;
}

const struct cli_verb cli_cat = {
    .name = "cat",
    .arguments = "NAME",
    .summary = "print the bytes of a region, a file or a segment",
    .text = "NAME may be of any backend ('cove help names'). Nothing is changed, and no place is taken in a segment.\n"
            "Where another process makes it smaller meanwhile, a line says so and the status is 1.\n\n"
            "  cove cat posix:/camera --offset 4K --length 640K > frame\n"
            "  cove cat sysv:0x5eed | xxd | head",
    .options = options,
    .least = 1,
    .most = 1,
    .run = run,
};
