/* actors.h - for tests of locks and meeting points: others that wait, in threads or processes of their own.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef ACTORS_H
#define ACTORS_H

#include "unit.h"

#include "os/os.h"
#include "segment/segment.h"

#include <sched.h>
#include <signal.h>

/* Somebody else: a thread of this process, or a process. What he is given lies in testing_shared() memory. */
struct actor {
    bool process;
    pid_t pid;
    pthread_t thread;
    struct actor_part {
        void (*play)(cove_segment *segment, void *argument);
        void *argument;
        cove_segment *segment; /* the parent's */
        _Atomic int32_t thread_id;
    } * part; /* in shared memory, as the actor's own stack is not */
};

static inline void *actor_thread(void *argument)
{
    struct actor_part *part = argument;
    atomic_store(&part->thread_id, covei_os_native.thread_id());
    part->play(part->segment, part->argument);
    return NULL;
}

static inline void actor_process(void *argument)
{
    struct actor_part *part = argument;
    atomic_store(&part->thread_id, covei_os_native.thread_id());
    unit_drop_inherited(part->segment);
    cove_segment *segment = unit_open("t");
    part->play(segment, part->argument);
    unit_close(segment);
}

/* Runs `play` with a handle of the segment "t". */
static inline struct actor actor_start(bool process, cove_segment *segment, void (*play)(cove_segment *, void *),
                                       void *argument)
{
    struct actor actor = {.process = process, .part = testing_shared(sizeof *actor.part)};
    actor.part->play = play;
    actor.part->argument = argument;
    actor.part->segment = segment;
    if (process)
        actor.pid = testing_spawn(actor_process, actor.part);
    else
        actor.thread = unit_thread(actor_thread, actor.part);
    return actor;
}

static inline void actor_join(const struct actor *actor)
{
    if (actor->process)
        testing_join(actor->pid);
    else
        unit_thread_join(actor->thread);
}

static inline void actors_join(const struct actor *actors, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        actor_join(&actors[i]);
}

/* A process that ended, and is still to be waited for. */
static inline bool actor_ended(const struct actor *actor)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)actor->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0;
}

/* Stopped by SIGSTOP, and known to be. */
static inline void actor_stop(const struct actor *actor)
{
    int status = 0;
    assert_int_equal(kill(actor->pid, SIGSTOP), 0);
    assert_int_equal(waitpid(actor->pid, &status, WUNTRACED), actor->pid);
    assert_true(WIFSTOPPED(status));
}

static inline void actor_continue(const struct actor *actor)
{
    assert_int_equal(kill(actor->pid, SIGCONT), 0);
}

/* ---- who waits */

/* Lanes that say that they wait for the thing at that address. */
static inline unsigned actors_waiting(cove_segment *segment, const void *thing)
{
    unsigned count = 0;
    uint32_t ready = atomic_load(&segment->header->lanes_ready);
    for (uint32_t i = 0; i < ready; i++) {
        uint64_t waits_for = atomic_load(&segment->lanes[i].waits_for);
        count += waits_for != 0 && COVEI_HELD_OFFSET(waits_for) == covei_offset(segment, thing);
    }
    return count;
}
#define UNTIL_WAITING(segment, thing, count) UNTIL(actors_waiting((segment), (thing)) == (count), 20000)

/* Is that thread of that process asleep in the kernel? */
static inline bool actor_sleeps(const struct actor *actor)
{
    int32_t id = atomic_load(&actor->part->thread_id);
    char path[64], text[256] = "";
    (void)snprintf(path, sizeof path, "/proc/%d/task/%d/stat", actor->process ? (int)actor->pid : (int)getpid(),
                   (int)id);
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    size_t got = fread(text, 1, sizeof text - 1, file);
    (void)fclose(file);
    const char *state = got > 0 ? strrchr(text, ')') : NULL;
    return state && state[2] == 'S';
}

/* ---- sleep without slices: a wake-up that is lost is waited for, not slept through */

#define ACTORS_SLICE_NS (20 * UNIT_S)

static inline int actors_park_any(const struct covei_park *parks, uint32_t count, int64_t timeout_ns)
{
    (void)timeout_ns;
    return covei_os_native.park_any(parks, count, ACTORS_SLICE_NS);
}

static inline int actors_park(void *word, uint32_t expected, int64_t timeout_ns)
{
    (void)timeout_ns;
    return covei_os_native.park(word, expected, ACTORS_SLICE_NS);
}

/* From here on, in this process and those that it forks, no wait without a wake-up ends within 20 s. */
static inline void actors_never_look(void)
{
    static struct covei_os calls;
    calls = covei_os_native;
    calls.park = actors_park;
    calls.park_any = actors_park_any;
    covei_os = &calls;
}

/* ---- time */

/* What a death or an interrupt may take to be noticed, on a machine that does other things as well: 10 ms are promised, and
 * slices of sleep are as long as 250. */
#define ACTORS_LONG_NS (1600 * UNIT_MS) /* a wait after which slices are long */

static inline int64_t actors_soon(void)
{
    return (int64_t)((double)(100 * UNIT_MS) * testing_scale());
}

static inline int64_t actors_ms(int64_t since_ns)
{
    return (unit_now() - since_ns) / UNIT_MS;
}

/* Run this thread on one processor, so that two with different numbers run at the same time, where there are two. */
static inline void actors_pin(unsigned number)
{
    cpu_set_t all, one;
    CPU_ZERO(&one);
    if (sched_getaffinity(0, sizeof all, &all) != 0 || CPU_COUNT(&all) == 0)
        return;
    unsigned skipped = number % (unsigned)CPU_COUNT(&all);
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &all) && skipped-- == 0) {
            CPU_SET(cpu, &one);
            (void)sched_setaffinity(0, sizeof one, &one);
            return;
        }
}

/* This thread's time on processors. */
static inline int64_t actors_cpu_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * UNIT_S + now.tv_nsec;
}

/* A pause that is part of what is tested: a timeout that passes, somebody who holds a lock for long. */
static inline void actors_pass(int64_t duration_ns)
{
    int64_t until = unit_now() + duration_ns;
    for (int64_t left = duration_ns; left > 0; left = until - unit_now()) {
        struct timespec pause = {(time_t)(left / UNIT_S), (long)(left % UNIT_S)};
        (void)nanosleep(&pause, NULL);
    }
}

#endif
