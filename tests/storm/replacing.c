/* replacing.c - a storm over regions that are replaced and read: whoever reads finds all of one contents.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * None is older than what was acknowledged when he began. Contents number n has a size and bytes that are functions of n. One process replaces each region, the others map
 * what is there, compare every byte, and compare again what they still have mapped when it has been replaced. All are
 * killed at random. In the end the last contents are there, and nothing else is in the directory. */
#include "storm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LARGEST = 200000, LEAST = 64 };

struct contents {
    uint64_t number;
    uint64_t size_bytes;
    unsigned char bytes[LARGEST];
};

static const char *region_name(uint32_t which)
{
    static char name[200];
    if (which == 0)
        return "posix:/swap";
    (void)snprintf(name, sizeof name, "file:%s/swap.file", cove_directory());
    return name;
}

/* Returns how many bytes of `contents` are to be written. */
static uint64_t make_contents(struct contents *contents, uint64_t number)
{
    uint64_t state = number, size = LEAST + below(&state, LARGEST - LEAST);
    contents->number = number;
    contents->size_bytes = size;
    for (uint64_t i = 0; i < size; i++)
        contents->bytes[i] = (unsigned char)(number * 31 + i * 7 + (i >> 8));
    return offsetof(struct contents, bytes) + size;
}

/* ---- who writes */

static void replace(struct worker *worker, uint32_t which)
{
    static struct contents contents;
    struct region_ledger *ours = &ledger->regions[which];
    begin_doing(worker, DOING_REPLACE);
    uint64_t number = atomic_load(&ours->replacing) + 1;
    uint64_t size = make_contents(&contents, number);
    atomic_store(&ours->replacing, number);
    must(cove_region_replace(region_name(which), &contents, size, NULL), "replace");
    atomic_store(&ours->replaced, number);
    end_doing(worker, DOING_REPLACE);
}

/* ---- who reads */

static void compare(const cove_region *region, uint32_t which, uint64_t number)
{
    static struct contents wanted;
    uint64_t size = make_contents(&wanted, number);
    if (cove_region_size(region) != size)
        fault("region %u: contents %llu have %llu bytes, and the region %llu", which, (unsigned long long)number,
              (unsigned long long)size, (unsigned long long)cove_region_size(region));
    if (memcmp(cove_region_data(region), &wanted, size) != 0)
        fault("region %u: its bytes are not those of contents %llu", which, (unsigned long long)number);
}

static void raise_seen(struct region_ledger *ours, uint64_t number)
{
    uint64_t seen = atomic_load(&ours->seen);
    while (number > seen && !atomic_compare_exchange_weak(&ours->seen, &seen, number))
        ;
}

static void cat(struct worker *worker, uint32_t which)
{
    struct region_ledger *ours = &ledger->regions[which];
    cove_region *region = NULL;
    begin_doing(worker, DOING_CAT);
    uint64_t replaced = atomic_load(&ours->replaced), seen = atomic_load(&ours->seen);
    must(cove_region_open(&region, region_name(which), &(struct cove_region_options){.flags = COVE_READONLY}),
         "open a region");
    if (cove_region_size(region) < offsetof(struct contents, bytes))
        fault("region %u: it has %llu bytes", which, (unsigned long long)cove_region_size(region));
    uint64_t number = ((const struct contents *)cove_region_data(region))->number;
    if (number < replaced || number < seen || number > atomic_load(&ours->replacing))
        fault("region %u: contents %llu, when %llu had been acknowledged, %llu seen, and %llu begun", which,
              (unsigned long long)number, (unsigned long long)replaced, (unsigned long long)seen,
              (unsigned long long)atomic_load(&ours->replacing));
    compare(region, which, number);
    raise_seen(ours, number);
    if (one_in(&worker->random, 4)) {
        for (int i = 0; i < 20 && atomic_load(&ours->replaced) == number; i++)
            nap_ns(100000);
        compare(region, which, number); /* replaced or not: what we have mapped stays as it was */
    }
    must(cove_region_close(region), "close a region");
    end_doing(worker, DOING_CAT);
}

/* ---- the acts */

static void found(uint32_t seat, uint64_t seed)
{
    struct worker worker = {.seat = &ledger->seats[seat], .random = seed};
    memset(ledger->regions, 0, sizeof ledger->regions);
    for (uint32_t which = 0; which < REGIONS; which++)
        replace(&worker, which);
    exit(0);
}

static void replace_or_cat(uint32_t seat, uint64_t seed)
{
    struct worker worker = {.seat = &ledger->seats[seat], .random = seed};
    while (!atomic_load(&ledger->stop))
        if (seat < REGIONS)
            replace(&worker, seat);
        else
            cat(&worker, (uint32_t)below(&worker.random, REGIONS));
    exit(0);
}

static void judge(uint32_t seat, uint64_t seed)
{
    struct worker worker = {.seat = &ledger->seats[seat], .random = seed};
    for (uint32_t which = 0; which < REGIONS; which++)
        cat(&worker, which);
    begin_doing(&worker, DOING_GC);
    must(cove_gc(0, NULL, NULL), "gc in the end");
    for (uint32_t which = 0; which < REGIONS; which++)
        must(cove_region_unlink(region_name(which), 0), "remove a region");
    end_doing(&worker, DOING_GC);
    exit(0);
}

bool replace_storm(const struct plan *plan, uint64_t *killed)
{
    const struct act act = {.found = found, .work = replace_or_cat, .judge = judge, .gap_ns = 8000000};
    bool good = storm_rounds(plan, &act, "storm of replacing", killed);
    print_done("storm of replacing", (const enum doing[]){DOING_REPLACE, DOING_CAT}, 2);
    return good;
}
