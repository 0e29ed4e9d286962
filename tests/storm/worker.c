/* worker.c - one process of the storm: opens the segment and does whatever comes, until it is killed or told to stop.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "storm.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

const struct cove_type world_type = {.name = "world", .version = 1, .size_bytes = sizeof(struct world)};

void open_world(struct worker *worker)
{
    begin_doing(worker, DOING_OPEN);
    void *memory = NULL;
    must(cove_open(&worker->segment, segment_name, &(struct cove_options){.flags = COVE_EXISTING}), "open");
    must(cove_object_open(&memory, worker->segment, WORLD_NAME, &world_type, COVE_EXISTING), "open the world");
    worker->world = memory;
    end_doing(worker, DOING_OPEN);
}

void close_world(struct worker *worker)
{
    begin_doing(worker, DOING_CLOSE);
    must(cove_close(worker->segment), "close");
    worker->segment = NULL;
    end_doing(worker, DOING_CLOSE);
}

void lock(struct worker *worker, cove_mutex *mutex)
{
    atomic_store(&worker->seat->wants, cove_ref_of(worker->segment, mutex));
    int64_t result = must(cove_mutex_lock(worker->segment, mutex, COVE_FOREVER), "lock");
    if (result == COVE_RECOVERED)
        atomic_fetch_add(&ledger->recovered, 1);
}

void unlock(struct worker *worker, cove_mutex *mutex)
{
    must(cove_mutex_unlock(worker->segment, mutex), "unlock");
}

/* A handle opened twice wants two closes. */
static void open_twice(struct worker *worker)
{
    cove_segment *again = NULL;
    begin_doing(worker, DOING_OPEN);
    must(cove_open(&again, segment_name, NULL), "open again");
    if (again != worker->segment)
        fault("the same name opened twice gives two handles");
    end_doing(worker, DOING_OPEN);
    begin_doing(worker, DOING_CLOSE);
    must(cove_close(again), "close once");
    end_doing(worker, DOING_CLOSE);
}

static void reopen(struct worker *worker)
{
    if (one_in(&worker->random, 2)) {
        open_twice(worker);
        return;
    }
    close_world(worker);
    open_world(worker);
}

static void recover(struct worker *worker)
{
    begin_doing(worker, DOING_RECOVER);
    must(cove_recover(worker->segment), "recover");
    end_doing(worker, DOING_RECOVER);
}

/* ---- a thread that ends */

struct errand {
    struct worker worker;
    struct seat seat; /* of no interest to the supervisor: the owner waits for us, which it sees */
};

static void *run_errand(void *argument)
{
    struct worker *worker = &((struct errand *)argument)->worker;
    for (int i = 0; i < 3; i++) {
        do_transfer(worker);
        do_chain(worker);
        do_memory(worker);
    }
    if (one_in(&worker->random, 2))
        leave_transfer_open(worker); /* a thread that ends like this is rolled back as if it had died */
    return NULL;
}

static void do_thread(struct worker *worker)
{
    pthread_t thread;
    struct errand errand = {.worker = *worker};
    errand.worker.seat = &errand.seat;
    errand.worker.random = next_random(&worker->random);
    begin_doing(worker, DOING_THREAD);
    if (pthread_create(&thread, NULL, run_errand, &errand) != 0)
        fault("no thread");
    struct worker beside = *worker; /* the two of them at once */
    beside.seat = &(struct seat){0};
    for (int i = 0; i < 3; i++)
        do_transfer(&beside);
    worker->random = beside.random;
    (void)pthread_join(thread, NULL);
    end_doing(worker, DOING_THREAD);
}

/* ---- what comes next */

void do_something(struct worker *worker)
{
    static const struct {
        void (*act)(struct worker *);
        uint32_t weight;
    } acts[] = {{do_transfer, 300}, {do_audit, 40},  {do_chain, 250}, {do_spare, 80},  {do_memory, 80}, {do_growth, 10},
                {do_thing, 80},     {do_write, 100}, {do_read, 100},  {do_thread, 10}, {reopen, 20},    {recover, 5}};
    uint32_t sum = 0;
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++)
        sum += acts[i].weight;
    uint64_t choice = below(&worker->random, sum);
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
        if (choice < acts[i].weight) {
            acts[i].act(worker);
            return;
        }
        choice -= acts[i].weight;
    }
}

void work(uint32_t seat, uint64_t seed)
{
    struct worker worker = {.seat = &ledger->seats[seat], .random = seed};
    open_world(&worker);
    /* Some go by themselves now and then: by the book, or without closing. */
    for (uint64_t left = 500 + below(&worker.random, 20000); left > 0 && !atomic_load(&ledger->stop); left--)
        do_something(&worker);
    if (one_in(&worker.random, 4))
        _exit(0);
    close_world(&worker);
    exit(0);
}
