/* process.c - what Cove keeps for a process and for each of its threads: handles, lanes, and the answer to fork.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A forked child is not its parent: it has no row, no lane, and must drop the parent's lock descriptors at once, or
 * the parent would seem to live as long as the child. The atfork handler does that. A fork that goes around the
 * handlers (a raw clone) is found by a word that the kernel zeroes in every child: each handle remembers the word's
 * value (the epoch) of the process that opened it. What the shortest paths look at (struct covei_cache) lies in such
 * memory as well.
 *
 * A thread that ends gives its lanes back through a pthread key's destructor; if it ends holding locks, or inside a
 * transaction, it is rolled back as if it had died. The library is linked with -z nodelete, so the destructor
 * outlives dlclose. */
#include "segment/segment.h"

#include <errno.h>
#include <stdlib.h>

static struct covei_cache no_cache; /* of a thread that has none: matches no segment */
_Thread_local struct covei_thread covei_thread = {.cache = &no_cache};

static uint32_t never_wiped;
uint32_t *covei_fork_word = &never_wiped;
struct cove_segment *covei_registry;

static pthread_mutex_t registry_mutex;
static pthread_once_t prepared = PTHREAD_ONCE_INIT;
static pthread_key_t thread_key;
static int prepare_result;
static uint32_t last_epoch;

int covei_cancel_hold(void)
{
    int before = PTHREAD_CANCEL_ENABLE;
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    return before;
}

void covei_cancel_restore(int before)
{
    (void)pthread_setcancelstate(before, NULL);
}

static int registry_cancel; /* of the thread that has the registry */

void covei_registry_lock(void)
{
    int before = covei_cancel_hold();
    (void)pthread_mutex_lock(&registry_mutex);
    registry_cancel = before;
}

void covei_registry_unlock(void)
{
    int before = registry_cancel;
    (void)pthread_mutex_unlock(&registry_mutex);
    covei_cancel_restore(before);
}

/* ---- caches: in pages that are wiped on fork, cut into lines; guarded by the registry's lock */

#define CACHES_A_PAGE (COVEI_PAGE / sizeof(struct covei_cache))

struct cache_page {
    struct cache_page *next;
    struct covei_cache *caches;
    uint64_t used; /* bit n: caches[n] is a thread's */
};
static struct cache_page *cache_pages;
_Static_assert(CACHES_A_PAGE == 64, "a page's caches are counted in one word");

static struct cache_page *page_with_room(void)
{
    struct cache_page *page = cache_pages;
    while (page && ~page->used == 0)
        page = page->next;
    if (page)
        return page;
    page = calloc(1, sizeof *page);
    void *memory = page ? covei_os->wiped_page() : NULL;
    if (!memory) {
        free(page);
        return NULL;
    }
    page->caches = memory;
    page->next = cache_pages;
    cache_pages = page;
    return page;
}

static void take_cache(void)
{
    struct cache_page *page = page_with_room();
    if (!page)
        return; /* the longer way works too */
    int place = __builtin_ctzll(~page->used);
    page->used |= UINT64_C(1) << place;
    covei_thread.cache = &page->caches[place];
    *covei_thread.cache = (struct covei_cache){0};
}

static void give_cache(void)
{
    for (struct cache_page *page = cache_pages; page; page = page->next)
        if (covei_thread.cache >= page->caches && covei_thread.cache < page->caches + CACHES_A_PAGE)
            page->used &= ~(UINT64_C(1) << (covei_thread.cache - page->caches));
    covei_thread.cache = &no_cache;
}

bool covei_cache_is_shared(void)
{
    return covei_thread.cache == &no_cache;
}

void covei_cache_forget(const struct covei_lane *lane)
{
    if (!covei_cache_is_shared() && (!lane || covei_thread.lane == lane))
        *covei_thread.cache = (struct covei_cache){0};
}

static void thread_ends(void *unused)
{
    (void)unused;
    if (*covei_fork_word == 0)
        covei_lanes_forget();
    while (covei_thread.lanes) {
        struct covei_lane *lane = covei_thread.lanes;
        covei_lane_release(lane);
    }
    covei_registry_lock();
    give_cache();
    covei_registry_unlock();
}

/* In the child: drop the locks' descriptors and forget every handle; they stay allocated, and refuse. The list of
 * this thread's robust mutexes still leads through the parent's lanes, in shared memory, and the next lock would be
 * linked to them: glibc empties it in fork, but not where a child was made around fork, and musl never does. */
static void forget_parent(void)
{
    for (struct cove_segment *segment = covei_registry; segment; segment = segment->next)
        if (segment->lock_file >= 0) {
            covei_os->file_close(segment->lock_file);
            if (segment->alive_file == segment->lock_file)
                segment->alive_file = -1; /* else the child keeps it: COVE_HELD_BY_CHILDREN */
            segment->lock_file = -1;
        }
    covei_registry = NULL;
    if (covei_thread.robust_list)
        covei_os->robust_list_reset(covei_thread.robust_list);
    covei_lanes_forget();
}

static void make_registry_mutex(void)
{
    (void)pthread_mutex_init(&registry_mutex, NULL);
}

static void in_child(void)
{
    *covei_fork_word = 0; /* the kernel did it already, where it can */
    forget_parent();
    covei_cancel_restore(registry_cancel);
    make_registry_mutex(); /* held by the fork's prepare handler, in the name of a thread that is not here */
}

static void prepare_once(void)
{
    make_registry_mutex();
    int error = pthread_key_create(&thread_key, thread_ends);
    if (error == 0)
        error = pthread_atfork(covei_registry_lock, covei_registry_unlock, in_child);
    prepare_result = -error;
    uint32_t *word = error == 0 ? covei_os->wiped_page() : NULL;
    if (word)
        covei_fork_word = word;
    *covei_fork_word = 0;
}

int covei_process_prepare(void)
{
    (void)pthread_once(&prepared, prepare_once);
    if (prepare_result < 0)
        return covei_error(prepare_result, "no memory for the process's own books");
    covei_registry_lock();
    if (*covei_fork_word == 0) {
        if (covei_registry) /* a fork that went around the handlers */
            forget_parent();
        *covei_fork_word = ++last_epoch;
    }
    covei_registry_unlock();
    return 0;
}

uint32_t covei_process_epoch(void)
{
    return *covei_fork_word;
}

void covei_thread_begin(void)
{
    (void)pthread_setspecific(thread_key, &covei_thread);
    if (!covei_thread.robust_list)
        covei_thread.robust_list = covei_os->robust_list_find();
    covei_registry_lock();
    if (covei_cache_is_shared())
        take_cache();
    covei_registry_unlock();
}

int covei_segment_usable(const struct cove_segment *segment)
{
    if (!segment)
        return covei_error(-EINVAL, "the segment is NULL");
    if (covei_segment_broken(segment))
        return covei_error(COVE_ETRUNCATED,
                           "%s: somebody truncated its file under us; close it, and remove the file (cove rm --force)",
                           segment->name);
    if (!covei_segment_current(segment))
        return covei_error(COVE_EFORKED,
                           "%s: this process was forked after its parent opened the segment; open it here too",
                           segment->name);
    /* relaxed: a use that races with the close is the caller's mistake; this only finds the plain ones. */
    if (atomic_load_explicit(&segment->closed, memory_order_relaxed))
        return covei_error(COVE_ECLOSED, "%s: the segment was closed", segment->name);
    return 0;
}
