/* guard.h - for tests of guarded mappings: memory that goes, and those who touch it then.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Who truncates here is the process itself, through another descriptor: to the mapping that is the same. */
#ifndef GUARD_H
#define GUARD_H

#include "unit.h"

#include <cove/region.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

#define PAGES 4u
#define SIZE ((uint64_t)PAGES * 4096)

/* Whoever works under sanitizers or valgrind finds their handlers where ours should be alone. */
#define SKIP_WHERE_SIGNALS_ARE_OTHERS()                            \
    do {                                                           \
        if (UNIT_SANITIZED)                                        \
            testing_skip("sanitizers have handlers of their own"); \
    } while (0)

/* ---- memory that goes */

static inline cove_region *region_of(const char *name, uint32_t flags)
{
    cove_region *region = NULL;
    EXPECT_GOOD(cove_region_open(&region, name, &(struct cove_region_options){.size_bytes = SIZE, .flags = flags}));
    return region;
}

static inline void cut(const char *name, uint64_t size_bytes)
{
    assert_int_equal(truncate(unit_path(name), (off_t)size_bytes), 0);
}

static inline void drop(const char *name, cove_region *region)
{
    EXPECT(0, cove_region_close(region));
    EXPECT(0, cove_region_unlink(name, 0));
}

/* A page of this program's own whose memory is gone. */
static inline volatile unsigned char *lost_page(void)
{
    int file = memfd_create("lost", MFD_CLOEXEC);
    assert_int_equal(ftruncate(file, 4096), 0);
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    assert_ptr_not_equal(page, MAP_FAILED);
    assert_int_equal(ftruncate(file, 0), 0);
    assert_int_equal(close(file), 0);
    return page;
}

static inline void drop_page(volatile unsigned char *page)
{
    assert_int_equal(munmap((void *)(uintptr_t)page, 4096), 0);
}

struct visit {
    const char *name;
    cove_region *region; /* to guard once more, inside */
    uint64_t cut_to;
    int result;
};

/* Touches all of it after it was made smaller. */
static inline int touch_all(void *data, uint64_t size_bytes, void *context)
{
    const struct visit *visit = context;
    volatile unsigned char *bytes = data;
    cut(visit->name, visit->cut_to);
    for (uint64_t at = 0; at < size_bytes; at += 512) {
        assert_int_equal(bytes[at], at < visit->cut_to ? 1 : 0);
        bytes[at] = 2;
        assert_int_equal(bytes[at], 2);
    }
    return visit->result;
}

static inline int touch_nothing(void *data, uint64_t size_bytes, void *context)
{
    (void)data;
    (void)size_bytes;
    return *(int *)context;
}

#endif
