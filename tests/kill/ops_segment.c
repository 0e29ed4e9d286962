/* ops_segment.c - the kill table's scenarios of whole segments: created, opened, closed, removed, cleared up, recovered, forked.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Their state is in files, descriptors and file locks, so the shortcut of the distinct points does not hold: every
 * instruction is a point, those around system calls first. The name is there with a whole segment behind it, or it is not there;
 * the next opener gets a good segment at once, and the directory never holds anything but the segment's file. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "stage.h"

#include "stepper.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define NEXT_OPENER_NS INT64_C(100000000) /* within this the next opener must have a good segment */

static const struct cove_options small = {.size_bytes = 16 * 1024, .max_size_bytes = 1 << 20, .max_members = 8};

/* Opens or makes it, uses it, checks it. */
static int open_and_use(struct stage *stage)
{
    int64_t began_ns = stepper_now_ns();
    int got = cove_open(&stage->segment, stage_name(stage), &small);
    if (!must(stage, got >= 0, "opening or creating"))
        return got;
    if (stepper_now_ns() - began_ns > NEXT_OPENER_NS && stage->role == ROLE_PROBE)
        finding(stage, VERDICT_HANG, "opening took %lld ms", (long long)(stepper_now_ns() - began_ns) / 1000000);
    cove_ref ref = cove_alloc(stage->segment, 100);
    must(stage, ref != 0 && cove_free(stage->segment, ref) == 0, "using the segment");
    return got;
}

static void remove_it(struct stage *stage)
{
    must(stage, cove_unlink(stage_name(stage), 0) == 0, "removing the segment that all have left");
    if (name_is_there(stage))
        finding(stage, VERDICT_LEAKED, "the name is still there");
}

/* ---- creating ------------------------------------------------------------------------------------------------- */

static void operate_create(struct stage *stage)
{
    struct cove_options options = small;
    options.flags = COVE_EXCLUSIVE;
    must(stage, cove_open(&stage->segment, stage_name(stage), &options) == COVE_CREATED, "creating");
    acknowledge(stage, 1);
}

static void sleep_open(struct stage *stage)
{
    stage->ledger->result[ROLE_SLEEPER] = open_and_use(stage);
}

static void sleep_open_after(struct stage *stage)
{
    const struct ledger *ledger = stage->ledger;
    if (ledger->acknowledged && ledger->result[ROLE_SLEEPER] == COVE_CREATED)
        finding(stage, VERDICT_LOST, "the segment whose creation was acknowledged had to be made again");
}

static void verify_created(struct stage *stage)
{
    struct cove_segment_info info;
    if (!name_is_there(stage))
        finding(stage, VERDICT_LOST, "the sleeper's segment is gone");
    open_and_use(stage);
    must(stage, cove_recover(stage->segment) >= 0, "cove_recover");
    stage_check(stage);
    if (must(stage, cove_segment_stat(stage->segment, &info) == 0, "stat") && info.heap_block_count != 0)
        finding(stage, VERDICT_LEAKED, "%llu blocks in use in a segment that holds nothing",
                (unsigned long long)info.heap_block_count);
    stage_close(stage);
    remove_it(stage);
}

/* Nobody else tries: what a killed creator leaves alone. */
static void verify_created_alone(struct stage *stage)
{
    int there = name_is_there(stage);
    if (stage->ledger->acknowledged && !there)
        finding(stage, VERDICT_LOST, "an acknowledged segment is not there");
    int got = open_and_use(stage);
    if (got >= 0 && (got == COVE_CREATED) == there)
        finding(stage, VERDICT_CORRUPT, "the name was %s, and open says %d", there ? "there" : "not there", got);
    stage_check(stage);
    stage_close(stage);
    remove_it(stage);
}

/* ---- opening and closing -------------------------------------------------------------------------------------- */

static void operate_open(struct stage *stage)
{
    struct cove_options options = {.flags = COVE_EXISTING};
    must(stage, cove_open(&stage->segment, stage_name(stage), &options) == 0, "opening");
    acknowledge(stage, 1);
}

/* Another that opens and closes beside it: both look for a row. */
static void sleep_open_again(struct stage *stage)
{
    struct cove_options options = {.flags = COVE_EXISTING};
    cove_segment *again = NULL;
    if (must(stage, cove_open(&again, stage_name(stage), &options) == 0, "opening"))
        stage->segment = again;
}

static void operate_close(struct stage *stage)
{
    must(stage, cove_close(stage->segment) == 0, "closing");
    stage->segment = NULL;
    acknowledge(stage, 1);
}

/* A member with something in its hands when it closes: memory that is its own, a stream's end. */
static void prepare_busy_member(struct stage *stage)
{
    must(stage, cove_alloc(stage->segment, 300) != 0, "alloc");
    struct cove_stream_options options = {.flags = COVE_EXISTING};
    must(stage, cove_stream_open_in(&stage->stream, stage->segment, STREAM_NAME, COVE_WRITER, &options) == 0,
         "opening the stream");
}

/* What a killed writer's end leaves is told once; the next trial's image is fresh, so nobody has to hear it. */
static void verify_stream_free(struct stage *stage)
{
    cove_stream *stream = NULL;
    if (must(stage, cove_stream_open_in(&stream, stage->segment, STREAM_NAME, COVE_WRITER, NULL) >= 0,
             "taking over the writer's end"))
        cove_stream_close(stream);
}

static void prepare_last_out(struct stage *stage)
{
    struct cove_options options = small;
    options.lifetime = COVE_LAST_OUT;
    must(stage, cove_open(&stage->segment, stage_name(stage), &options) == COVE_CREATED, "creating");
    must(stage, cove_alloc(stage->segment, 300) != 0, "alloc");
}

/* The segment is LAST_OUT, and the victim the last: the name must go, whether it closes or dies. Files anywhere are
 * not for gc to find; there it is the next to open who takes the name away. */
static void verify_gone(struct stage *stage)
{
    must(stage, cove_gc(0, NULL, NULL) >= 0, "cove_gc");
    if (stage->scenario->backend == ON_FILE) {
        int got = cove_open(&stage->segment, stage_name(stage), &(struct cove_options){.flags = COVE_EXISTING});
        must(stage, got == -ENOENT, "opening a LAST_OUT segment that went with its last member");
    }
    if (name_is_there(stage))
        finding(stage, VERDICT_LEAKED, "a LAST_OUT segment stays when its last member is gone");
    open_and_use(stage);
    stage_check(stage);
    stage_close(stage);
    if (name_is_there(stage))
        remove_it(stage);
}

/* A copy beside it, which goes with it. */
static void build_copy(struct stage *stage)
{
    must(stage, cove_sync(stage->segment, PATIENCE_NS) == 0, "building: a copy");
}

/* ---- removing ------------------------------------------------------------------------------------------------- */

static void operate_unlink(struct stage *stage)
{
    must(stage, cove_unlink(stage_name(stage), 0) == 0, "removing");
    acknowledge(stage, 1);
}

/* Opens while the name goes: gets the old one whole, or a new one, and can use it to the end. */
static void verify_unlinked(struct stage *stage)
{
    int there = name_is_there(stage);
    if (stage->ledger->acknowledged && there && stage->ledger->result[ROLE_SLEEPER] != COVE_CREATED)
        finding(stage, VERDICT_CORRUPT, "a removed name is there");
    open_and_use(stage);
    stage_check(stage);
    stage_close(stage);
    remove_it(stage);
}

static void verify_unlinked_alone(struct stage *stage)
{
    if (stage->ledger->acknowledged && name_is_there(stage))
        finding(stage, VERDICT_CORRUPT, "a removed name is there");
    if (!name_is_there(stage) && access(copy_path(), F_OK) == 0)
        finding(stage, VERDICT_LEAKED,
                "the copy of a removed segment is there, and would pass for one of the next segment of that name");
    open_and_use(stage);
    stage_check(stage);
    stage_close(stage);
    remove_it(stage);
}

/* ---- clearing up after the dead ------------------------------------------------------------------------------- */

/* A member that dies in the middle of a transaction, with memory of its own. Its death is its exit without closing. */
static void die_in_the_middle(struct stage *stage)
{
    stage_open(stage);
    int good = cove_begin(stage->segment) == 0 &&
               cove_mutex_lock(stage->segment, &stage->alice->lock, PATIENCE_NS) == 0 &&
               cove_save(stage->segment, &stage->alice->cents, sizeof stage->alice->cents) == 0 &&
               cove_alloc(stage->segment, 400) != 0;
    stage->alice->cents -= 77;
    must(stage, good, "getting into the middle of a transaction");
    _exit(0);
}

static void prepare_dead_member(struct stage *stage)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct stage child = {.scenario = stage->scenario, .ledger = stage->ledger, .role = ROLE_VICTIM};
        die_in_the_middle(&child);
    }
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
}

static void operate_gc(struct stage *stage)
{
    must(stage, cove_gc(0, NULL, NULL) >= 1, "cove_gc");
    acknowledge(stage, 1);
}

static void operate_recover(struct stage *stage)
{
    must(stage, cove_recover(stage->segment) >= 1, "cove_recover");
    acknowledge(stage, 1);
}

static void sleep_lock(struct stage *stage)
{
    int got = cove_mutex_lock(stage->segment, &stage->alice->lock, PATIENCE_NS * 2);
    if (!must(stage, got >= 0, "the dead one's lock"))
        return;
    if (stage->alice->cents != START_CENTS)
        finding(stage, VERDICT_CORRUPT, "under the lock, alice has %lld cents", (long long)stage->alice->cents);
    must(stage, cove_mutex_unlock(stage->segment, &stage->alice->lock) == 0, "unlock");
}

/* ---- fork ----------------------------------------------------------------------------------------------------- */

/* The child uses what it inherited, and is refused; then it becomes a member of its own. It outlives its parent. */
static void live_as_child(struct stage *stage)
{
    cove_segment *own = NULL;
    struct cove_options options = {.flags = COVE_EXISTING};
    int refused = cove_mutex_lock(stage->segment, &stage->bob->lock, COVE_NOWAIT);
    if (refused != COVE_EFORKED)
        finding(stage, VERDICT_CORRUPT, "a forked child's use of its parent's handle gave %d", refused);
    int got = cove_open(&own, stage_name(stage), &options);
    if (must(stage, got == 0, "opening in a forked child"))
        must(stage, cove_close(own) == 0, "closing in a forked child");
    _exit(0);
}

static void operate_fork(struct stage *stage)
{
    pid_t pid = fork();
    if (pid == 0)
        live_as_child(stage);
    stage->extra = (void *)(intptr_t)pid;
    acknowledge(stage, 1);
}

static void prepare_lock(struct stage *stage)
{
    must(stage, cove_mutex_lock(stage->segment, &stage->alice->lock, PATIENCE_NS) == 0, "lock");
}

static void after_fork(struct stage *stage)
{
    while (waitpid((pid_t)(intptr_t)stage->extra, NULL, 0) < 0 && errno == EINTR) {}
    must(stage, cove_mutex_unlock(stage->segment, &stage->alice->lock) == 0, "unlock");
}

#define CREATED .traits = EVERY_POINT | NO_IMAGE | PROBE_OPENS, .operate = operate_create
#define CREATED_RACING CREATED, .sleep = sleep_open, .sleep_after = sleep_open_after, .verify = verify_created
#define CREATED_ALONE CREATED, .verify = verify_created_alone
#define OPENED .traits = EVERY_POINT | VICTIM_OPENS | SLEEPER_OPENS, .operate = operate_open, .sleep = sleep_open_again
#define CLOSED \
    .traits = EVERY_POINT, .prepare = prepare_busy_member, .operate = operate_close, .verify = verify_stream_free
#define LAST_OUT                                                                                           \
    .traits = EVERY_POINT | NO_IMAGE | PROBE_OPENS, .prepare = prepare_last_out, .operate = operate_close, \
    .verify = verify_gone
#define REMOVED .traits = EVERY_POINT | ALONE | PROBE_OPENS | VICTIM_OPENS | SLEEPER_OPENS, .operate = operate_unlink
#define REMOVED_RACING REMOVED, .sleep = sleep_open, .verify = verify_unlinked
#define REMOVED_ALONE REMOVED, .verify = verify_unlinked_alone
#define GC .traits = EVERY_POINT, .prepare = prepare_dead_member, .operate = operate_gc, .sleep = sleep_lock

const struct scenario ops_segment[] = {
    {.name = "segment created, another opens", CREATED_RACING, .least = 6900, .most = 53000},
    {.name = "segment created, nobody else", CREATED_ALONE, .least = 7000, .most = 53000},
    {.name = "segment opened", OPENED, .least = 6400, .most = 60000},
    {.name = "segment closed", CLOSED, .least = 1400, .most = 12000},
    {.name = "LAST_OUT segment closed by the last", LAST_OUT, .least = 1900, .most = 16000},
    {.name = "segment removed, another opens", REMOVED_RACING, .least = 2400, .most = 41000},
    {.name = "segment removed, nobody else", REMOVED_ALONE, .least = 2500, .most = 41000},
    {.name = "gc over a dead member", GC, .least = 8000, .most = 200000},
    {.name = "recover",
     .traits = EVERY_POINT,
     .least = 3700,
     .most = 29000,
     .prepare = prepare_dead_member,
     .operate = operate_recover,
     .sleep = sleep_lock},
    {.name = "fork",
     .traits = EVERY_POINT,
     .least = 100,
     .most = 790,
     .prepare = prepare_lock,
     .operate = operate_fork,
     .after = after_fork,
     .sleep = sleep_lock},
    {.name = "file: created, another opens", .backend = ON_FILE, CREATED_RACING, .least = 12000, .most = 90000},
    {.name = "file: created, nobody else", .backend = ON_FILE, CREATED_ALONE, .least = 12000, .most = 90000},
    {.name = "file: opened", .backend = ON_FILE, OPENED, .least = 11000, .most = 86000},
    {.name = "file: closed", .backend = ON_FILE, CLOSED, .least = 2300, .most = 17000},
    {.name = "file: LAST_OUT closed by the last", .backend = ON_FILE, LAST_OUT, .least = 2300, .most = 17000},
    {.name = "file: removed, another opens",
     .backend = ON_FILE,
     .build = build_copy,
     REMOVED_RACING,
     .least = 8300,
     .most = 62000},
    {.name = "file: removed, nobody else",
     .backend = ON_FILE,
     .build = build_copy,
     REMOVED_ALONE,
     .least = 8300,
     .most = 62000},
    {.name = "sysv: created, another opens", .backend = ON_SYSV, CREATED_RACING, .least = 12666, .most = 280000},
    {.name = "sysv: created, nobody else", .backend = ON_SYSV, CREATED_ALONE, .least = 12666, .most = 280000},
    {.name = "sysv: opened", .backend = ON_SYSV, OPENED, .least = 7000, .most = 160000},
    {.name = "sysv: closed", .backend = ON_SYSV, CLOSED, .least = 566, .most = 12000},
    {.name = "sysv: LAST_OUT closed by the last", .backend = ON_SYSV, LAST_OUT, .least = 1900, .most = 43000},
    {.name = "sysv: removed, another opens", .backend = ON_SYSV, REMOVED_RACING, .least = 10666, .most = 240000},
    {.name = "sysv: removed, nobody else", .backend = ON_SYSV, REMOVED_ALONE, .least = 10666, .most = 240000},
    {.name = "sysv: gc over a dead member", .backend = ON_SYSV, GC, .least = 11000, .most = 240000},
    {0},
};
