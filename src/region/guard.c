/* guard.c - surviving the truncation of what is mapped.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Whoever may write to a file may make it smaller, and then every access to a mapped page beyond its new end is
 * SIGBUS.
 * Where there is no seal against it (memfd has one), an access to a guarded mapping is met by the handler: it puts
 * private zeroed memory in the place of the mapping from the page of that access to the end, marks the mapping
 * broken, and lets the access be made again. So the program goes on, with bytes that are nobody else's, up to the
 * next call, which looks at the mark. The handler only reads this table and calls mmap, so it is async-signal-safe.
 * There is no lock: a child that was forked while a thread of its parent held one would wait for it for ever.
 *
 * I1  An entry's `end` is 0 while it is free, TAKEN while its taker fills it in, and stored last. `begin` does not
 *     change while it is an end.
 * Edge B: begin and broken, end release -> end acquire (in the handler), begin. */
#include "region/region.h"

#include "base/error.h"

#include <errno.h>
#include <stdatomic.h>

#define PLACES 256u /* mappings that one process guards at once */

#define TAKEN 1u /* below every address */

static struct covei_guarded places[PLACES];

/* Threads may guard one mapping several times at once: each is told. */
static bool ours(void *address)
{
    uintptr_t at = (uintptr_t)address, farthest = 0, page = 1;
    for (uint32_t i = 0; i < PLACES; i++) {
        uintptr_t end = atomic_load_explicit(&places[i].end, memory_order_acquire); /* edge B */
        uintptr_t begin = atomic_load_explicit(&places[i].begin, memory_order_relaxed);
        if (at < begin || at >= end)
            continue;
        /* release: the mark comes before the memory is replaced. */
        atomic_store_explicit(&places[i].broken, 1, memory_order_release);
        if (places[i].broke)
            places[i].broke(places[i].context);
        farthest = end > farthest ? end : farthest;
        page = places[i].page;
    }
    uintptr_t skip = at % page;
    return farthest != 0 && covei_os->map_zeros((unsigned char *)address - skip, farthest - (at - skip)) == 0;
}

static _Atomic bool guards_all; /* relaxed: set once, before what it is for */

int cove_guard_all(void)
{
    int result = covei_os->fault_guard(ours);
    if (result < 0)
        return covei_error(result, "setting a handler for SIGBUS failed: %s", cove_strerror(result));
    atomic_store_explicit(&guards_all, true, memory_order_relaxed);
    return 0;
}

bool covei_guard_wanted(uint32_t flags)
{
    return flags & COVE_GUARD || atomic_load_explicit(&guards_all, memory_order_relaxed);
}

static struct covei_guarded *take_place(void)
{
    for (uint32_t i = 0; i < PLACES; i++) {
        uintptr_t nobody = 0;
        /* acquire: whoever left it has done with it. */
        if (atomic_compare_exchange_strong_explicit(&places[i].end, &nobody, TAKEN, memory_order_acquire,
                                                    memory_order_relaxed))
            return &places[i];
    }
    return NULL;
}

struct covei_guarded *covei_guard_begin(void *address, uint64_t size_bytes, uint64_t page_bytes, const char *name,
                                        void (*broke)(void *context), void *context, int *result)
{
    *result = covei_os->fault_guard(ours);
    if (*result < 0) {
        (void)covei_error(*result, "%s: setting a handler for SIGBUS failed: %s", name, cove_strerror(*result));
        return NULL;
    }
    struct covei_guarded *guarded = take_place();
    if (!guarded) {
        *result = covei_error(-EMFILE, "%s: this process guards %u mappings already; close some first", name, PLACES);
        return NULL;
    }
    atomic_store_explicit(&guarded->broken, 0, memory_order_relaxed);
    guarded->page = (uintptr_t)page_bytes;
    guarded->broke = broke;
    guarded->context = context;
    atomic_store_explicit(&guarded->begin, (uintptr_t)address, memory_order_relaxed); /* ordered by the release */
    atomic_store_explicit(&guarded->end, (uintptr_t)address + (uintptr_t)size_bytes, memory_order_release);
    return guarded;
}

void covei_guard_end(struct covei_guarded *guarded)
{
    if (guarded)
        atomic_store_explicit(&guarded->end, 0, memory_order_release);
}

void covei_guard_end_of(const void *address)
{
    for (uint32_t i = 0; i < PLACES; i++)
        /* relaxed: nobody else takes or leaves places of a mapping that is just closed. */
        if (atomic_load_explicit(&places[i].end, memory_order_acquire) > TAKEN &&
            atomic_load_explicit(&places[i].begin, memory_order_relaxed) == (uintptr_t)address)
            covei_guard_end(&places[i]);
}
