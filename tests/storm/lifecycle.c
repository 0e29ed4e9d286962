/* lifecycle.c - a storm over segments that come and go: processes are killed inside open, close, unlink and gc.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Random moments seldom fall into such short calls, so the supervisor waits until a worker says that it is in one, and strikes a random
 * few microseconds later. In the end gc must leave nothing but whole KEEP segments, which open, are sound, and go. */
#include "storm.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAMES 3
#define LONGEST_AIM_NS UINT64_C(60000000) /* how long a worker is watched for the wanted moment */
#define LATEST_NS UINT64_C(80000) /* strikes fall within this of the call's begin */

static const enum doing moments[] = {DOING_OPEN, DOING_CLOSE, DOING_UNLINK, DOING_GC};
#define MOMENTS (sizeof moments / sizeof *moments)

static void name_of(char name[200], uint64_t number)
{
    char plain[16];
    (void)snprintf(plain, sizeof plain, "cycle-%u", (unsigned)number);
    name_place(name, storm_place, plain, 1 + (uint32_t)number);
}

/* False where it is not there, or there already, and that was asked. */
static bool open_some(struct worker *worker, const char *name)
{
    static const uint32_t flags[] = {0, 0, COVE_EXISTING, COVE_EXCLUSIVE};
    struct cove_options options = {.flags = flags[below(&worker->random, 4)],
                                   .lifetime = one_in(&worker->random, 3) ? COVE_KEEP : COVE_LAST_OUT,
                                   .max_members = MEMBERS};
    begin_doing(worker, DOING_OPEN);
    int result = cove_open(&worker->segment, name, &options);
    bool refused = (result == -ENOENT && options.flags == COVE_EXISTING) ||
                   (result == -EEXIST && options.flags == COVE_EXCLUSIVE);
    if (!refused)
        must(result, name);
    end_doing(worker, DOING_OPEN);
    return !refused;
}

/* Something to leave behind. */
static void use(struct worker *worker)
{
    void *memory = NULL;
    begin_doing(worker, DOING_MEMORY);
    if (cove_alloc(worker->segment, (size_t)(1 + below(&worker->random, 3000))) == 0)
        fault("alloc: %s", cove_last_error());
    if (one_in(&worker->random, 2))
        must(cove_object_open(&memory, worker->segment, "world", &world_type, 0), "open an object");
    end_doing(worker, DOING_MEMORY);
}

static void unlink_some(struct worker *worker, const char *name)
{
    begin_doing(worker, DOING_UNLINK);
    int result = cove_unlink(name, one_in(&worker->random, 2));
    if (result != -ENOENT && result != -EBUSY)
        must(result, "unlink");
    end_doing(worker, DOING_UNLINK);
}

static void gc(struct worker *worker)
{
    begin_doing(worker, DOING_GC);
    must(cove_gc(one_in(&worker->random, 4), NULL, NULL), "gc");
    end_doing(worker, DOING_GC);
}

static void come_and_go(uint32_t seat, uint64_t seed)
{
    struct worker worker = {.seat = &ledger->seats[seat], .random = seed};
    char name[200];
    while (!atomic_load(&ledger->stop)) {
        name_of(name, below(&worker.random, NAMES));
        if (open_some(&worker, name)) {
            use(&worker);
            close_world(&worker);
        }
        if (one_in(&worker.random, 4))
            unlink_some(&worker, name);
        if (one_in(&worker.random, 6))
            gc(&worker);
    }
    exit(0);
}

/* ---- the killer */

/* Wait until that worker begins what is wanted. */
static void aim(uint32_t seat, enum doing moment, uint64_t *random)
{
    uint64_t deadline = now_ns() + LONGEST_AIM_NS;
    while (atomic_load(&ledger->seats[seat].doing) != moment && now_ns() < deadline)
        (void)sched_yield(); /* it may need our processor to get there */
    uint64_t strike = now_ns() + below(random, LATEST_NS);
    while (now_ns() < strike)
        ;
}

static bool kill_in(pid_t *pid, uint32_t seat, enum doing moment, uint64_t *random, uint64_t *hits)
{
    int status = 0;
    aim(seat, moment, random);
    kill(*pid, SIGKILL);
    (void)waitpid(*pid, &status, 0);
    *pid = 0;
    *hits += atomic_load(&ledger->seats[seat].doing) == moment;
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

/* ---- the judge */

static void print_finding(const char *sentence, void *context)
{
    printf("  check of %s: %s\n", (const char *)context, sentence);
    (void)fflush(stdout);
}

static int judge_kept(const char *name, void *context)
{
    struct worker *worker = context;
    char copy[256];
    struct cove_segment_info info;
    (void)snprintf(copy, sizeof copy, "%s", name);
    must(cove_open(&worker->segment, copy, &(struct cove_options){.flags = COVE_EXISTING}), "open what was kept");
    must(cove_recover(worker->segment), "recover what was kept");
    must(cove_segment_stat(worker->segment, &info), "stat of what was kept");
    if (info.lifetime != COVE_KEEP)
        fault("%s is last-out, nobody was in it, and gc left it", copy);
    if (info.members_alive != 1 || info.members_dead != 0)
        fault("%s has %u members alive and %u dead, where there should be one", copy, info.members_alive,
              info.members_dead);
    if (must(cove_segment_check(worker->segment, print_finding, copy), "check what was kept") != 0)
        fault("%s is not sound", copy);
    must(cove_close(worker->segment), "close what was kept");
    must(cove_unlink(copy, 0), "unlink what was kept");
    return 0;
}

/* Files anywhere are in nobody's list. Opening one that went with its last member takes its name away. */
static void judge_files(struct worker *worker)
{
    char name[200];
    cove_segment *segment = NULL;
    for (uint64_t number = 0; number < NAMES; number++) {
        name_of(name, number);
        int result = cove_open(&segment, name, &(struct cove_options){.flags = COVE_EXISTING});
        if (result == -ENOENT)
            continue;
        must(result, "open what was kept");
        must(cove_close(segment), "close what was kept");
        (void)judge_kept(name, worker);
    }
}

static void judge(uint32_t seat, uint64_t seed)
{
    (void)seed;
    struct worker worker = {.seat = &ledger->seats[seat]};
    begin_doing(&worker, DOING_JUDGE);
    must(cove_gc(0, NULL, NULL), "gc in the end");
    if (must(cove_gc(1, NULL, NULL), "gc once more") != 0)
        fault("gc leaves something to be cleared up");
    must(cove_segments(judge_kept, &worker), "list what was kept");
    if (storm_place == IN_FILE)
        judge_files(&worker);
    end_doing(&worker, DOING_JUDGE);
    exit(0);
}

/* ---- */

#define MUST_HIT 2000 /* of so many kills some meet each moment, on one processor too, or they are not aimed */

static bool print_hits(uint64_t killed, const uint64_t hits[MOMENTS], uint64_t took_ns)
{
    bool all = true;
    printf("storm of comings and goings: %llu kills in %llu ms;", (unsigned long long)killed,
           (unsigned long long)(took_ns / 1000000u));
    for (size_t i = 0; i < MOMENTS; i++) {
        printf(" %llu inside %s%s", (unsigned long long)hits[i], doing_name(moments[i]), i + 1 < MOMENTS ? "," : "\n");
        all = all && hits[i] > 0;
    }
    print_done("storm of comings and goings", moments, MOMENTS);
    return all || killed < MUST_HIT;
}

bool lifecycle_storm(const struct plan *plan, uint64_t *killed)
{
    uint64_t begun = now_ns();
    enum { CREW = 4 };
    pid_t pids[CREW] = {0};
    uint64_t random = plan->seed ^ 0x11feu, hits[MOMENTS] = {0}, count = 0;
    uint64_t deadline = now_ns() + plan->seconds * UINT64_C(1000000000);
    bool good = true;
    atomic_store(&ledger->stop, false);
    for (; good && count < plan->kills && now_ns() < deadline; count++) {
        for (uint32_t i = 0; i < CREW; i++)
            if (pids[i] == 0)
                pids[i] = start(come_and_go, i, next_random(&random));
        uint32_t seat = (uint32_t)below(&random, CREW);
        size_t moment = (size_t)below(&random, MOMENTS);
        good = kill_in(&pids[seat], seat, moments[moment], &random, &hits[moment]) && atomic_load(&ledger->faulty) == 0;
    }
    atomic_store(&ledger->stop, true);
    for (uint32_t i = 0; i < CREW; i++)
        if (pids[i] > 0)
            good = await_child(pids[i], i) == 0 && good;
    good = good && await_child(start(judge, WORKERS, 0), WORKERS) == 0 && directory_empty() && !memory_left();
    good = print_hits(count, hits, now_ns() - begun) && good;
    *killed += count;
    return good && atomic_load(&ledger->faulty) == 0;
}
