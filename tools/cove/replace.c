/* replace.c - `cove replace NAME [FILE]`: new contents for a region, whole or not at all.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The input is read to its end into private memory before anything is touched. (A mapped input could be truncated in
 * the middle of the copy; we would learn of it when the zeros had been published.) So an input that fails, or a
 * signal while we wait for it, leaves the old contents as they are.
 * A signal during the step itself is noticed after it: what the step has half made is never left behind. */
#include "transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST_BYTES (UINT64_C(1) << 20)

static struct {
    char *mode, *group;
    int existing, any_owner;
} given;

static const struct poptOption options[] = {
    {"mode", 0, POPT_ARG_STRING, &given.mode, 0, "rights of the new contents, in octal (default: those of the old)",
     "MODE"},
    {"group", 0, POPT_ARG_STRING, &given.group, 0, "group of the new contents (default: that of the old)", "GROUP"},
    {"existing", 'e', POPT_ARG_NONE, &given.existing, 0, "create nothing", NULL},
    {"any-owner", 0, POPT_ARG_NONE, &given.any_owner, 0, "replace what belongs to another user", NULL},
    POPT_TABLEEND,
};

struct input {
    const char *name; /* for sentences */
    int descriptor;
    char *bytes;
    uint64_t size_bytes, room_bytes;
    uint64_t most_bytes;
};

/* The input stands in memory twice for a moment, so half of the machine's memory is the most that can be good: beyond
 * that the system would kill somebody, which need not be us. */
static uint64_t most_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    return pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes / 2 : SIZE_MAX / 2;
}

static bool open_input(struct input *input, const char *file)
{
    bool is_standard = !file || strcmp(file, "-") == 0;
    *input = (struct input){.name = is_standard ? "standard input" : file, .most_bytes = most_bytes()};
    input->descriptor = is_standard ? STDIN_FILENO : open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (input->descriptor < 0)
        cli_say(file, "cannot read: %s", strerror(errno));
    return input->descriptor >= 0;
}

/* Room for at least one byte more. A file's own size saves the copies, and the one byte finds its end. */
static bool make_room(struct input *input)
{
    struct stat status;
    uint64_t room = input->room_bytes ? 2 * input->room_bytes : FIRST_BYTES;
    if (!input->room_bytes && fstat(input->descriptor, &status) == 0 && S_ISREG(status.st_mode))
        room = (uint64_t)status.st_size + 1;
    if (room > input->most_bytes)
        room = input->most_bytes;
    char *grown = room > input->room_bytes ? realloc(input->bytes, (size_t)room) : NULL;
    if (!grown) {
        cli_say(input->name, "it is larger than what can be replaced in one step: more than %" PRIu64 " bytes",
                input->room_bytes);
        return false;
    }
    input->bytes = grown;
    input->room_bytes = room;
    return true;
}

/* One read. Returns how many bytes came, 0 at the end, -EINTR when asked to stop, or another error. */
static ssize_t fill(struct input *input)
{
    for (;;) {
        ssize_t count = read(input->descriptor, input->bytes + input->size_bytes,
                             (size_t)(input->room_bytes - input->size_bytes));
        if (count >= 0)
            return count;
        if (cli_stopped())
            return -EINTR;
        if (errno == EAGAIN)
            transfer_wait_descriptor(input->descriptor, POLLIN);
        else if (errno != EINTR)
            return -errno;
    }
}

/* All of it. Returns false after a sentence, or when asked to stop. */
static bool read_input(struct input *input)
{
    for (;;) {
        if (input->size_bytes == input->room_bytes && !make_room(input))
            return false;
        ssize_t count = fill(input);
        if (count < 0 && !cli_stopped())
            cli_say(input->name, "cannot read: %s; nothing was replaced", strerror((int)-count));
        if (count < 0 || cli_stopped())
            return false;
        if (count == 0)
            return true;
        input->size_bytes += (uint64_t)count;
    }
}

static int replace(const char *name, const struct input *input, const struct cove_region_options *region_options)
{
    int result = cove_region_replace(name, input->bytes, input->size_bytes, region_options);
    if (result < 0 && cli_stopped())
        return CLI_FAILED;
    if (result == COVE_EOWNER)
        return cli_failed_owner(name, "say --any-owner if it is to be replaced all the same");
    if (result < 0)
        return cli_failed_name(name, result);
    if (result == COVE_CREATED)
        cli_say_created(name, "region");
    return CLI_DONE;
}

static int run(const struct cli_call *call)
{
    const char *name = call->names[0];
    struct cove_region_options region_options = {.group = given.group};
    struct cli_name parts;
    struct input input;
    region_options.flags = (given.existing ? COVE_EXISTING : 0) | (given.any_owner ? COVE_ANY_OWNER : 0);
    if (!cli_name_split(name, &parts) || (given.mode && !cli_mode("--mode", given.mode, &region_options.mode)))
        return CLI_USE;
    if (*parts.object) {
        cli_say(name, "it is a region that is replaced, not an object of a segment");
        return CLI_USE;
    }
    if (!open_input(&input, call->name_count > 1 ? call->names[1] : NULL))
        return CLI_FAILED;
    cli_stop_install();
    int status = read_input(&input) ? replace(name, &input, &region_options) : CLI_FAILED;
    free(input.bytes);
    if (cli_stopped())
        cli_stop_die(cli_stopped());
    return status;
}

const struct cli_verb cli_replace = {
    .name = "replace",
    .arguments = "NAME [FILE]",
    .summary = "give a region the bytes of FILE, or of standard input",
    .text =
        "In one step: who opens the region finds all of the old bytes or all of the new ones, and who has it mapped\n"
        "keeps the old ones. Makes what is missing. A step that fails, or is interrupted, leaves the old ones.\n"
        "System V keys and nameless memory cannot be replaced.\n\n"
        "  cove replace posix:/calibration calibration.bin\n"
        "  ./table --binary | cove replace file:/var/lib/app/table",
    .options = options,
    .least = 1,
    .most = 2,
    .run = run,
};
