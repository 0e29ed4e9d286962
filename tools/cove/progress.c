/* progress.c - one line on stderr that says how far a transfer is.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * It is shown on a terminal only, by the process in the foreground only (in `cove write x/y & cove read x/y` two would
 * write over each other), and not in the first second, in which most transfers end. --progress shows it anywhere. */
#include "cli.h"

#include <string.h>
#include <unistd.h>

#define FIRST_SHOWN_NS INT64_C(1000000000)
#define EVERY_NS INT64_C(200000000)

static bool in_foreground(void)
{
    return isatty(STDERR_FILENO) && tcgetpgrp(STDERR_FILENO) == getpgrp();
}

void cli_progress_begin(struct cli_progress *progress, const char *name, const char *done_word, bool forced)
{
    *progress = (struct cli_progress){.name = name, .done_word = done_word, .began_ns = cli_now_ns()};
    progress->wanted = forced || in_foreground();
    progress->shown_ns = forced ? 0 : progress->began_ns + FIRST_SHOWN_NS - EVERY_NS;
}

static void show(struct cli_progress *progress, const char *state, const char *end)
{
    char size[16], rate[24], span[16], share[16] = "", line[256];
    int64_t ns = cli_now_ns() - progress->began_ns;
    if (progress->expected_bytes && progress->bytes <= progress->expected_bytes)
        (void)snprintf(share, sizeof share, " (%u %%)",
                       (unsigned)(100 * (double)progress->bytes / (double)progress->expected_bytes));
    (void)snprintf(line, sizeof line, "cove: %.100s: %s%s in %s, %s%s%s", progress->name,
                   cli_show_size(size, progress->bytes), share, cli_show_span(span, ns),
                   cli_show_rate(rate, progress->bytes, ns), *state ? ", " : "", state);
    /* "\r" to the start of the line, "ESC [K" to wipe what a longer one left. A file gets plain lines. */
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r%s\033[K%s", line, end);
    else
        fprintf(stderr, "%s\n", line);
    progress->shown = true;
}

void cli_progress_step(struct cli_progress *progress, uint64_t bytes, const char *waiting_for)
{
    progress->bytes += bytes;
    if (!progress->wanted)
        return;
    int64_t now = cli_now_ns();
    if (now - progress->shown_ns < EVERY_NS)
        return;
    progress->shown_ns = now;
    show(progress, waiting_for, "");
}

void cli_progress_end(struct cli_progress *progress)
{
    if (progress->shown)
        show(progress, progress->done_word, "\n");
    progress->shown = false;
}
