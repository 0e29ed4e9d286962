/* demo.c - `cove demo`: processes share memory, are killed, and nothing is lost; told with measured figures.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Nothing stays behind: the files are nameless, the segment goes with its last member (COVE_LAST_OUT), the actors
 * are killed by the kernel when the teller dies. Even a SIGKILL of the demo itself leaves no more than a segment
 * whose members are all dead, which `cove gc` removes. */
#include "demo.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define POLL_NS 200000
#define BREATH_NS INT64_C(700000000)

static void sleep_ns(int64_t ns)
{
    struct timespec span = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    (void)nanosleep(&span, NULL);
}

void demo_tell(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vprintf(format, arguments);
    va_end(arguments);
    (void)fflush(stdout);
}

bool demo_broken(const char *format, ...)
{
    char sentence[512];
    va_list arguments;
    if (cli_stopped())
        return false; /* interrupted: what went wrong after that is our own doing */
    va_start(arguments, format);
    (void)vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    (void)fflush(stdout);
    cli_say("demo", "%s", sentence);
    return false;
}

void demo_breathe(const struct demo *demo)
{
    if (demo->watched && !cli_stopped())
        sleep_ns(BREATH_NS);
}

/* ---- actors ---- */

static _Noreturn void act(struct demo *demo, pid_t teller, int slot, demo_role *role, const char *object)
{
    static const int usual[] = {SIGINT, SIGTERM, SIGHUP, SIGALRM};
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
        (void)signal(usual[i], SIG_DFL);
    /* Nobody is left behind; and if the teller died before this call, we are another's child already. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != teller)
        _exit(CLI_FAILED);
    _exit(role(demo, &demo->board[slot], object));
}

static bool cast(struct demo *demo, int slot, demo_role *role, const char *object, bool doomed)
{
    pid_t teller = getpid();
    memset(&demo->board[slot], 0, sizeof demo->board[slot]);
    demo->board[slot].doomed = doomed;
    (void)fflush(NULL);
    pid_t actor = fork();
    if (actor == 0)
        act(demo, teller, slot, role, object);
    if (actor < 0)
        return demo_broken("cannot fork: %s", strerror(errno));
    demo->actors[slot] = actor;
    return true;
}

bool demo_cast(struct demo *demo, int slot, demo_role *role, const char *object)
{
    return cast(demo, slot, role, object, false);
}

bool demo_cast_doomed(struct demo *demo, int slot, demo_role *role, const char *object)
{
    return cast(demo, slot, role, object, true);
}

int64_t demo_kill(struct demo *demo, int slot)
{
    int64_t now = cli_now_ns();
    if (demo->actors[slot] > 0)
        (void)kill(demo->actors[slot], SIGKILL);
    return now;
}

int demo_await(struct demo *demo, int slot)
{
    int status;
    int64_t until = cli_now_ns() + DEMO_PATIENCE_NS;
    for (;;) {
        pid_t ended = waitpid(demo->actors[slot], &status, WNOHANG);
        if (ended == demo->actors[slot] || (ended < 0 && errno != EINTR))
            break;
        if (cli_now_ns() > until || cli_stopped())
            return -1;
        sleep_ns(POLL_NS);
    }
    demo->actors[slot] = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool demo_until(bool (*ready)(const struct demo_slot *slot, uint64_t value), const struct demo_slot *slot,
                uint64_t value)
{
    int64_t until = cli_now_ns() + DEMO_PATIENCE_NS;
    while (!ready(slot, value)) {
        if (cli_now_ns() > until || cli_stopped())
            return false;
        sleep_ns(POLL_NS);
    }
    return true;
}

/* ---- beginning and end ---- */

static bool begin(struct demo *demo)
{
    struct cove_options options = {.flags = COVE_EXCLUSIVE, .lifetime = COVE_LAST_OUT};
    (void)snprintf(demo->segment_name, sizeof demo->segment_name, "demo-%d", (int)getpid());
    demo->board = mmap(NULL, DEMO_SLOTS * sizeof *demo->board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                       0);
    if (demo->board == MAP_FAILED)
        return demo_broken("cannot map memory: %s", strerror(errno));
    int result = cove_open(&demo->segment, demo->segment_name, &options);
    if (result < 0) {
        demo->segment = NULL;
        (void)cli_failed(demo->segment_name, result);
        return false;
    }
    return true;
}

/* Also after an interruption. Returns whether nothing stayed. */
static bool end(struct demo *demo)
{
    for (int slot = 0; slot < DEMO_SLOTS; slot++)
        if (demo->actors[slot] > 0) {
            (void)kill(demo->actors[slot], SIGKILL);
            (void)waitpid(demo->actors[slot], NULL, 0);
        }
    if (!demo->segment)
        return true;
    int result = cove_close(demo->segment);
    if (result < 0 || cli_stopped())
        (void)cove_unlink(demo->segment_name, 1);
    struct cove_segment_info info;
    result = cove_stat(demo->segment_name, &info);
    if (result == -ENOENT)
        return true;
    (void)cove_unlink(demo->segment_name, 1);
    return demo_broken("the segment %s stayed after its last member had gone", demo->segment_name);
}

static bool tell_story(struct demo *demo)
{
    demo_tell("Processes share memory. Some will be killed with SIGKILL, in the middle of their work.\n\n");
    if (!demo_make_files(demo))
        return false;
    demo_breathe(demo);
    if (!demo_reader_dies(demo))
        return false;
    demo_breathe(demo);
    if (!demo_writer_dies(demo))
        return false;
    demo_breathe(demo);
    return demo_holder_dies(demo);
}

static int run(const struct cli_call *call)
{
    struct demo demo = {.source = -1, .copy = -1, .watched = isatty(STDOUT_FILENO)};
    char span[16];
    (void)call;
    cli_stop_install();
    int64_t began = cli_now_ns();
    bool good = begin(&demo) && tell_story(&demo);
    good = end(&demo) && good;
    if (cli_stopped())
        cli_stop_die(cli_stopped());
    if (!good)
        return CLI_FAILED;
    demo_tell("All came out even in %s, and nothing is left behind. Your turn:\n"
              "   tar c DIR | cove write robot/backup & cove read robot/backup | tar t\n",
              cli_show_span(span, cli_now_ns() - began));
    return CLI_DONE;
}

const struct cli_verb cli_demo = {
    .name = "demo",
    .arguments = "",
    .summary = "watch processes share memory, and be killed",
    .text =
        "Sends 200 MiB of this machine's own files through a stream while a reader, then a writer is killed and "
        "another\n"
        "takes over; kills holders of a lock in the middle of a change. Compares every byte; leaves nothing behind.\n"
        "Exit status 0 only if everything agreed.",
    .run = run,
};
