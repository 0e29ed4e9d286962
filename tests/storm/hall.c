/* hall.c - founds, works in and judges the segment of the storms of locks and meeting points.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "hall.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GAP_NS 24000000 /* longest time between two strikes */
#define SYNC_TIMEOUT_NS INT64_C(10000000000)
#define COPY_ONE_IN 500 /* steps */
#define FLAG_EXITING 0x4 /* PF_EXITING, in the flags of /proc/PID/stat: it executes nothing of its own any more */

const struct cove_type hall_type = {.name = "hall", .version = 1, .size_bytes = sizeof(struct hall)};
static const struct hall_storm *current; /* set before the workers are forked */

/* ---- helpers of the storms */

int64_t some_patience(struct worker *worker)
{
    uint64_t choice = below(&worker->random, 16);
    return choice == 0 ? COVE_NOWAIT : choice == 1 ? (int64_t)below(&worker->random, 3000000) + 1 : COVE_FOREVER;
}

bool got_it(int result, const char *what)
{
    if (result == -EBUSY || result == -ETIMEDOUT)
        return false;
    if (must(result, what) == COVE_RECOVERED)
        atomic_fetch_add(&ledger->recovered, 1);
    return true;
}

void check_pair(const struct pair *pair, const char *where)
{
    if (pair->left != pair->right)
        fault("%s: %lld and %lld differ", where, (long long)pair->left, (long long)pair->right);
}

void change_pair(struct worker *worker, struct pair *pair)
{
    int64_t amount = (int64_t)below(&worker->random, 100);
    must(cove_save(worker->segment, pair, sizeof *pair), "save a pair");
    pair->left += amount;
    if (one_in(&worker->random, 8))
        nap_ns(40000); /* let others run, and the killer, while it is half done */
    pair->right += amount;
}

static bool state_of(int32_t pid, const char *not_in)
{
    char path[64], text[512] = "", state = 0;
    unsigned flags = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return false;
    size_t length = fread(text, 1, sizeof text - 1, file);
    (void)fclose(file);
    text[length] = '\0';
    const char *end = strrchr(text, ')');
    if (!end || sscanf(end + 1, " %c %*d %*d %*d %*d %*d %u", &state, &flags) != 2)
        return false;
    return !strchr(not_in, state) && !(flags & FLAG_EXITING);
}

bool lives(int32_t pid)
{
    return state_of(pid, "ZX");
}

bool runs(int32_t pid)
{
    return state_of(pid, "ZXTt");
}

void count_up(int which)
{
    atomic_fetch_add(&ledger->hall.tally[which], 1);
}

void intend(uint32_t seat, int64_t amount)
{
    atomic_store(&ledger->hall.intent[seat], amount);
}

void achieve(uint32_t seat, int64_t amount)
{
    if (amount != 0)
        atomic_fetch_add(&ledger->hall.sum[seat], amount);
    atomic_store(&ledger->hall.intent[seat], 0);
}

/* The worker before was killed between its intent and the note that it was done, or just after that note. */
static void inherit_intent(uint32_t seat)
{
    int64_t amount = atomic_exchange(&ledger->hall.intent[seat], 0);
    if (amount > 0)
        atomic_fetch_add(&ledger->hall.most_more, amount);
    else
        atomic_fetch_add(&ledger->hall.most_less, amount);
}

void check_sum(int64_t value, const char *what)
{
    int64_t sum = 0;
    for (uint32_t i = 0; i < WORKERS; i++) {
        inherit_intent(i);
        sum += atomic_load(&ledger->hall.sum[i]);
    }
    int64_t more = atomic_load(&ledger->hall.most_more), less = atomic_load(&ledger->hall.most_less);
    if (value > sum + more || value < sum + less)
        fault(
            "%s: it is %lld, where %lld was counted, and killed workers may have added up to %lld and taken up to %lld",
            what, (long long)value, (long long)sum, (long long)more, (long long)-less);
}

/* ---- the parts */

struct hall *open_hall(struct worker *worker, uint32_t flags)
{
    void *memory = NULL;
    begin_doing(worker, DOING_OPEN);
    must(cove_open(&worker->segment, segment_name, &(struct cove_options){.flags = flags, .max_members = MEMBERS}),
         "open the hall's segment");
    if (flags == COVE_EXCLUSIVE) {
        struct cove_segment_info info;
        must(cove_segment_stat(worker->segment, &info), "stat");
        atomic_store(&ledger->overhead_bytes, info.heap_bytes - info.heap_free_bytes);
    }
    must(cove_object_open(&memory, worker->segment, "hall", &hall_type, flags), "open the hall");
    end_doing(worker, DOING_OPEN);
    return memory;
}

void close_hall(struct worker *worker)
{
    begin_doing(worker, DOING_CLOSE);
    must(cove_close(worker->segment), "close");
    end_doing(worker, DOING_CLOSE);
}

void found_hall(uint32_t seat, uint64_t seed)
{
    (void)seat, (void)seed;
    struct worker worker = {.seat = &ledger->seats[WORKERS]};
    cove_counter *spread = NULL;
    memset(&ledger->hall, 0, offsetof(struct hall_ledger, tally));
    struct hall *hall = open_hall(&worker, COVE_EXCLUSIVE);
    hall->fair = (cove_mutex)COVE_MUTEX_FAIR;
    must(cove_semaphore_post(worker.segment, &hall->owned, PERMITS), "post the permits");
    must(cove_semaphore_post(worker.segment, &hall->plain, TOKENS), "post the tokens");
    must(cove_counter_open_in(&spread, worker.segment, SPREAD_NAME, &(struct cove_sync_options){.lines = LINES}),
         "make the spread counter");
    close_hall(&worker);
    exit(0);
}

/* Somebody copies it now and then, where it lies in a file: all others wait at the gate, wherever they are. */
static void copy_hall(struct worker *worker)
{
    if (storm_place != IN_FILE || !one_in(&worker->random, COPY_ONE_IN))
        return;
    begin_doing(worker, DOING_SYNC);
    must(cove_sync(worker->segment, SYNC_TIMEOUT_NS), "sync");
    end_doing(worker, DOING_SYNC);
}

static void work_in_hall(uint32_t seat, uint64_t seed)
{
    struct worker worker = {.seat = &ledger->seats[seat], .random = seed};
    struct hall *hall = open_hall(&worker, COVE_EXISTING);
    inherit_intent(seat);
    if (current->begin)
        current->begin(&worker, hall, seat);
    atomic_store(&ledger->hall.came_ns[seat], 0);
    atomic_store(&ledger->hall.pid[seat], (int32_t)getpid()); /* what the one before left is put right */
    for (uint64_t left = 500 + below(&worker.random, 20000); left > 0 && !atomic_load(&ledger->stop); left--) {
        current->step(&worker, hall, seat);
        copy_hall(&worker);
    }
    if (one_in(&worker.random, 4))
        _exit(0); /* without closing: as if it had died */
    close_hall(&worker);
    exit(0);
}

static void take_down(struct worker *worker)
{
    struct cove_segment_info info;
    must(cove_object_remove(worker->segment, SPREAD_NAME), "remove the spread counter");
    must(cove_object_remove(worker->segment, "hall"), "remove the hall");
    must(cove_segment_stat(worker->segment, &info), "stat");
    uint64_t used = info.heap_bytes - info.heap_free_bytes, empty = atomic_load(&ledger->overhead_bytes);
    if (info.heap_block_count != 0 || used != empty)
        fault("leaked: %llu blocks, %lld bytes", (unsigned long long)info.heap_block_count, (long long)(used - empty));
}

static void judge_hall(uint32_t seat, uint64_t seed)
{
    (void)seat, (void)seed;
    static char when[] = "when everybody was gone";
    struct worker worker = {.seat = &ledger->seats[WORKERS], .random = 1};
    struct hall *hall = open_hall(&worker, COVE_EXISTING);
    judge_members(&worker);
    begin_doing(&worker, DOING_JUDGE);
    check_sound(worker.segment, when);
    current->judge(&worker, hall);
    take_down(&worker);
    end_doing(&worker, DOING_JUDGE);
    close_hall(&worker);
    must(cove_gc(0, NULL, NULL), "gc"); /* what a killed copier left */
    must(cove_unlink(segment_name, 0), "unlink");
    exit(0);
}

/* ---- a storm */

void name_hall(void)
{
    static char name[200];
    name_place(name, storm_place == IN_FD ? IN_POSIX : storm_place, "hall", 0);
    segment_name = name;
}

static void print_tally(const struct hall_storm *storm)
{
    printf("%s:", storm->name);
    for (int i = 0; i < 8 && storm->told[i]; i++)
        printf(" %llu %s,", (unsigned long long)atomic_load(&ledger->hall.tally[i]), storm->told[i]);
    if (storm_place == IN_FILE) {
        uint64_t copies = 0;
        for (uint32_t i = 0; i < WORKERS; i++)
            copies += atomic_load(&ledger->seats[i].done[DOING_SYNC]);
        printf(" %llu copies,", (unsigned long long)copies);
    }
    printf(" %llu told of a recovery\n", (unsigned long long)atomic_load(&ledger->recovered));
}

bool hall_storm_run(const struct hall_storm *storm, const struct plan *plan, uint64_t *killed)
{
    const struct act act = {
        .found = found_hall, .work = work_in_hall, .judge = judge_hall, .gap_ns = GAP_NS, .stops = true};
    current = storm;
    name_hall();
    memset((void *)ledger->hall.tally, 0, sizeof ledger->hall.tally);
    atomic_store(&ledger->recovered, 0);
    bool good = storm_rounds(plan, &act, storm->name, killed);
    print_tally(storm);
    return good;
}
