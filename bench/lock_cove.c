/* lock_cove.c - Cove's ways to keep others out: mutex, rwlock, semaphore.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Each lies in an object of its own, at a cache line. The row's process makes them and closes the segment again:
 * those who use them attach by themselves, as programs do. */
#include "bench.h"
#include "cove_site.h"
#include "lock.h"

#include <cove.h>

cove_segment *site_segment;

void site_check(int result, const char *what)
{
    if (result < 0)
        fail_row("%s: %s: %s", what, cove_errname(result), cove_last_error());
}

void site_open(const struct lock_site *site)
{
    if (!site_segment)
        site_check(cove_open(&site_segment, site->segment, NULL), "cove_open");
}

void site_close(struct lock_site *site)
{
    (void)site;
    if (site_segment)
        site_check(cove_close(site_segment), "cove_close");
    site_segment = NULL;
}

void site_enter(struct lock_site *site)
{
    static const struct cove_type type = {.name = "bench", .version = 1, .size_bytes = sizeof(struct site_object)};
    void *object;

    site_open(site);
    site_check(cove_object_open(&object, site_segment, site->name, &type, 0), "cove_object_open");
    /* Objects lie at addresses that are alike modulo a page in all processes. */
    site->handle = (void *)(((uintptr_t)object + SITE_LINE - 1) / SITE_LINE * SITE_LINE);
}

static int make(struct lock_site *site)
{
    site_enter(site);
    site_close(site);
    return 0;
}

/* ---- mutex ---- */

static int fair_make(struct lock_site *site)
{
    site_enter(site);
    *(cove_mutex *)site->handle = (cove_mutex)COVE_MUTEX_FAIR;
    site_close(site);
    return 0;
}

LOCK_LOOPS(mutex, cove_mutex, cove_mutex_lock(site_segment, handle, COVE_FOREVER),
           cove_mutex_unlock(site_segment, handle))
const struct lock_way way_cove_mutex = {
    .name = "cove", .make = make, .enter = site_enter, .alone = mutex_alone, .work = mutex_work, .leave = site_close};
const struct lock_way way_cove_fair = {.name = "cove fair",
                                       .make = fair_make,
                                       .enter = site_enter,
                                       .alone = mutex_alone,
                                       .work = mutex_work,
                                       .leave = site_close};

/* ---- rwlock ---- */

#define READ_LOCK cove_rwlock_lock_shared(site_segment, handle, COVE_FOREVER)
#define WRITE_LOCK cove_rwlock_lock(site_segment, handle, COVE_FOREVER)
#define UNLOCK cove_rwlock_unlock(site_segment, handle)
LOCK_LOOPS(write, cove_rwlock, WRITE_LOCK, UNLOCK)
READ_LOOPS(read, cove_rwlock, READ_LOCK, UNLOCK)
MIXED_LOOP(mixed, cove_rwlock, WRITE_LOCK, UNLOCK, READ_LOCK, UNLOCK)
#define RWLOCK(name_, prefix) \
    .name = name_, .make = make, .enter = site_enter, .work = prefix##_work, .leave = site_close
const struct lock_way way_cove_write = {RWLOCK("cove rwlock", write), .alone = write_alone};
const struct lock_way way_cove_read = {RWLOCK("cove", read), .alone = read_alone};
const struct lock_way way_cove_mixed = {RWLOCK("cove", mixed)};

/* ---- semaphore, with one permit ---- */

static int semaphore_make(struct lock_site *site)
{
    site_enter(site);
    site_check(cove_semaphore_post(site_segment, site->handle, 1), "cove_semaphore_post");
    site_close(site);
    return 0;
}

LOCK_LOOPS(owned, cove_semaphore, cove_semaphore_acquire(site_segment, handle, COVE_FOREVER),
           cove_semaphore_release(site_segment, handle))
LOCK_LOOPS(plain, cove_semaphore, cove_semaphore_wait(site_segment, handle, COVE_FOREVER),
           cove_semaphore_post(site_segment, handle, 1))
#define SEMAPHORE(name_, prefix)                                                                                \
    .name = name_, .make = semaphore_make, .enter = site_enter, .alone = prefix##_alone, .work = prefix##_work, \
    .leave = site_close
const struct lock_way way_cove_owned = {SEMAPHORE("cove owned", owned)};
const struct lock_way way_cove_plain = {SEMAPHORE("cove plain", plain)};
