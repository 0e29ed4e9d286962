/* process_stopped.c - a process that is stopped (SIGSTOP) in the middle of anything is alive: nothing is taken from
 * it.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Each deed is done by a process that is stopped after a number of its instructions, evenly spread over it.
 * Meanwhile
 *   - whoever wants a lock that it has is told in a sentence who has it, when his time is over; other locks are
 *     free;
 *   - it counts as alive to everybody who looks, and recovery and gc find nothing to do;
 *   - what has no timeout waits. After SIGCONT all go on, nobody is told of a recovery, and the segment is sound. */
/* ctest: timeout=120 */
#include "process.h"

#include "../kill/stepper.h"
#include "object/directory.h"
#include "segment/segment.h"

#include <fcntl.h>
#include <sys/ptrace.h>
#include <sys/time.h>

#define SHORT_NS (15 * UNIT_MS)

struct deed {
    const char *name;
    void (*prepare)(cove_segment *segment, struct bank *bank);
    void (*act)(cove_segment *segment, struct bank *bank);
};

static size_t points = 6; /* of each deed; $COVE_FAULT_POINTS */
static cove_segment *inherited;
static cove_segment *opened; /* by a deed */
static cove_stream *stream;
static int gift; /* what a stream carries */

/* Few rows and lanes, so that a walk over them is a few instructions, and the points lie elsewhere too. */
static cove_segment *open_small(const char *name)
{
    return unit_open_as(name, &(struct cove_options){.max_members = 8, .timeout_ns = 60 * UNIT_S});
}

/* ---- deeds */

static void prepare_nothing(cove_segment *segment, struct bank *bank)
{
    (void)segment;
    (void)bank;
}

static void act_lock(cove_segment *segment, struct bank *bank)
{
    (void)EXPECT_GOOD(cove_mutex_lock(segment, &bank->lock[0], COVE_FOREVER));
    EXPECT(0, cove_mutex_unlock(segment, &bank->lock[0]));
}

static void act_allocate(cove_segment *segment, struct bank *bank)
{
    (void)EXPECT_GOOD(cove_mutex_lock(segment, &bank->lock[0], COVE_FOREVER));
    EXPECT(0, cove_alloc_into(segment, &bank->ref, 3000));
    EXPECT(0, cove_free_from(segment, &bank->ref));
    EXPECT(0, cove_mutex_unlock(segment, &bank->lock[0]));
}

/* So much memory taken (until it closes) that what comes next must grow the segment. */
static void prepare_grow(cove_segment *segment, struct bank *bank)
{
    (void)bank;
    for (uint64_t free_bytes; (free_bytes = unit_free_bytes(segment)) > 60000;)
        assert_true(cove_alloc(segment, free_bytes / 2) != 0);
}

static void act_grow(cove_segment *segment, struct bank *bank)
{
    (void)bank;
    cove_ref ref = cove_alloc(segment, 100000);
    assert_true(ref != 0);
    EXPECT(0, cove_free(segment, ref));
}

static void act_object(cove_segment *segment, struct bank *bank)
{
    (void)bank;
    (void)unit_object(segment, "short-lived", 5000);
    EXPECT(0, cove_object_remove(segment, "short-lived"));
}

static void act_stream(cove_segment *segment, struct bank *bank)
{
    (void)bank;
    EXPECT_GOOD(cove_stream_open_in(&stream, segment, "stream", COVE_WRITER, NULL));
    EXPECT(sizeof gift, cove_stream_write(stream, &gift, sizeof gift, COVE_FOREVER));
    EXPECT(0, cove_stream_close(stream));
}

/* One that leaves, and comes again. */
static void act_rejoin(cove_segment *segment, struct bank *bank)
{
    (void)bank;
    EXPECT(0, cove_close(segment));
    opened = unit_open("t");
}

static void act_create(cove_segment *segment, struct bank *bank)
{
    (void)segment;
    (void)bank;
    cove_segment *fresh = open_small("fresh");
    unit_close(fresh);
    int result = cove_unlink("fresh", 1);
    if (result != -ENOENT) /* a worker may have removed it */
        EXPECT_WAS(0, result);
}

/* Somebody who died in the middle of a transfer is to be recovered. */
static void die_in_a_transfer(void *argument)
{
    (void)argument;
    (void)cove_close(inherited);
    cove_segment *segment = unit_open("t");
    bank_begin(segment, bank_open(segment));
    assert_true(cove_alloc(segment, 4000) != 0);
    _exit(0);
}

static void act_recover(cove_segment *segment, struct bank *bank)
{
    (void)bank;
    (void)EXPECT_GOOD(cove_recover(segment));
}

static const struct deed deeds[] = {
    {"lock", prepare_nothing, act_lock},         {"transfer", prepare_nothing, bank_transfer},
    {"allocate", prepare_nothing, act_allocate}, {"grow", prepare_grow, act_grow},
    {"object", prepare_nothing, act_object},     {"stream", prepare_nothing, act_stream},
    {"rejoin", prepare_nothing, act_rejoin},     {"create", prepare_nothing, act_create},
};

/* ---- the process that is stopped */

static int victim(void *argument)
{
    const struct deed *deed = argument;
    (void)cove_close(inherited);
    opened = unit_open("t");
    struct bank *bank = bank_open(opened);
    deed->prepare(opened, bank);
    stepper_mark_begin();
    deed->act(opened, bank);
    stepper_mark_end();
    unit_close(opened);
    return 0;
}

/* stepper.c leaves an alarm that repeats. */
static void stop_alarm(void)
{
    (void)setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL);
}

static struct stepper start(const struct deed *deed)
{
    struct stepper stepper = {0};
    enum stepper_outcome outcome = stepper_start(&stepper, victim, (void *)(uintptr_t)deed, 10 * unit_patience());
    if (outcome == STEPPER_REFUSED)
        testing_skip("this machine lets nobody trace his children");
    assert_int_equal(outcome, STEPPER_AT_POINT);
    return stepper;
}

static void record(const struct deed *deed, struct stepper_trace *trace)
{
    struct stepper stepper = start(deed);
    assert_int_equal(stepper_record(&stepper, trace, NULL), STEPPER_AT_END);
    assert_int_equal(stepper_finish(&stepper), 0);
    stop_alarm();
}

/* Let the deed go to point k, and stop it there as SIGSTOP does, without a tracer. Its pid. */
static pid_t start_and_stop(const struct deed *deed, const struct stepper_trace *trace, size_t k)
{
    struct stepper stepper = start(deed);
    enum stepper_outcome outcome = stepper_run_to(&stepper, trace, k);
    if (outcome != STEPPER_AT_POINT)
        fail_msg("%s: point %zu of %zu was not reached", deed->name, k, trace->count);
    assert_int_equal(ptrace(PTRACE_DETACH, stepper.tid, NULL, (long)SIGSTOP), 0);
    int status = 0;
    stop_alarm();
    assert_int_equal(waitpid(stepper.pid, &status, WUNTRACED), stepper.pid);
    assert_true(WIFSTOPPED(status));
    return stepper.pid;
}

static void let_go_on(pid_t pid)
{
    assert_int_equal(kill(pid, SIGCONT), 0);
    testing_join(pid);
}

/* ---- the others */

static pid_t worker; /* who does everything meanwhile, and may wait for the stopped one with a lock in its hand */

/* A lock that the stopped one may have: held now, or told who has it. */
static bool try_lock(cove_segment *segment, cove_mutex *mutex, pid_t stopped)
{
    int result = cove_mutex_lock(segment, mutex, SHORT_NS);
    if (result != -ETIMEDOUT)
        EXPECT_WAS(0, result); /* not COVE_RECOVERED: nothing was taken from the living */
    else if (!strstr(cove_last_error(), pid_phrase(worker)))
        unit_expect_says("cove_mutex_lock", pid_phrase(stopped), __FILE__, __LINE__);
    return result == 0;
}

static void look(cove_segment *segment, struct bank *bank, pid_t stopped)
{
    if (try_lock(segment, &bank->lock[0], stopped)) {
        if (try_lock(segment, &bank->lock[1], stopped)) {
            assert_int_equal(bank->cents[0] + bank->cents[1], 2 * BANK_CENTS);
            EXPECT(0, cove_mutex_unlock(segment, &bank->lock[1]));
        }
        EXPECT(0, cove_mutex_unlock(segment, &bank->lock[0]));
    }
    EXPECT(0, cove_mutex_lock(segment, &bank->lock[2], COVE_NOWAIT)); /* it has nothing to do with this one */
    EXPECT(0, cove_mutex_unlock(segment, &bank->lock[2]));
    struct cove_member_info members[8];
    int64_t count = cove_segment_members(segment, members, 8);
    assert_in_range(count, 1, 3); /* the worker among them; who is just leaving or joining is one or none */
    for (int64_t i = 0; i < count; i++)
        assert_int_equal(members[i].alive, 1);
    EXPECT(0, cove_recover(segment));
    EXPECT(0, cove_gc(0, NULL, NULL));
}

/* Everything that waits for the stopped one, if it must. */
static void work(void *argument)
{
    (void)argument;
    (void)cove_close(inherited);
    cove_segment *segment = open_small("t");
    struct bank *bank = bank_open(segment);
    bank_transfer(segment, bank);
    act_allocate(segment, bank);
    (void)unit_object(segment, "worker", 100);
    EXPECT(0, cove_object_remove(segment, "worker"));
    unit_close(segment);
    segment = open_small("fresh");
    unit_close(segment);
    int result = cove_unlink("fresh", 1);
    if (result != -ENOENT)
        EXPECT_WAS(0, result);
}

static void stop_at(const struct deed *deed, const struct stepper_trace *trace, size_t k, struct bank *bank)
{
    pid_t pid = start_and_stop(deed, trace, k);
    worker = testing_spawn(work, NULL);
    look(inherited, bank, pid);
    let_go_on(pid);
    testing_join(worker);
    bank_audit(inherited, bank, 0);
}

static void test_stopped_anywhere_is_alive(void **state)
{
    (void)state;
    if (UNIT_SANITIZED)
        testing_skip("sanitized programs take another number of instructions each time, and points are numbers");
    inherited = open_small("t");
    struct bank *bank = bank_make(inherited);
    EXPECT(COVE_CREATED, cove_stream_open_in(&stream, inherited, "stream", COVE_READER, NULL));
    uint64_t blocks = unit_stat(inherited).heap_block_count;
    for (size_t i = 0; i < sizeof deeds / sizeof *deeds; i++) {
        struct stepper_trace trace = {0};
        record(&deeds[i], &trace);
        for (size_t n = 0; n < points; n++)
            stop_at(&deeds[i], &trace, trace.count * (2 * n + 1) / (2 * points), bank);
        assert_alone(inherited, unit_free_bytes(inherited));
        assert_int_equal(unit_stat(inherited).heap_block_count, blocks);
        stepper_trace_free(&trace);
    }
    unit_close(inherited);
    unit_remove("t");
    assert_false(unit_exists("fresh"));
}

/* ---- a stopped recoverer: what it recovers waits for it, and nobody recovers it twice */

static const struct deed recovery = {"recover", prepare_nothing, act_recover};

static void test_stopped_recoverer_holds_up_only_what_it_recovers(void **state)
{
    (void)state;
    inherited = open_small("t");
    struct bank *bank = bank_make(inherited);
    uint64_t free_bytes = unit_free_bytes(inherited);
    struct stepper_trace trace = {0};
    testing_join(testing_spawn(die_in_a_transfer, NULL));
    record(&recovery, &trace);
    for (size_t n = 0; n < points; n++) {
        testing_join(testing_spawn(die_in_a_transfer, NULL));
        pid_t pid = start_and_stop(&recovery, &trace, trace.count * (2 * n + 1) / (2 * points));
        EXPECT(0, cove_mutex_lock(inherited, &bank->lock[2], COVE_NOWAIT));
        EXPECT(0, cove_mutex_unlock(inherited, &bank->lock[2]));
        int result = cove_mutex_lock(inherited, &bank->lock[0], SHORT_NS);
        assert_true(result == 0 || result == COVE_RECOVERED || result == -ETIMEDOUT);
        if (result >= 0) { /* then it has been recovered, all of it */
            assert_int_equal(bank->cents[0], BANK_CENTS);
            EXPECT(0, cove_mutex_unlock(inherited, &bank->lock[0]));
        }
        let_go_on(pid);
        (void)EXPECT_GOOD(cove_mutex_lock(inherited, &bank->lock[0], unit_patience()));
        EXPECT(0, cove_mutex_unlock(inherited, &bank->lock[0]));
        assert_int_equal(bank->cents[0], BANK_CENTS);
        assert_alone(inherited, free_bytes);
    }
    stepper_trace_free(&trace);
    unit_close(inherited);
    unit_remove("t");
}

/* ---- the directory's lock */

/* The first of many points at which the stopped one has the directory's lock. */
static pid_t stop_inside_directory(const struct deed *deed, const struct stepper_trace *trace)
{
    for (size_t n = 1; n < 64; n++) {
        pid_t pid = start_and_stop(deed, trace, trace->count * n / 64);
        uint64_t word = atomic_load(&covei_directory(inherited)->lock);
        if ((word & COVEI_LOCK_OWNER) != 0)
            return pid;
        let_go_on(pid);
    }
    fail_msg("an object was made without the directory's lock");
    return 0;
}

static void make_object(void *argument)
{
    (void)argument;
    (void)cove_close(inherited);
    cove_segment *segment = unit_open("t");
    testing_reach(0);
    (void)unit_object(segment, "late", 64);
    testing_reach(1);
    unit_close(segment);
}

static void test_stopped_inside_the_directory_is_named(void **state)
{
    (void)state;
    inherited = open_small("t");
    struct bank *bank = bank_make(inherited);
    struct stepper_trace trace = {0};
    record(&deeds[4], &trace);
    pid_t pid = stop_inside_directory(&deeds[4], &trace);
    struct cove_object_info objects[4];
    EXPECT_SAYS(-ETIMEDOUT, cove_objects(inherited, objects, 4), pid_phrase(pid));
    bank_audit(inherited, bank, 0); /* users' locks have nothing to do with it */
    cove_segment *looker = unit_open_as("t", &(struct cove_options){.flags = COVE_READONLY});
    assert_in_range(cove_objects(looker, objects, 4), 1, 2); /* who only looks waits for nobody */
    unit_close(looker);
    EXPECT(0, cove_recover(inherited));
    pid_t waiting = testing_spawn(make_object, NULL);
    testing_await(0);
    assert_int_equal(testing_reached(1), 0);
    let_go_on(pid);
    testing_join(waiting);
    assert_int_equal(testing_reached(1), 1);
    unit_sound(inherited);
    stepper_trace_free(&trace);
    unit_close(inherited);
    unit_remove("t");
}

/* ---- who opens, and is stopped between its lock and its word */

static struct covei_os stopping_os;
static bool stopped_once;

static int stop_with_life_cycle(int file, uint64_t byte, bool exclusive)
{
    int result = covei_os_native.lock_try(file, byte, exclusive);
    if (byte == COVEI_LIFE_CYCLE_BYTE && result == 0 && !stopped_once) {
        stopped_once = true;
        (void)raise(SIGSTOP);
    }
    return result;
}

static void open_and_stop(void *argument)
{
    (void)cove_close(inherited);
    stopping_os = covei_os_native;
    stopping_os.lock_try = stop_with_life_cycle;
    covei_os = &stopping_os;
    if (argument)
        EXPECT(0, cove_unlink("t", 1));
    else
        unit_close(unit_open("t"));
}

/* An opener that is stopped lets others open, and keeps the remover waiting; a remover that is stopped keeps both. */
static void test_stopped_opener_and_remover_are_waited_for(void **state)
{
    (void)state;
    struct cove_options brief = {.timeout_ns = 30 * UNIT_MS};
    for (unsigned removes = 0; removes < 2; removes++) {
        inherited = open_small("t");
        struct bank *bank = bank_make(inherited);
        pid_t pid = testing_spawn(open_and_stop, removes ? (void *)1 : NULL);
        int status = 0;
        assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
        assert_true(WIFSTOPPED(status));
        bank_audit(inherited, bank, 0); /* members go on */
        cove_segment *looker = unit_open_as("t", &(struct cove_options){.flags = COVE_READONLY});
        unit_close(looker);
        unit_close(inherited);
        if (removes)
            EXPECT_SAYS(-ETIMEDOUT, cove_open(&inherited, "t", &brief), "look whether it is stopped");
        else
            unit_close(unit_open_as("t", &brief));
        let_go_on(pid);
        assert_int_equal(unit_exists("t"), !removes);
        if (!removes)
            unit_remove("t");
    }
}

static const struct testing_case tests[] = {
    TEST_TIMEOUT(test_stopped_anywhere_is_alive, 60),
    TEST_TIMEOUT(test_stopped_recoverer_holds_up_only_what_it_recovers, 20),
    TEST_TIMEOUT(test_stopped_inside_the_directory_is_named, 20),
    TEST(test_stopped_opener_and_remover_are_waited_for),
};

int main(void)
{
    const char *text = getenv("COVE_FAULT_POINTS");
    if (text && strtoul(text, NULL, 10) > 0)
        points = strtoul(text, NULL, 10);
    return testing_run("process_stopped", tests);
}
