/* test_locks_model.c - random locks and transactions of one thread, against a model in plain memory.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The model says what each call returns, what is in the segment then, and what is really held. Another thread asks for
 * that after each step, by COVE_NOWAIT: a lock may well be held whose owner says that he has none, as he gave it back
 * in a transaction that is not over.
 * One of the two threads runs at a time, and no call waits: the same seed is the same run. A difference is told with
 * the seed, the step and the last operations. $COVE_MODEL_SEED adds one long run, for a soak. */
/* ctest: threads timeout=60 */
#include "durable.h"

#include <cove/once.h>
#include <cove/rwlock.h>
#include <cove/semaphore.h>

#define SEEDS 8u
#define STEPS 4000u
#define DURABLE_SEEDS 2u
#define DURABLE_STEPS 2000u
#define SOAK_STEPS 40000u

/* A thread can hold 32 locks: all of these at once, and every rwlock READS_DEEP times, must stay below that. */
#define MUTEXES 4u
#define FAIR 2u /* of the mutexes: the first ones */
#define RWLOCKS 3u
#define READS_DEEP 4u
#define ONCES 3u
#define PERMITS 3u

/* Places in a model's array of locks: a mutex, an rwlock's side for writing, or a once that is being done. */
enum { MUTEX = 0, WRITE = MUTEXES, ONCE = WRITE + RWLOCKS, LOCKS = ONCE + ONCES };

#define NUMBERS 8u
#define NESTED 3u
#define INSIDE 6u /* fewer operations than this in a function that cove_once_call calls */
#define STORY 40u /* the last operations, told with a difference */

struct world {
    cove_mutex mutexes[MUTEXES];
    cove_rwlock rwlocks[RWLOCKS];
    cove_once onces[ONCES];
    cove_semaphore permits;
    uint64_t numbers[NUMBERS];
};

struct lock_model {
    bool held; /* by the thread's own account */
    bool taken; /* nobody else gets it: held, or given back and kept until the transaction ends */
    bool stays; /* held since before the transaction, and so after it */
};

/* How often the thread reads under an rwlock. */
struct reads_model {
    unsigned now; /* taken inside the transaction; or all, where there is none */
    unsigned before; /* the transaction, and not given back since */
    unsigned kept; /* given back, and kept until it ends */
};

/* What a transaction that does not commit puts back. */
struct contents {
    uint64_t numbers[NUMBERS];
    bool done[ONCES];
};

struct model {
    struct lock_model locks[LOCKS];
    struct reads_model reads[RWLOCKS];
    unsigned permits;
    struct contents now, at_begin;
    unsigned depth; /* of transactions; a once's is one */
    unsigned functions; /* of onces, that run */
    bool saved; /* something in this transaction: what is given back is kept from then on */
};

struct event {
    const char *what;
    unsigned index;
    int result;
};

struct run {
    cove_segment *segment;
    struct world *world;
    struct model model;
    uint64_t seed, random;
    unsigned step;
    struct event story[STORY]; /* a ring */
    unsigned story_count;
    pthread_barrier_t turn; /* the asking thread's begins, and ends */
    int to_lock[LOCKS], to_read[RWLOCKS]; /* what it was told */
    int64_t permits_left;
    bool over;
};

static unsigned random_below(struct run *run, unsigned limit)
{
    return (unsigned)(unit_random(&run->random) >> 32) % limit;
}

/* ---- the model */

static bool holds_to_read(const struct model *model, unsigned index)
{
    return model->reads[index].now + model->reads[index].before > 0;
}

static void model_took(struct lock_model *lock)
{
    *lock = (struct lock_model){.held = true, .taken = true}; /* taken again inside, it does not stay */
}

static void model_gave_back(const struct model *model, struct lock_model *lock)
{
    *lock = (struct lock_model){.taken = model->saved};
}

static void model_begins(struct model *model)
{
    if (model->depth++ > 0)
        return;
    model->at_begin = model->now;
    for (unsigned i = 0; i < LOCKS; i++)
        model->locks[i].stays = model->locks[i].held;
    for (unsigned i = 0; i < RWLOCKS; i++)
        model->reads[i] = (struct reads_model){.before = model->reads[i].now};
}

/* The outermost. */
static void model_ends(struct model *model)
{
    model->depth = 0;
    model->saved = false;
    for (unsigned i = 0; i < LOCKS; i++) {
        bool stays = model->locks[i].stays;
        model->locks[i] = (struct lock_model){.held = stays, .taken = stays};
    }
    for (unsigned i = 0; i < RWLOCKS; i++)
        model->reads[i] = (struct reads_model){.now = model->reads[i].before};
}

/* What was saved is undone, and the transaction goes on: there is nothing left for which locks would be kept. */
static void model_lets_go(struct model *model)
{
    for (unsigned i = 0; i < LOCKS; i++)
        model->locks[i].taken = model->locks[i].held;
    for (unsigned i = 0; i < RWLOCKS; i++)
        model->reads[i].kept = 0;
}

/* ---- telling */

static void compare(const struct run *run, const char *what, unsigned index, int64_t expected, int64_t got)
{
    if (got == expected)
        return;
    const struct model *model = &run->model;
    print_error("seed %" PRIu64 ", step %u: %s %u: %" PRId64 " (%s), not %" PRId64 " (%s)\n", run->seed, run->step,
                what, index, got, cove_errname((int)got), expected, cove_errname((int)expected));
    print_error("depth %u, in %u functions, %s saved; the last operations:\n", model->depth, model->functions,
                model->saved ? "something" : "nothing");
    for (unsigned i = run->story_count > STORY ? run->story_count - STORY : 0; i < run->story_count; i++) {
        const struct event *event = &run->story[i % STORY];
        print_error("    %s %u = %d\n", event->what, event->index, event->result);
    }
    fail_msg("seed %" PRIu64 ": not as the model has it", run->seed);
}

/* A call of the thread's own: into the story, whatever it returned. */
static void expect(struct run *run, const char *what, unsigned index, int expected, int got)
{
    run->story[run->story_count++ % STORY] = (struct event){what, index, got};
    if (got < 0 && got != expected)
        print_error("%s\n", cove_last_error());
    compare(run, what, index, expected, got);
}

/* ---- asking */

static int refuse(void *context)
{
    (void)context;
    return -ECANCELED;
}

static void ask_all(struct run *run)
{
    cove_segment *segment = run->segment;
    struct world *world = run->world;
    int *to_lock = run->to_lock, *to_read = run->to_read;
    for (unsigned i = 0; i < MUTEXES; i++) {
        to_lock[MUTEX + i] = cove_mutex_lock(segment, &world->mutexes[i], COVE_NOWAIT);
        if (to_lock[MUTEX + i] >= 0)
            EXPECT(0, cove_mutex_unlock(segment, &world->mutexes[i]));
    }
    for (unsigned i = 0; i < RWLOCKS; i++) {
        to_lock[WRITE + i] = cove_rwlock_lock(segment, &world->rwlocks[i], COVE_NOWAIT);
        if (to_lock[WRITE + i] >= 0)
            EXPECT(0, cove_rwlock_unlock(segment, &world->rwlocks[i]));
        to_read[i] = cove_rwlock_lock_shared(segment, &world->rwlocks[i], COVE_NOWAIT);
        if (to_read[i] >= 0)
            EXPECT(0, cove_rwlock_unlock(segment, &world->rwlocks[i]));
    }
    for (unsigned i = 0; i < ONCES; i++)
        to_lock[ONCE + i] = cove_once_call(segment, &world->onces[i], refuse, NULL, COVE_NOWAIT);
    run->permits_left = cove_semaphore_value(segment, &world->permits);
}

static void *asking_thread(void *argument)
{
    struct run *run = argument;
    for (;;) {
        (void)pthread_barrier_wait(&run->turn);
        if (run->over)
            return NULL;
        ask_all(run);
        (void)pthread_barrier_wait(&run->turn);
    }
}

static void compare_all(struct run *run)
{
    (void)pthread_barrier_wait(&run->turn);
    (void)pthread_barrier_wait(&run->turn);
    const struct model *model = &run->model;
    const struct lock_model *locks = model->locks;
    for (unsigned i = 0; i < MUTEXES; i++)
        compare(run, "another thread locks mutex", i, locks[MUTEX + i].taken ? -EBUSY : 0, run->to_lock[MUTEX + i]);
    for (unsigned i = 0; i < RWLOCKS; i++) {
        bool written = locks[WRITE + i].taken, read = holds_to_read(model, i) || model->reads[i].kept > 0;
        compare(run, "another thread writes under rwlock", i, written || read ? -EBUSY : 0, run->to_lock[WRITE + i]);
        compare(run, "another thread reads under rwlock", i, written ? -EBUSY : 0, run->to_read[i]);
    }
    for (unsigned i = 0; i < ONCES; i++) {
        int free = model->now.done[i] ? 0 : -ECANCELED;
        compare(run, "another thread calls once", i, locks[ONCE + i].taken ? -EBUSY : free, run->to_lock[ONCE + i]);
        compare(run, "done of once", i, model->now.done[i], (int64_t)run->world->onces[i].done);
    }
    for (unsigned i = 0; i < NUMBERS; i++)
        compare(run, "number", i, (int64_t)model->now.numbers[i], (int64_t)run->world->numbers[i]);
    compare(run, "permits left of semaphore", 0, PERMITS - model->permits, run->permits_left);
}

/* ---- operations: locks */

static void lock_mutex(struct run *run, unsigned i)
{
    struct lock_model *lock = &run->model.locks[MUTEX + i];
    expect(run, "lock mutex", i, lock->held ? -EDEADLK : 0,
           cove_mutex_lock(run->segment, &run->world->mutexes[i], COVE_NOWAIT));
    if (!lock->held)
        model_took(lock);
}

static void unlock_mutex(struct run *run, unsigned i)
{
    struct lock_model *lock = &run->model.locks[MUTEX + i];
    expect(run, "unlock mutex", i, lock->held ? 0 : -EPERM, cove_mutex_unlock(run->segment, &run->world->mutexes[i]));
    if (lock->held)
        model_gave_back(&run->model, lock);
}

static void lock_to_write(struct run *run, unsigned i)
{
    struct lock_model *lock = &run->model.locks[WRITE + i];
    bool holds = lock->held || holds_to_read(&run->model, i);
    expect(run, "write-lock rwlock", i, holds ? -EDEADLK : 0,
           cove_rwlock_lock(run->segment, &run->world->rwlocks[i], COVE_NOWAIT));
    if (!holds)
        model_took(lock);
}

static void lock_to_read(struct run *run, unsigned i)
{
    const struct lock_model *lock = &run->model.locks[WRITE + i];
    struct reads_model *reads = &run->model.reads[i];
    if (reads->now + reads->before >= READS_DEEP && reads->kept == 0)
        return;
    expect(run, "read-lock rwlock", i, lock->held ? -EDEADLK : 0,
           cove_rwlock_lock_shared(run->segment, &run->world->rwlocks[i], COVE_NOWAIT));
    if (!lock->held) {
        reads->now++;
        reads->kept -= reads->kept > 0; /* one that was given back is simply taken up again */
    }
}

static void unlock_rwlock(struct run *run, unsigned i)
{
    struct lock_model *lock = &run->model.locks[WRITE + i];
    struct reads_model *reads = &run->model.reads[i];
    bool holds = lock->held || holds_to_read(&run->model, i);
    expect(run, "unlock rwlock", i, holds ? 0 : -EPERM, cove_rwlock_unlock(run->segment, &run->world->rwlocks[i]));
    if (lock->held)
        model_gave_back(&run->model, lock);
    else if (holds) {
        --*(reads->now > 0 ? &reads->now : &reads->before);
        reads->kept += run->model.saved;
    }
}

/* (Transactions do not matter to them.) */
static void use_permit(struct run *run, unsigned acquire)
{
    unsigned *permits = &run->model.permits;
    cove_semaphore *semaphore = &run->world->permits;
    bool good = acquire ? *permits < PERMITS : *permits > 0;
    if (acquire)
        expect(run, "acquire one more than", *permits, good ? 0 : -EBUSY,
               cove_semaphore_acquire(run->segment, semaphore, COVE_NOWAIT));
    else
        expect(run, "release one of", *permits, good ? 0 : -EPERM, cove_semaphore_release(run->segment, semaphore));
    if (good)
        *permits += acquire ? 1u : -1u;
}

/* ---- operations: transactions */

static void begin(struct run *run, unsigned unused)
{
    (void)unused;
    struct model *model = &run->model;
    if (model->depth == NESTED || model->functions > 0) /* what a function begins it must end; these end nothing */
        return;
    expect(run, "begin at depth", model->depth, 0, cove_begin(run->segment));
    model_begins(model);
}

static void save(struct run *run, unsigned i)
{
    uint64_t *number = &run->world->numbers[i];
    bool inside = run->model.depth > 0;
    expect(run, "save number", i, inside ? 0 : -EINVAL, cove_save(run->segment, number, sizeof *number));
    if (!inside)
        return;
    run->model.saved = true;
    *number = run->model.now.numbers[i] = random_below(run, 1000);
}

static void end(struct run *run, unsigned commits)
{
    struct model *model = &run->model;
    int expected = model->functions > 0 ? -EBUSY : model->depth > 0 ? 0 : -EINVAL;
    expect(run, commits ? "commit at depth" : "abort at depth", model->depth, expected,
           commits ? cove_commit(run->segment) : cove_abort(run->segment));
    if (expected < 0 || (commits && --model->depth > 0))
        return;
    if (!commits)
        model->now = model->at_begin;
    model_ends(model);
}

/* ---- operations: a once, with operations inside */

static void operate(struct run *run);

struct function {
    struct run *run;
    bool fails;
};

static int initialise(void *context)
{
    struct function *function = context;
    for (unsigned left = random_below(function->run, INSIDE); left > 0; left--)
        operate(function->run);
    return function->fails ? -EIO : 0;
}

static void do_once(struct run *run, unsigned i)
{
    struct model *model = &run->model;
    struct function function = {run, random_below(run, 2) == 0};
    struct contents contents = model->now;
    bool own = model->depth == 0, saved = model->saved;
    model_begins(model);
    model_took(&model->locks[ONCE + i]);
    model->functions++;
    expect(run, function.fails ? "once, to fail:" : "once, to succeed:", i, 0, 0);
    int result = cove_once_call(run->segment, &run->world->onces[i], initialise, &function, COVE_NOWAIT);
    expect(run, "once", i, function.fails ? -EIO : COVE_CREATED, result);
    model->functions--;
    model->depth--;
    if (function.fails) {
        model->now = contents;
        model->saved = saved;
    } else {
        model->now.done[i] = true;
        model->saved = true; /* that it is done */
    }
    model_gave_back(model, &model->locks[ONCE + i]);
    if (own)
        model_ends(model);
    else if (!model->saved)
        model_lets_go(model);
}

static void call_once(struct run *run, unsigned i)
{
    struct model *model = &run->model;
    cove_once *once = &run->world->onces[i];
    bool runs = model->locks[ONCE + i].held;
    if (runs || model->now.done[i])
        expect(run, runs ? "once that runs" : "once that is done", i, runs ? -EDEADLK : 0,
               cove_once_call(run->segment, once, refuse, NULL, COVE_NOWAIT));
    else
        do_once(run, i);
}

/* As if it had been made anew: so that there always is something to do. */
static void forget_once(struct run *run, unsigned i)
{
    if (run->model.depth > 0 || !run->model.now.done[i])
        return;
    expect(run, "forget once", i, 0, 0);
    run->world->onces[i] = (cove_once){0};
    run->model.now.done[i] = false;
}

/* ---- runs */

static void operate(struct run *run)
{
    static const struct {
        void (*operation)(struct run *run, unsigned index);
        unsigned choices;
    } table[] = {
        {lock_mutex, MUTEXES},
        {unlock_mutex, MUTEXES},
        {lock_to_write, RWLOCKS},
        {lock_to_read, RWLOCKS},
        {unlock_rwlock, RWLOCKS}, /* twice, as there are two ways to lock it */
        {unlock_rwlock, RWLOCKS},
        {use_permit, 2},
        {begin, 1},
        {save, NUMBERS},
        {end, 2},
        {call_once, ONCES},
        {forget_once, ONCES},
    };
    unsigned row = random_below(run, sizeof table / sizeof table[0]);
    table[row].operation(run, random_below(run, table[row].choices));
    compare_all(run);
}

/* Give back what is held still, and see that others find all of it free. */
static void give_all_back(struct run *run)
{
    struct model *model = &run->model;
    if (model->depth > 0)
        end(run, 0);
    for (unsigned i = 0; i < MUTEXES; i++)
        if (model->locks[MUTEX + i].held)
            unlock_mutex(run, i);
    for (unsigned i = 0; i < RWLOCKS; i++)
        while (model->locks[WRITE + i].held || holds_to_read(model, i))
            unlock_rwlock(run, i);
    while (model->permits > 0)
        use_permit(run, 0);
    compare_all(run);
}

static void run_seed(const char *name, uint64_t seed, unsigned steps)
{
    /* An odd factor: no seed but the last makes a 0, from which the generator would not come away. */
    struct run run = {.seed = seed, .random = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15)};
    run.segment = unit_open(name);
    run.world = unit_object(run.segment, "world", sizeof(struct world));
    for (unsigned i = 0; i < FAIR; i++)
        run.world->mutexes[i] = (cove_mutex)COVE_MUTEX_FAIR;
    EXPECT(0, cove_semaphore_post(run.segment, &run.world->permits, PERMITS));
    assert_int_equal(pthread_barrier_init(&run.turn, NULL, 2), 0);
    pthread_t asking = unit_thread(asking_thread, &run);
    for (run.step = 0; run.step < steps; run.step++)
        operate(&run);
    give_all_back(&run);
    run.over = true;
    (void)pthread_barrier_wait(&run.turn);
    unit_thread_join(asking);
    assert_int_equal(pthread_barrier_destroy(&run.turn), 0);
    unit_sound(run.segment);
    unit_close(run.segment);
    unit_remove(name);
}

static void test_locks_at_random_go_by_the_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        run_seed("t", seed, STEPS);
    const char *more = getenv("COVE_MODEL_SEED");
    if (more)
        run_seed("t", strtoull(more, NULL, 0), SOAK_STEPS);
}

/* There readers pass a gate, and the owners of permits. */
static void test_locks_at_random_in_a_durable_segment_go_by_the_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= DURABLE_SEEDS; seed++)
        run_seed(durable_name("t"), seed, DURABLE_STEPS);
}

static const struct testing_case tests[] = {
    TEST_TIMEOUT(test_locks_at_random_go_by_the_model, 30),
    TEST_TIMEOUT(test_locks_at_random_in_a_durable_segment_go_by_the_model, 30),
};

int main(void)
{
    return testing_run("locks_model", tests);
}
