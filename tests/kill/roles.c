/* roles.c - what each process of a trial does, but for the operation itself.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * stage.h says who they are. Each bystander ends by undoing what it left by design, and the probe by undoing its own
 * change, so that the segment's used bytes, blocks and objects must be at the end what they were in the image: to
 * the byte, whether the operation happened or not. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "stage.h"

#include "hall.h"
#include "stepper.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    GREEDY_BLOCKS = 7,
    MIDDLE_SLOT = ROOT_SLOTS - 1,
    MIDDLE_BYTES = 200,
    MIDDLE_CENTS = 5,
    SEED_NUMBER = LEDGER_NUMBERS - 1
};

static void tell_done(struct stage *stage)
{
    stage->ledger->done_ns[stage->role] = stepper_now_ns();
    phase_tell(stage, PHASE_DONE);
}

/* ---- the victim ----------------------------------------------------------------------------------------------- */

/* A thread's end is the operation, or a part of it: the end mark stands in a destructor of ours. Destructors of
 * thread-specific data run in the order in which their keys were made, and the library's was made first. */
static void thread_ended(void *stage)
{
    acknowledge(stage, 1);
    stepper_mark_end();
}

static pthread_key_t end_key;

static void *threaded_operation(void *argument)
{
    struct stage *stage = argument;
    pthread_setspecific(end_key, stage);
    if (stage->scenario->prepare != NULL)
        stage->scenario->prepare(stage);
    stepper_mark_begin();
    stage->scenario->operate(stage);
    return NULL;
}

static void operate_in_thread(struct stage *stage)
{
    pthread_t thread;
    if (pthread_key_create(&end_key, thread_ended) != 0 ||
        pthread_create(&thread, NULL, threaded_operation, stage) != 0)
        exit(5);
    pthread_join(thread, NULL);
}

static void operate_here(struct stage *stage)
{
    if (stage->scenario->prepare != NULL)
        stage->scenario->prepare(stage);
    stepper_mark_begin();
    stage->scenario->operate(stage);
    stepper_mark_end();
}

int victim_run(void *argument)
{
    struct stage *stage = argument;
    if (!(stage->scenario->traits & (NO_IMAGE | VICTIM_OPENS)))
        stage_open(stage);
    if (stage->scenario->traits & THREADED)
        operate_in_thread(stage);
    else
        operate_here(stage);
    if (stage->scenario->after != NULL)
        stage->scenario->after(stage);
    stage_close(stage);
    return 0;
}

int recoverer_run(void *argument)
{
    struct stage *stage = argument;
    stage_open(stage);
    stepper_mark_begin();
    int64_t recovered = cove_recover(stage->segment);
    stepper_mark_end();
    must(stage, recovered >= 0, "cove_recover");
    stage_close(stage);
    return 0;
}

/* ---- bystanders ----------------------------------------------------------------------------------------------- */

static void second_run(struct stage *stage)
{
    const struct scenario *scenario = stage->scenario;
    stage_open(stage);
    if (scenario->second_ready != NULL)
        scenario->second_ready(stage);
    phase_tell(stage, PHASE_READY);
    baton_wait(stage, PHASE_GO);
    phase_tell(stage, PHASE_GO);
    if (scenario->second != NULL)
        scenario->second(stage);
    tell_done(stage);
    baton_wait(stage, PHASE_LAST);
    if (scenario->second_after != NULL)
        scenario->second_after(stage);
    stage_close(stage);
}

static void sleeper_run(struct stage *stage)
{
    const struct scenario *scenario = stage->scenario;
    if (!(scenario->traits & (NO_IMAGE | SLEEPER_OPENS)))
        stage_open(stage);
    if (scenario->sleep_ready != NULL)
        scenario->sleep_ready(stage);
    phase_tell(stage, PHASE_READY);
    baton_wait(stage, PHASE_GO);
    phase_tell(stage, PHASE_GO);
    scenario->sleep(stage);
    tell_done(stage);
    baton_wait(stage, PHASE_LAST);
    if (scenario->sleep_after != NULL)
        scenario->sleep_after(stage);
    stage_close(stage);
}

static uint64_t trial_seed(const struct stage *stage)
{
    return stage->ledger->number[SEED_NUMBER];
}

/* Commits in half of the trials, aborts in the other half. */
static void middle_ends(struct stage *stage, int64_t before)
{
    struct account *carol = stage->carol;
    cove_ref block = stage->root->slot[MIDDLE_SLOT];
    int commits = trial_seed(stage) % 2 == 0;
    must(stage, carol->cents == before + MIDDLE_CENTS, "my change before its commit");
    void *memory = cove_at(stage->segment, block, MIDDLE_BYTES);
    if (must(stage, memory != NULL && pattern_holds(memory, MIDDLE_BYTES, 77), "my block before the commit"))
        fill_pattern(memory, MIDDLE_BYTES, 78);
    must(stage, (commits ? cove_commit(stage->segment) : cove_abort(stage->segment)) == 0, "my commit or abort");
    if (!commits) {
        must(stage, carol->cents == before && stage->root->slot[MIDDLE_SLOT] == 0, "what my abort put back");
        return;
    }
    must(stage, carol->cents == before + MIDDLE_CENTS, "my committed change");
    must(stage, pattern_holds(cove_at(stage->segment, block, MIDDLE_BYTES), MIDDLE_BYTES, 78), "my committed block");
}

static void middle_tidies(struct stage *stage, int64_t before)
{
    if (!must(stage, cove_mutex_lock(stage->segment, &stage->carol->lock, PATIENCE_NS) == 0, "my lock again"))
        return;
    cove_ref *slot = &stage->root->slot[MIDDLE_SLOT];
    if (*slot != 0) {
        void *memory = cove_at(stage->segment, *slot, MIDDLE_BYTES);
        if (memory == NULL || !pattern_holds(memory, MIDDLE_BYTES, 78))
            finding(stage, VERDICT_LOST, "the block that I had committed is spoilt");
        must(stage, cove_free_from(stage->segment, slot) == 0, "freeing my block");
    }
    stage->carol->cents = before;
    must(stage, cove_mutex_unlock(stage->segment, &stage->carol->lock) == 0, "my unlock");
}

static void middle_run(struct stage *stage)
{
    stage_open(stage);
    int64_t before = stage->carol->cents;
    cove_ref *slot = &stage->root->slot[MIDDLE_SLOT];
    if (stage->hall != NULL)
        hall_middle_enters(stage);
    must(stage, cove_begin(stage->segment) == 0, "begin");
    must(stage, cove_mutex_lock(stage->segment, &stage->carol->lock, PATIENCE_NS) == 0, "my lock");
    must(stage, cove_save(stage->segment, &stage->carol->cents, sizeof before) == 0, "save");
    stage->carol->cents += MIDDLE_CENTS;
    if (must(stage, cove_alloc_into(stage->segment, slot, MIDDLE_BYTES) == 0, "alloc_into in my transaction"))
        fill_pattern(cove_at(stage->segment, *slot, MIDDLE_BYTES), MIDDLE_BYTES, 77);
    if (stage->hall != NULL)
        hall_middle_begins(stage);
    phase_tell(stage, PHASE_READY);
    baton_wait(stage, PHASE_GO);
    middle_ends(stage, before);
    if (stage->hall != NULL)
        hall_middle_ends(stage, trial_seed(stage) % 2 == 0);
    tell_done(stage);
    baton_wait(stage, PHASE_LAST);
    middle_tidies(stage, before);
    stage_close(stage);
}

static const size_t greedy_size[GREEDY_BLOCKS] = {1, 24, 64, 100, 333, 1000, 2500};

static void greedy_takes(struct stage *stage, cove_ref *block)
{
    for (size_t i = 0; i < GREEDY_BLOCKS; i++) {
        block[i] = cove_alloc(stage->segment, greedy_size[i]);
        if (must(stage, block[i] != 0, "alloc after the death"))
            fill_pattern(cove_at(stage->segment, block[i], greedy_size[i]), greedy_size[i], i);
        if (i == 0)
            stage->ledger->done_ns[ROLE_GREEDY] = stepper_now_ns();
    }
}

static void greedy_gives_back(struct stage *stage, const cove_ref *block)
{
    for (size_t i = 0; i < GREEDY_BLOCKS; i++) {
        const void *memory = cove_at(stage->segment, block[i], greedy_size[i]);
        if (memory != NULL && !pattern_holds(memory, greedy_size[i], i))
            finding(stage, VERDICT_CORRUPT, "my block of %zu bytes was written by somebody else", greedy_size[i]);
        must(stage, cove_free(stage->segment, block[i]) == 0, "freeing what I took");
    }
}

static void greedy_run(struct stage *stage)
{
    cove_ref block[GREEDY_BLOCKS] = {0};
    stage_open(stage);
    phase_tell(stage, PHASE_READY);
    baton_wait(stage, PHASE_GO);
    greedy_takes(stage, block);
    phase_tell(stage, PHASE_DONE);
    baton_wait(stage, PHASE_LAST);
    greedy_gives_back(stage, block);
    stage_close(stage);
}

/* ---- the probe ------------------------------------------------------------------------------------------------ */

static void check_sums(struct stage *stage)
{
    int64_t sum = stage->alice->cents + stage->bob->cents;
    if (sum != 2 * START_CENTS)
        finding(stage, VERDICT_CORRUPT, "alice and bob have %lld cents together, not %d", (long long)sum,
                2 * START_CENTS);
    if (stage->carol->cents != START_CENTS)
        finding(stage, VERDICT_CORRUPT, "carol has %lld cents, not %d", (long long)stage->carol->cents, START_CENTS);
}

/* A change of the probe's own on top of what is there, which then must outlive whatever recovery is still to come. */
static void change_on_top(struct stage *stage)
{
    int64_t mine = (int64_t)(trial_seed(stage) % 1000) + 1;
    int got = cove_begin(stage->segment) == 0 ? cove_mutex_lock(stage->segment, &stage->root->lock, PATIENCE_NS) : -1;
    if (!must(stage, got >= 0, "locking the root for a change of my own"))
        return;
    must(stage, cove_save(stage->segment, &stage->root->change, sizeof mine) == 0, "save");
    stage->root->change = mine;
    must(stage, cove_commit(stage->segment) == 0, "commit");
    must(stage, cove_recover(stage->segment) >= 0, "cove_recover");
    must(stage, cove_gc(0, NULL, NULL) >= 0, "cove_gc");
    if (stage->root->change != mine)
        finding(stage, VERDICT_LOST, "my own change did not outlive recovery and gc");
    stage_check(stage);
    stage->root->change = 0;
}

static void nobody_dead(struct stage *stage)
{
    struct cove_segment_info info;
    if (must(stage, cove_segment_stat(stage->segment, &info) == 0, "cove_segment_stat") && info.members_dead != 0)
        finding(stage, VERDICT_LEAKED, "%u dead members are not recovered", info.members_dead);
}

/* What is left when everybody is gone; the harness compares it with the image. */
static void measure(struct stage *stage)
{
    struct cove_segment_info info;
    struct ledger *ledger = stage->ledger;
    if (!must(stage, cove_stat(stage_name(stage), &info) == 0, "cove_stat"))
        return;
    ledger->used_bytes = info.heap_bytes - info.heap_free_bytes;
    ledger->block_count = info.heap_block_count;
    ledger->object_count = info.object_count;
    if (info.members_alive + info.members_dead != 0)
        finding(stage, VERDICT_LEAKED, "%u living and %u dead members stand in the roster of a segment that all left",
                info.members_alive, info.members_dead);
}

static void probe_run(struct stage *stage)
{
    const struct scenario *scenario = stage->scenario;
    if (scenario->traits & PROBE_OPENS) {
        scenario->verify(stage);
        return;
    }
    stage_open(stage);
    must(stage, cove_recover(stage->segment) >= 0, "cove_recover");
    nobody_dead(stage);
    stage_check(stage);
    check_sums(stage);
    if (stage->hall != NULL)
        hall_check(stage);
    if (scenario->verify != NULL)
        scenario->verify(stage);
    change_on_top(stage);
    stage_check(stage);
    stage_close(stage);
    measure(stage);
}

static void builder_run(struct stage *stage)
{
    image_fill(stage);
    stage_check(stage);
    stage_close(stage);
    measure(stage);
}

int role_run(struct stage *stage)
{
    switch (stage->role) {
    case ROLE_BUILDER:
        builder_run(stage);
        break;
    case ROLE_SLEEPER:
        sleeper_run(stage);
        break;
    case ROLE_SECOND:
        second_run(stage);
        break;
    case ROLE_MIDDLE:
        middle_run(stage);
        break;
    case ROLE_GREEDY:
        greedy_run(stage);
        break;
    case ROLE_PROBE:
        probe_run(stage);
        break;
    default:
        return 6;
    }
    return 0;
}
