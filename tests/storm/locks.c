/* locks.c - storms of locks that are held: the fair mutex, the rwlock, owned permits of a semaphore.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "hall.h"

#include <errno.h>
#include <sched.h>

/* ---- the fair mutex: what it guards is even, and those who wait are served in the order in which they came */

#define CLEARLY_NS 20000000 /* before somebody else: longer than a free lock may lie before the next one passes */

enum { SERVED, PASSED };

/* Called with the lock: is there one who came long before us, waits still, and could have taken it? */
static void look_for_passed(uint32_t seat, uint64_t came_ns)
{
    for (uint32_t i = 0; i < WORKERS; i++) {
        uint64_t other_ns = atomic_load(&ledger->hall.came_ns[i]);
        if (i == seat || other_ns == 0 || other_ns + CLEARLY_NS > came_ns)
            continue;
        if (runs(atomic_load(&ledger->hall.pid[i])) && atomic_load(&ledger->hall.came_ns[i]) == other_ns)
            count_up(PASSED);
    }
}

static void use_turn(struct worker *worker, struct hall *hall)
{
    check_pair(&hall->turns, "under the fair lock");
    if (one_in(&worker->random, 2)) {
        unlock(worker, &hall->fair);
        return;
    }
    must(cove_begin(worker->segment), "begin");
    must(cove_mutex_lock(worker->segment, &hall->fair, COVE_NOWAIT) == -EDEADLK ? 0 : -1, "a lock of mine, again");
    change_pair(worker, &hall->turns);
    must(one_in(&worker->random, 8) ? cove_abort(worker->segment) : cove_commit(worker->segment), "end it");
    unlock(worker, &hall->fair); /* it was taken before */
}

static void fair_step(struct worker *worker, struct hall *hall, uint32_t seat)
{
    int64_t patience = some_patience(worker);
    uint64_t came_ns = now_ns();
    begin_doing(worker, DOING_HOLD);
    if (patience == COVE_FOREVER)
        atomic_store(&ledger->hall.came_ns[seat], came_ns);
    int result = cove_mutex_lock(worker->segment, &hall->fair, patience);
    atomic_store(&ledger->hall.came_ns[seat], 0);
    if (got_it(result, "take the fair lock")) {
        count_up(SERVED);
        if (patience == COVE_FOREVER)
            look_for_passed(seat, came_ns);
        use_turn(worker, hall);
    }
    end_doing(worker, DOING_HOLD);
}

static void fair_judge(struct worker *worker, struct hall *hall)
{
    must(cove_mutex_lock(worker->segment, &hall->fair, COVE_NOWAIT), "the fair lock in the end");
    check_pair(&hall->turns, "in the end");
    unlock(worker, &hall->fair);
    uint64_t served = atomic_load(&ledger->hall.tally[SERVED]), passed = atomic_load(&ledger->hall.tally[PASSED]);
    if (storm_place == IN_FILE)
        return; /* nobody queues at the gate of one that is copied */
    if (passed > 20 && passed > served / 100)
        fault("%llu of %llu were served before one who had come more than %d ms earlier", (unsigned long long)passed,
              (unsigned long long)served, CLEARLY_NS / 1000000);
}

bool fair_storm(const struct plan *plan, uint64_t *killed)
{
    static const struct hall_storm storm = {
        .name = "fair", .step = fair_step, .judge = fair_judge, .told = {"served", "passed"}};
    return hall_storm_run(&storm, plan, killed) && atomic_load(&ledger->hall.tally[SERVED]) > 0;
}

/* ---- the rwlock: no reader sees half a change, or a writer beside him */

enum { READ, READ_TWICE, WRITTEN, UNDONE, ALONE };

static void check_books(const struct hall *hall, const char *where)
{
    check_pair(&hall->books, where);
    if (hall->writer != 0)
        fault("%s: worker %llu is writing", where, (unsigned long long)hall->writer - 1);
}

static void read_books(struct worker *worker, struct hall *hall)
{
    if (!got_it(cove_rwlock_lock_shared(worker->segment, &hall->rwlock, some_patience(worker)), "lock to read"))
        return;
    int64_t left = hall->books.left;
    check_books(hall, "reading");
    bool again = one_in(&worker->random, 8);
    if (again)
        must(cove_rwlock_lock_shared(worker->segment, &hall->rwlock, COVE_FOREVER), "lock to read once more");
    if (one_in(&worker->random, 4))
        sched_yield();
    check_books(hall, "reading on");
    if (hall->books.left != left)
        fault("what is read under the lock changed from %lld to %lld", (long long)left, (long long)hall->books.left);
    must(cove_rwlock_unlock(worker->segment, &hall->rwlock), "unlock");
    if (again)
        must(cove_rwlock_unlock(worker->segment, &hall->rwlock), "unlock again");
    count_up(again ? READ_TWICE : READ);
}

static void change_books(struct worker *worker, struct hall *hall, uint32_t seat)
{
    must(cove_save(worker->segment, &hall->writer, sizeof hall->writer), "save the writer");
    hall->writer = seat + 1;
    change_pair(worker, &hall->books);
    hall->writer = 0;
}

static void write_books(struct worker *worker, struct hall *hall, uint32_t seat)
{
    must(cove_begin(worker->segment), "begin");
    if (got_it(cove_rwlock_lock(worker->segment, &hall->rwlock, some_patience(worker)), "lock to write")) {
        check_books(hall, "about to write");
        change_books(worker, hall, seat);
        if (one_in(&worker->random, 3)) /* two-phase: stays locked until the end */
            must(cove_rwlock_unlock(worker->segment, &hall->rwlock), "unlock early");
    }
    bool undo = one_in(&worker->random, 8);
    must(undo ? cove_abort(worker->segment) : cove_commit(worker->segment), "end it");
    count_up(undo ? UNDONE : WRITTEN);
}

static void write_alone(struct worker *worker, struct hall *hall)
{
    if (!got_it(cove_rwlock_lock(worker->segment, &hall->rwlock, some_patience(worker)), "lock to write"))
        return;
    check_books(hall, "alone");
    must(cove_rwlock_unlock(worker->segment, &hall->rwlock), "unlock");
    count_up(ALONE);
}

static void rwlock_step(struct worker *worker, struct hall *hall, uint32_t seat)
{
    uint64_t choice = below(&worker->random, 10);
    begin_doing(worker, DOING_HOLD);
    if (choice < 7)
        read_books(worker, hall);
    else if (choice < 9)
        write_books(worker, hall, seat);
    else
        write_alone(worker, hall);
    end_doing(worker, DOING_HOLD);
}

static void rwlock_judge(struct worker *worker, struct hall *hall)
{
    must(cove_rwlock_lock(worker->segment, &hall->rwlock, COVE_NOWAIT), "write lock in the end");
    check_books(hall, "in the end");
    must(cove_rwlock_unlock(worker->segment, &hall->rwlock), "unlock");
}

bool rwlock_storm(const struct plan *plan, uint64_t *killed)
{
    static const struct hall_storm storm = {.name = "rwlock",
                                            .step = rwlock_step,
                                            .judge = rwlock_judge,
                                            .told = {"read", "read twice", "written", "undone", "alone"}};
    return hall_storm_run(&storm, plan, killed) && atomic_load(&ledger->hall.tally[ALONE]) > 0;
}

/* ---- owned permits: never more inside than there are permits, and all are back in the end */

enum { CAME_IN, CROWDED };

/* Who is inside: twice the same, so all of them were at one moment between. False: it changed meanwhile. */
static bool see_inside(uint64_t seen[WORKERS])
{
    for (uint32_t i = 0; i < WORKERS; i++)
        seen[i] = atomic_load(&ledger->hall.inside[i]);
    for (uint32_t i = 0; i < WORKERS; i++)
        if (seen[i] != atomic_load(&ledger->hall.inside[i]))
            return false;
    return true;
}

/* Those who died inside do not count: their permits go to others at once. Who is seen to live afterwards lived then.
 */
static void count_inside(void)
{
    uint64_t seen[WORKERS];
    uint32_t inside = 0, living = 0;
    if (!see_inside(seen))
        return;
    for (uint32_t i = 0; i < WORKERS; i++)
        inside += seen[i] & 1;
    if (inside <= PERMITS)
        return;
    count_up(CROWDED);
    for (uint32_t i = 0; i < WORKERS; i++)
        living += seen[i] & 1 && lives(atomic_load(&ledger->hall.pid[i]));
    for (uint32_t i = 0; i < WORKERS; i++)
        if (atomic_load(&ledger->hall.inside[i]) != seen[i])
            return; /* the seat of a dead one was given away between */
    if (living > PERMITS)
        fault("%u processes have one of %d permits", living, PERMITS);
}

static void owned_begin(struct worker *worker, struct hall *hall, uint32_t seat)
{
    (void)worker, (void)hall;
    if (atomic_load(&ledger->hall.inside[seat]) & 1) /* the one before died inside */
        atomic_fetch_add(&ledger->hall.inside[seat], 1);
}

static void owned_step(struct worker *worker, struct hall *hall, uint32_t seat)
{
    begin_doing(worker, DOING_HOLD);
    if (got_it(cove_semaphore_acquire(worker->segment, &hall->owned, some_patience(worker)), "acquire")) {
        atomic_fetch_add(&ledger->hall.inside[seat], 1);
        if (one_in(&worker->random, 4))
            sched_yield();
        count_inside();
        count_up(CAME_IN);
        atomic_fetch_add(&ledger->hall.inside[seat], 1);
        must(cove_semaphore_release(worker->segment, &hall->owned), "release");
    }
    end_doing(worker, DOING_HOLD);
}

static void owned_judge(struct worker *worker, struct hall *hall)
{
    int64_t value = must(cove_semaphore_value(worker->segment, &hall->owned), "value");
    if (value != PERMITS)
        fault("%lld of %d permits are back in the end", (long long)value, PERMITS);
    for (int i = 0; i < PERMITS; i++)
        must(cove_semaphore_acquire(worker->segment, &hall->owned, COVE_NOWAIT), "a permit in the end");
    if (cove_semaphore_acquire(worker->segment, &hall->owned, COVE_NOWAIT) != -EBUSY)
        fault("there is a permit too many in the end");
    for (int i = 0; i < PERMITS; i++)
        must(cove_semaphore_release(worker->segment, &hall->owned), "give it back");
}

bool owned_storm(const struct plan *plan, uint64_t *killed)
{
    static const struct hall_storm storm = {.name = "owned",
                                            .begin = owned_begin,
                                            .step = owned_step,
                                            .judge = owned_judge,
                                            .told = {"came in", "looked twice, as dead ones were inside"}};
    return hall_storm_run(&storm, plan, killed) && atomic_load(&ledger->hall.tally[CAME_IN]) > 0;
}
