/* crowd.c - processes that work on a segment while its bytes are spoilt. Contract: crowd.h.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "crowd.h"

#include "ground.h"
#include "use.h"

#include <cove.h>

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORKERS 8
#define HANG_S 60 /* of one child, on a busy machine under sanitizers; a round takes milliseconds */
#define ROUNDS 50 /* of a child */
#define WORST_STATUS 4 /* that the command ends with */

struct worker {
    pid_t pid;
    enum crowd_work work;
    uint32_t flags;
    _Atomic uint64_t rounds, refusals, errors, findings; /* errors: of the check, or an exit status */
};

static struct shared {
    struct worker workers[WORKERS];
    uint32_t count;
    _Atomic bool stop;
} * shared;
static const char *command;

uint64_t crowd_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec;
}

/* ---- rounds: each returns whether the segment could be opened */

static bool look(struct worker *worker, uint64_t random)
{
    cove_segment *segment = NULL;
    struct cove_options options = {.flags = COVE_READONLY | worker->flags};
    if (cove_open(&segment, IMAGE_SEGMENT, &options) < 0)
        return false;
    use_look(segment, random % IMAGE_LARGEST);
    atomic_fetch_add(&worker->errors, cove_segment_check(segment, NULL, NULL) != 0);
    (void)cove_close(segment);
    return true;
}

static bool use(struct worker *worker, uint64_t random)
{
    cove_segment *segment = NULL;
    struct cove_options options = {.flags = COVE_EXISTING | worker->flags, .timeout_ns = 1000000};
    if (cove_open(&segment, IMAGE_SEGMENT, &options) < 0)
        return false;
    use_segment(segment, random % IMAGE_LARGEST);
    atomic_fetch_add(&worker->errors, cove_segment_check(segment, NULL, NULL) != 0);
    if (!use_close(segment))
        _exit(0); /* its lanes are scribbled on again and again; the process ends as others do */
    return true;
}

_Noreturn static void exec_command(const struct worker *worker, uint64_t round)
{
    static const char *const verbs[] = {"stat", "ls", "doctor", "cat"};
    const char *verb = worker->work == CROWD_GC ? "gc" : verbs[round % 4];
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    (void)dup2(null, STDOUT_FILENO);
    (void)dup2(null, STDERR_FILENO);
    (void)execl(command, "cove", verb, worker->work == CROWD_GC ? (char *)NULL : IMAGE_SEGMENT, (char *)NULL);
    _exit(127);
}

/* In a child of its own. */
_Noreturn static void do_rounds(struct worker *worker, uint64_t from)
{
    if (worker->work == CROWD_COMMAND || worker->work == CROWD_GC)
        exec_command(worker, from);
    srandom((unsigned)getpid());
    for (int i = 0; i < ROUNDS && !atomic_load(&shared->stop); i++) {
        uint64_t random_place = (uint64_t)random();
        ground_reset();
        bool opened = worker->work == CROWD_LOOK ? look(worker, random_place) : use(worker, random_place);
        atomic_fetch_add(&worker->refusals, !opened);
        atomic_fetch_add(&worker->rounds, 1);
    }
    _exit(0);
}

/* ---- workers */

static const char *name_of(const struct worker *worker)
{
    static const char *const names[] = {"looking", "using", "ls, stat, doctor, cat", "gc"};
    return names[worker->work];
}

/* Wait for the child. Returns its status; that of a kill where it hangs. */
static int wait_for(pid_t child, bool *hung)
{
    int status = 0;
    uint64_t end = crowd_seconds() + HANG_S;
    pid_t ended;
    while ((ended = waitpid(child, &status, WNOHANG)) == 0 && crowd_seconds() < end)
        (void)usleep(500);
    *hung = ended == 0;
    if (*hung) {
        (void)kill(child, SIGKILL);
        (void)waitpid(child, &status, 0);
    }
    return status;
}

static void judge(struct worker *worker, int status, bool hung)
{
    bool is_command = worker->work == CROWD_COMMAND || worker->work == CROWD_GC;
    if (is_command) {
        atomic_fetch_add(&worker->rounds, 1);
        atomic_fetch_add(&worker->errors, status != 0);
    }
    if (!hung && WIFEXITED(status) && WEXITSTATUS(status) <= (is_command ? WORST_STATUS : 0))
        return;
    atomic_fetch_add(&worker->findings, 1);
    (void)fprintf(stderr, "%s: %s, status 0x%x\n", name_of(worker), hung ? "hangs" : "died", (unsigned)status);
}

_Noreturn static void supervise(struct worker *worker)
{
    for (uint64_t round = 0; !atomic_load(&shared->stop); round++) {
        pid_t child = fork();
        if (child == 0)
            do_rounds(worker, round);
        bool hung = false;
        int status = child < 0 ? -1 : wait_for(child, &hung);
        judge(worker, status, hung);
    }
    _exit(0);
}

void crowd_begin(const char *path)
{
    command = path;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        perror("memory");
        exit(1);
    }
}

void crowd_start(enum crowd_work work, uint32_t flags)
{
    if (!command && (work == CROWD_COMMAND || work == CROWD_GC))
        return;
    struct worker *worker = &shared->workers[shared->count++];
    worker->work = work;
    worker->flags = flags;
    (void)fflush(stdout);
    worker->pid = fork();
    if (worker->pid == 0)
        supervise(worker);
    if (worker->pid < 0) {
        perror("fork");
        exit(1);
    }
}

bool crowd_goes_on(uint64_t until_s)
{
    return crowd_seconds() < until_s;
}

int crowd_end(const char *name)
{
    bool bad = false;
    atomic_store(&shared->stop, true);
    for (uint32_t i = 0; i < shared->count; i++)
        (void)waitpid(shared->workers[i].pid, NULL, 0); /* it ends: each child of its is waited for or killed */
    for (uint32_t i = 0; i < shared->count; i++) {
        struct worker *worker = &shared->workers[i];
        uint64_t rounds = atomic_load(&worker->rounds), errors = atomic_load(&worker->errors);
        uint64_t refusals = atomic_load(&worker->refusals), findings = atomic_load(&worker->findings);
        printf("%s: %s%s: %" PRIu64 " rounds, %" PRIu64 " refused, %" PRIu64 " with errors, %" PRIu64 " died or hung\n",
               name, name_of(worker), worker->flags & COVE_GUARD ? " with a guard" : "", rounds, refusals, errors,
               findings);
        /* No error at all: then nobody saw what was spoilt. All refused: then nobody got further than the header. */
        bad = bad || findings > 0 || rounds == 0 || rounds == refusals ||
              (errors + refusals == 0 && worker->work != CROWD_GC);
    }
    return bad;
}
