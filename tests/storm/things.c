/* things.c - memory that belongs to a member, growth, and objects that come and go.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "storm.h"

#include <errno.h>
#include <string.h>

static cove_ref take(struct worker *worker, size_t size)
{
    cove_ref ref = cove_alloc(worker->segment, size);
    unsigned char *bytes = ref ? cove_at(worker->segment, ref, size) : NULL;
    if (!bytes)
        fault("alloc of %zu bytes: %s", size, cove_last_error());
    memset(bytes, (int)(size & 0xff), size);
    return ref;
}

static void give(struct worker *worker, cove_ref ref, size_t size)
{
    const unsigned char *bytes = cove_at(worker->segment, ref, size);
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != (unsigned char)(size & 0xff))
            fault("byte %zu of a block of our own (%zu bytes) was changed", i, size);
    if (cove_usable_size(worker->segment, ref) < size)
        fault("a block of %zu bytes says that it holds fewer", size);
    must(cove_free(worker->segment, ref), "free");
}

/* Plain blocks: most are freed, some are left to the close, or to the killer. */
void do_memory(struct worker *worker)
{
    begin_doing(worker, DOING_MEMORY);
    cove_ref refs[4];
    size_t sizes[4];
    for (int i = 0; i < 4; i++)
        refs[i] = take(worker, sizes[i] = (size_t)(1 + below(&worker->random, 2000)));
    for (int i = 0; i < 4; i++)
        if (!one_in(&worker->random, 16))
            give(worker, refs[i], sizes[i]);
    end_doing(worker, DOING_MEMORY);
}

void do_growth(struct worker *worker)
{
    begin_doing(worker, DOING_GROWTH);
    size_t size = (size_t)((1 + below(&worker->random, 12)) << 15);
    give(worker, take(worker, size), size);
    struct cove_segment_info info;
    must(cove_segment_stat(worker->segment, &info), "stat");
    uint64_t largest = atomic_load(&ledger->largest_bytes);
    while (info.size_bytes > largest &&
           !atomic_compare_exchange_weak(&ledger->largest_bytes, &largest, info.size_bytes))
        ;
    end_doing(worker, DOING_GROWTH);
}

static struct cove_type thing_type(uint64_t number)
{
    return (struct cove_type){.name = "thing", .version = 1, .size_bytes = 64 + 100 * number};
}

/* Under the lock for things nobody removes it while we look: what is new must be zero. */
static void thing_in_peace(struct worker *worker, const char *name, const struct cove_type *type)
{
    void *memory = NULL;
    lock(worker, &worker->world->things);
    int64_t result = must(cove_object_open(&memory, worker->segment, name, type, 0), "open an object");
    const unsigned char *bytes = memory;
    for (size_t i = 0; result == COVE_CREATED && i < type->size_bytes; i++)
        if (bytes[i] != 0)
            fault("%s: byte %zu of a new object is %u", name, i, bytes[i]);
    memset(memory, 0xa5, (size_t)type->size_bytes);
    if (one_in(&worker->random, 2))
        must(cove_object_remove(worker->segment, name), "remove an object");
    unlock(worker, &worker->world->things);
}

/* Without it any of these may find that somebody was faster. */
static void thing_in_strife(struct worker *worker, const char *name, const struct cove_type *type)
{
    void *memory = NULL;
    uint32_t flags[] = {0, COVE_EXISTING, COVE_EXCLUSIVE};
    int result = cove_object_open(&memory, worker->segment, name, type, flags[below(&worker->random, 3)]);
    if (result != -ENOENT && result != -EEXIST)
        must(result, "open a loose object");
    result = one_in(&worker->random, 2) ? cove_object_remove(worker->segment, name) : 0;
    if (result != -ENOENT)
        must(result, "remove a loose object");
}

void do_thing(struct worker *worker)
{
    char name[32];
    begin_doing(worker, DOING_THING);
    bool peace = one_in(&worker->random, 2);
    uint64_t number = below(&worker->random, THINGS);
    struct cove_type type = thing_type(number);
    (void)snprintf(name, sizeof name, "%s/%u", peace ? "thing" : "loose", (unsigned)number);
    if (peace)
        thing_in_peace(worker, name, &type);
    else
        thing_in_strife(worker, name, &type);
    end_doing(worker, DOING_THING);
}
