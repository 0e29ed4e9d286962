/* region_fault.c - regions: memory that is taken away, or was never there.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "conformance.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Another process makes it smaller. Who cannot be held off by the system: "no". */
static void cut(struct subject *s, void *size_bytes)
{
    int file = foreign_open(s);
    if (file < 0)
        return; /* System V: there is no call for it */
    int result = ftruncate(file, (off_t)(uintptr_t)size_bytes);
    int error = errno;
    (void)close(file);
    if (result == 0)
        reach(STEP_DONE);
    else
        CHECK(error == EPERM);
}

static bool was_cut(void)
{
    return atomic_load_explicit(number_of(7), memory_order_relaxed) != 0;
}

static void let_cut(struct subject *s, uint64_t size_bytes)
{
    join(start(cut, s, (void *)(uintptr_t)size_bytes));
    struct figures figures;
    CHECK(foreign_look(s, &figures));
    atomic_store_explicit(number_of(7), figures.size_bytes == size_bytes, memory_order_relaxed);
}

static void sealed(struct subject *s)
{
    struct cove_region_info info;
    cove_region *region = region_make(s, SIZE_BYTES);
    EQUAL(0, cove_region_stat(region, &info));
    let_cut(s, 0);
    CHECK(was_cut() == !info.sealed);
    if (was_cut())
        IT_DOES_NOT();
    ((uint8_t *)cove_region_data(region))[SIZE_BYTES - 1] = 1;
    region_leave(s, region);
}

/* Told by the books, and by every later opening. */
static void truncated(struct subject *s)
{
    struct cove_region_info info;
    cove_region *region = region_make(s, SIZE_BYTES), *more = NULL;
    let_cut(s, 0);
    if (!was_cut())
        IT_DOES_NOT();
    EQUAL(COVE_ETRUNCATED, cove_region_stat(region, &info));
    CHECK(info.size_bytes == 0);
    EQUAL(-EMSGSIZE,
          cove_region_open(&more, s->other, &(struct cove_region_options){.flags = COVE_EXISTING, .size_bytes = 1}));
    region_leave(s, region);
}

struct accessing {
    struct subject *subject;
    unsigned calls;
};

/* The region shrinks while we are in the middle of it. */
static int access_while_cut(void *data, uint64_t size_bytes, void *context)
{
    struct accessing *accessing = context;
    volatile uint8_t *bytes = data;
    bytes[0] = 1;
    let_cut(accessing->subject, 0);
    accessing->calls++;
    for (uint64_t i = 0; was_cut() && i < size_bytes; i += 1000) {
        CHECK(bytes[i] == 0);
        bytes[i] = 2;
        CHECK(bytes[i] == 2);
    }
    return 5;
}

static void guarded(struct subject *s)
{
    struct accessing accessing = {.subject = s};
    cove_region *region = region_make(s, SIZE_BYTES);
    int result = cove_region_guard(region, access_while_cut, &accessing);
    CHECK(accessing.calls == 1);
    if (!was_cut()) { /* nothing to guard against; it must do no harm */
        EQUAL(5, result);
        region_leave(s, region);
        IT_DOES_NOT();
    }
    EQUAL(COVE_ETRUNCATED, result);
    EQUAL(COVE_ETRUNCATED, cove_region_guard(region, access_while_cut, &accessing));
    region_leave(s, region);
}

static int store_a_byte(void *data, uint64_t size_bytes, void *context)
{
    (void)context;
    ((uint8_t *)data)[size_bytes - 1] = 3;
    return 4;
}

/* Opened with COVE_GUARD: a plain touch finds zeros, and the next call says what happened. */
static void guarded_from_the_start(struct subject *s)
{
    struct cove_region_info info;
    cove_region *region = region_make_as(s,
                                         &(struct cove_region_options){.flags = COVE_GUARD, .size_bytes = SIZE_BYTES});
    volatile uint8_t *bytes = cove_region_data(region);
    EQUAL(4, cove_region_guard(region, store_a_byte, NULL));
    bytes[0] = 1;
    let_cut(s, 0);
    if (!was_cut()) {
        CHECK(bytes[0] == 1);
        region_leave(s, region);
        IT_DOES_NOT();
    }
    CHECK(bytes[0] == 0);
    bytes[0] = 2;
    CHECK(bytes[0] == 2);
    EQUAL(COVE_ETRUNCATED, cove_region_stat(region, &info));
    region_leave(s, region);
}

/* ---- the process's own handler */

static sigjmp_buf back;
static volatile sig_atomic_t own_calls;

static void own_handler(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)info;
    (void)context;
    own_calls++;
    siglongjmp(back, 1);
}

/* A mapping of this program's own, of a file that lost its memory. */
static volatile uint8_t *lost_page(void)
{
    int file = memfd_create("lost", MFD_CLOEXEC);
    CHECK(file >= 0 && ftruncate(file, 4096) == 0);
    volatile uint8_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    CHECK(page != MAP_FAILED && ftruncate(file, 0) == 0);
    (void)close(file);
    return page;
}

static int touch_lost_page(void *data, uint64_t size_bytes, void *page)
{
    (void)size_bytes;
    ((uint8_t *)data)[0] = 1;
    if (sigsetjmp(back, 1) == 0)
        *(volatile uint8_t *)page = 1;
    return 6;
}

static void own_handler_works(struct subject *s)
{
    struct sigaction own = {.sa_sigaction = own_handler, .sa_flags = SA_SIGINFO};
    volatile uint8_t *page = lost_page();
    CHECK(sigaction(SIGBUS, &own, NULL) == 0);
    cove_region *region = region_make(s, SIZE_BYTES);
    EQUAL(6, cove_region_guard(region, touch_lost_page, (void *)(uintptr_t)page));
    CHECK(own_calls == 1);
    if (sigsetjmp(back, 1) == 0)
        *page = 1; /* outside of it likewise */
    CHECK(own_calls == 2);
    region_leave(s, region);
}

/* No handler before: what is not ours still kills, as it would have without Cove. */
static void dies_of_its_own(struct subject *s, void *page)
{
    cove_region *region = region_make(s, SIZE_BYTES);
    EQUAL(4, cove_region_guard(region, store_a_byte, NULL));
    *(volatile uint8_t *)page = 1;
}

static void own_fault_kills(struct subject *s)
{
    struct figures figures;
    CHECK(signal_of(dies_of_its_own, s, (void *)(uintptr_t)lost_page()) == SIGBUS);
    if (subject_named(s) && foreign_look(s, &figures))
        foreign_remove(s);
}

/* ---- too little memory */

#define ROOM_BYTES (UINT64_C(1) << 20)

static uint64_t room(struct subject *s)
{
    if (s->backend->kind == KIND_MEMFD || s->backend->kind == KIND_FD)
        NOT_HERE(); /* the system sets no limit, and the machine's memory is not to be filled */
    shrink_machine(s, s->backend->kind == KIND_HUGE ? 2 * s->page_bytes : ROOM_BYTES);
    return s->backend->kind == KIND_HUGE ? 2 * s->page_bytes : ROOM_BYTES;
}

/* An error when it is made, in numbers, and nothing left; what fits is made, and there is memory behind each page. */
static void full(struct subject *s)
{
    struct figures figures;
    char needed[24];
    uint64_t size = room(s);
    cove_region *region = NULL;
    (void)snprintf(needed, sizeof needed, "%" PRIu64, 4 * size);
    int result = cove_region_open(&region, s->name, &(struct cove_region_options){.size_bytes = 4 * size});
    if (strcmp(s->backend->label, "hugetry") == 0 && result == COVE_CREATED)
        IT_DOES_NOT(); /* normal pages, of which there are more */
    SAYS(-ENOSPC, needed, result);
    CHECK(!region && !foreign_look(s, &figures));
    region = region_make(s, size / 2);
    memset(cove_region_data(region), 1, size / 2);
    region_leave(s, region);
}

/* No memory, and a program that touches what it was given: never SIGBUS. */
static void full_then_touched(struct subject *s)
{
    uint64_t size = room(s);
    if (s->backend->kind == KIND_SYSV)
        NOT_HERE(); /* its limit is counted when a segment is made */
    char filler[PATH_BYTES + 8];
    cove_region *region = region_make(s, size / 2);
    (void)snprintf(filler, sizeof filler, "%s.filler", s->path);
    int file = open(filler, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    CHECK(file >= 0);
    while (fallocate(file, 0, 0, (off_t)size) < 0 && size > s->page_bytes)
        size -= s->page_bytes; /* the rest is somebody else's */
    memset(cove_region_data(region), 1, cove_region_size(region));
    CHECK(close(file) == 0 && unlink(filler) == 0);
    region_leave(s, region);
}

/* ---- no huge pages */

static void without_huge_pages(struct subject *s)
{
    cove_region *region = NULL;
    if (s->backend->kind != KIND_HUGE)
        NOT_HERE();
    take_huge_pages_away();
    bool may_do_without = strcmp(s->backend->label, "hugetry") == 0;
    CHECK(cove_supports(s->name, COVE_CAN_USE) == may_do_without);
    int result = cove_region_open(&region, s->name, &(struct cove_region_options){.size_bytes = SIZE_BYTES});
    if (!may_do_without) {
        SAYS(-EOPNOTSUPP, "mount -t hugetlbfs", result);
        IT_DOES_NOT();
    }
    EQUAL(COVE_CREATED, result);
    CHECK(cove_region_size(region) == SIZE_BYTES);
    EQUAL(0, cove_region_close(region));
    EQUAL(0, cove_region_unlink(s->name, 0));
}

static const struct row table[] = {
    {"region.sealed", sealed, COVE_CAN_SEAL},
    {"region.truncated", truncated, NO_FEATURE},
    {"region.guarded", guarded, NO_FEATURE},
    {"region.guarded-from-start", guarded_from_the_start, NO_FEATURE},
    {"region.own-handler", own_handler_works, NO_FEATURE},
    {"region.own-fault-kills", own_fault_kills, NO_FEATURE},
    {"region.full", full, NO_FEATURE},
    {"region.full-then-touched", full_then_touched, COVE_CAN_RESERVE},
    {"region.without-huge-pages", without_huge_pages, NO_FEATURE},
};
const struct rows region_fault_rows = ROWS(table);
