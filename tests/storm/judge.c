/* judge.c - the beginning and the end of a world: what must be there when everybody is gone, to the byte.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "storm.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint64_t used_bytes(cove_segment *segment, uint64_t *blocks)
{
    struct cove_segment_info info;
    must(cove_segment_stat(segment, &info), "stat");
    *blocks = info.heap_block_count;
    return info.heap_bytes - info.heap_free_bytes;
}

int founding_socket = -1;

/* A world without a name: its descriptor is what leads to it, and goes to the supervisor, whose children inherit it. */
static void send_descriptor(const cove_segment *segment)
{
    int fd = (int)must(cove_segment_fd(segment), "the segment's descriptor");
    must(cove_fd_send(founding_socket, fd), "send a descriptor");
    (void)close(fd);
}

void found_world(uint32_t seat, uint64_t seed)
{
    (void)seat, (void)seed;
    struct worker worker = {.seat = &ledger->seats[WORKERS]};
    /* System V memory cannot grow. */
    struct cove_options options = {
        .flags = COVE_EXCLUSIVE, .max_members = MEMBERS, .size_bytes = storm_place == IN_SYSV ? 16 << 20 : 64 << 10};
    void *memory = NULL;
    uint64_t blocks = 0;
    begin_doing(&worker, DOING_OPEN);
    must(cove_open(&worker.segment, storm_place == IN_FD ? "memfd:" : segment_name, &options), "create");
    if (storm_place == IN_FD)
        send_descriptor(worker.segment);
    atomic_store(&ledger->overhead_bytes, used_bytes(worker.segment, &blocks));
    must(cove_object_open(&memory, worker.segment, WORLD_NAME, &world_type, COVE_EXCLUSIVE), "make the world");
    worker.world = memory;
    for (uint32_t i = 0; i < ACCOUNTS; i++)
        worker.world->accounts[i].cents = START_CENTS;
    atomic_store(&ledger->world_ref, cove_ref_of(worker.segment, memory));
    close_world(&worker);
    exit(0);
}

static void print_finding(const char *sentence, void *context)
{
    printf("  check, %s: %s\n", (const char *)context, sentence);
}

void check_sound(cove_segment *segment, char *when)
{
    int64_t findings = must(cove_segment_check(segment, print_finding, when), "check");
    if (findings != 0) {
        (void)fflush(stdout);
        fault("the check found %lld things wrong %s", (long long)findings, when);
    }
}

/* Recovery leaves nobody but us. */
void judge_members(struct worker *worker)
{
    struct cove_member_info members[MEMBERS];
    begin_doing(worker, DOING_RECOVER);
    must(cove_recover(worker->segment), "recover");
    int64_t count = must(cove_segment_members(worker->segment, members, MEMBERS), "list members");
    if (count != 1)
        fault("%lld members after recovery, where there should be one; the first is %s (pid %d)", (long long)count,
              members[0].command, members[0].pid);
    if (cove_recover(worker->segment) != 0)
        fault("a second recovery found something to do");
    end_doing(worker, DOING_RECOVER);
}

void judge_contents(struct worker *worker)
{
    int64_t sum = count_money(worker->world);
    if (sum != ACCOUNTS * START_CENTS)
        fault("there are %lld cents in the end, not %d", (long long)sum, ACCOUNTS * START_CENTS);
    for (uint32_t i = 0; i < ACCOUNTS; i++) { /* every lock can be had at once */
        must(cove_mutex_lock(worker->segment, &worker->world->accounts[i].lock, COVE_NOWAIT), "lock in the end");
        unlock(worker, &worker->world->accounts[i].lock);
    }
    for (uint32_t i = 0; i < CHAINS; i++)
        check_chain(worker->segment, &worker->world->chains[i]);
    drain_streams(worker);
}

/* Free and remove all that we know of: what is in use then has leaked. */
static void take_down(struct worker *worker)
{
    struct cove_object_info objects[64];
    for (uint32_t i = 0; i < CHAINS; i++)
        free_chain(worker, &worker->world->chains[i]);
    int64_t count = must(cove_objects(worker->segment, objects, 64), "list objects");
    for (int64_t i = 0; i < count; i++)
        must(cove_object_remove(worker->segment, objects[i].name), "remove an object in the end");
    check_sound(worker->segment, "after taking all down");
    uint64_t blocks = 0, used = used_bytes(worker->segment, &blocks), empty = atomic_load(&ledger->overhead_bytes);
    if (blocks != 0 || used != empty)
        fault("leaked: %llu blocks, %lld bytes", (unsigned long long)blocks, (long long)(used - empty));
}

void judge_world(uint32_t seat, uint64_t seed)
{
    (void)seat, (void)seed;
    struct worker worker = {.seat = &ledger->seats[WORKERS], .random = 1};
    static char when[] = "when everybody was gone";
    open_world(&worker);
    judge_members(&worker);
    begin_doing(&worker, DOING_JUDGE);
    check_sound(worker.segment, when);
    judge_contents(&worker);
    take_down(&worker);
    end_doing(&worker, DOING_JUDGE);
    close_world(&worker);
    begin_doing(&worker, DOING_UNLINK);
    if (storm_place != IN_FD)
        must(cove_unlink(segment_name, 0), "unlink");
    end_doing(&worker, DOING_UNLINK);
    exit(0);
}
