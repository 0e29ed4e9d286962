/* segment_life.c - segments: clearing up after the dead; memory that is taken away, or was never there.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "conformance.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- gc */

static void open_and_die(struct subject *s, void *options)
{
    (void)(options ? segment_make_as(s, options) : segment_open(s, 0));
    (void)raise(SIGKILL);
}

static void note_gc(const char *name, const char *sentence, void *context)
{
    (void)name;
    (void)sentence;
    (*(unsigned *)context)++;
}

/* A member was killed and nobody else is there: gc recovers it, a dry run only says so. */
static void gc_recovers(struct subject *s)
{
    struct cove_segment_info info;
    unsigned told = 0;
    EQUAL(0, cove_close(segment_make(s)));
    CHECK(signal_of(open_and_die, s, NULL) == SIGKILL);
    EQUAL(0, cove_stat(s->other, &info));
    CHECK(info.members_dead == 1 && info.members_alive == 0);
    int64_t would = GOOD(cove_gc(1, note_gc, &told));
    CHECK(told == (unsigned)would);
    EQUAL(0, cove_stat(s->other, &info));
    CHECK(info.members_dead == 1);
    EQUAL(would, cove_gc(0, NULL, NULL));
    EQUAL(0, cove_stat(s->other, &info));
    CHECK(info.members_dead == (would > 0 ? 0 : 1));
    EQUAL(0, cove_gc(0, NULL, NULL));
    segment_leave(s, segment_open(s, 0));
    if (would == 0)
        IT_DOES_NOT();
}

/* A LAST_OUT segment whose last member was killed: gc removes it. KEEP ones stay. */
static void gc_removes(struct subject *s)
{
    struct cove_options options = SMALL_OPTIONS;
    struct figures figures;
    if (!subject_named(s))
        NOT_HERE();
    options.lifetime = COVE_LAST_OUT;
    CHECK(signal_of(open_and_die, s, &options) == SIGKILL);
    CHECK(foreign_look(s, &figures));
    int64_t done = GOOD(cove_gc(0, NULL, NULL));
    bool is_there = foreign_look(s, &figures);
    CHECK(is_there == (done == 0));
    if (!is_there)
        return;
    EQUAL(0, cove_unlink(s->other, 0));
    IT_DOES_NOT();
}

static void gc_keeps(struct subject *s)
{
    EQUAL(0, cove_close(segment_make(s)));
    EQUAL(0, cove_gc(0, NULL, NULL));
    segment_leave(s, segment_open(s, 0));
}

/* ---- truncation */

static void cut(struct subject *s, void *context)
{
    (void)context;
    int file = foreign_open(s);
    if (file < 0)
        return;
    if (ftruncate(file, 0) == 0)
        reach(STEP_DONE);
    else
        CHECK(errno == EPERM);
    (void)close(file);
}

static bool let_cut(struct subject *s)
{
    struct figures figures;
    join(start(cut, s, NULL));
    CHECK(foreign_look(s, &figures));
    return figures.size_bytes == 0;
}

static void sealed(struct subject *s)
{
    cove_segment *segment = segment_make(s);
    if (s->backend->kind == KIND_FD)
        NOT_HERE(); /* it depends on who made the memory: see memfd */
    if (let_cut(s))
        IT_DOES_NOT();
    cove_ref ref = cove_alloc(segment, 1000);
    CHECK(ref && cove_free(segment, ref) == 0);
    segment_leave(s, segment);
}

/* With COVE_GUARD: the process lives, and is told. */
static void guarded(struct subject *s)
{
    struct cove_options options = SMALL_OPTIONS;
    void *object = NULL;
    uint64_t *number = NULL;
    options.flags = COVE_GUARD;
    cove_segment *segment = segment_make_as(s, &options);
    struct cove_type type = {.name = "number", .size_bytes = 8};
    EQUAL(COVE_CREATED, cove_object_open((void **)&number, segment, "number", &type, 0));
    *number = 7;
    if (!let_cut(s)) {
        CHECK(*number == 7);
        segment_leave(s, segment);
        IT_DOES_NOT();
    }
    CHECK(*number == 0);
    EQUAL(COVE_ETRUNCATED, cove_object_open(&object, segment, "more", &type, 0));
    EQUAL(COVE_ETRUNCATED, cove_begin(segment));
    EQUAL(0, cove_close(segment));
    if (subject_named(s))
        EQUAL(0, cove_unlink(s->other, 1));
}

/* Cut while nobody has it: told by who opens it, and force removes it. */
static void cut_while_closed(struct subject *s)
{
    cove_segment *segment = NULL;
    EQUAL(0, cove_close(segment_make(s)));
    if (!let_cut(s)) {
        segment_leave(s, segment_open(s, 0));
        IT_DOES_NOT();
    }
    int result = cove_open(&segment, s->other, NULL);
    CHECK((result == COVE_ECORRUPT || result == COVE_ENOTCOVE) && *cove_last_error() && !segment);
    if (subject_named(s))
        EQUAL(0, cove_unlink(s->other, 1));
}

/* ---- too little memory */

#define ROOM_BYTES (UINT64_C(2) << 20)

static uint64_t room(struct subject *s)
{
    if (s->backend->kind == KIND_MEMFD || s->backend->kind == KIND_FD)
        NOT_HERE(); /* the system sets no limit, and the machine's memory is not to be filled */
    uint64_t size = s->backend->kind == KIND_HUGE ? 2 * s->page_bytes : ROOM_BYTES;
    shrink_machine(s, size);
    return size;
}

static void full(struct subject *s)
{
    struct figures figures;
    cove_segment *segment = NULL;
    uint64_t size = room(s);
    struct cove_options options = {.max_members = 16, .size_bytes = 4 * size};
    int result = cove_open(&segment, s->name, &options);
    if (strcmp(s->backend->label, "hugetry") == 0 && result == COVE_CREATED) {
        segment_leave(s, segment);
        IT_DOES_NOT(); /* normal pages, of which there are more */
    }
    EQUAL(-ENOSPC, result);
    CHECK(!segment && !foreign_look(s, &figures));
    struct cove_options less = {.max_members = 16, .size_bytes = 64 << 10, .max_size_bytes = 512 << 10};
    segment_leave(s, segment_make_as(s, &less));
}

/* There is no more when it grows: an error, after which it works on with what it has. */
static void full_when_growing(struct subject *s)
{
    uint64_t size = room(s), taken = 0;
    struct cove_options options = {.max_members = 16, .size_bytes = 64 << 10, .max_size_bytes = 64 << 20};
    if (s->backend->kind == KIND_SYSV)
        NOT_HERE(); /* it does not grow */
    cove_segment *segment = segment_make_as(s, &options);
    errno = 0;
    while (taken <= size && cove_alloc(segment, 100000) != 0)
        taken += 100000;
    CHECK(taken <= size && taken >= size / 8 && errno == ENOSPC && *cove_last_error());
    cove_ref small = cove_alloc(segment, 64);
    CHECK(small && cove_free(segment, small) == 0);
    segment_leave(s, segment); /* what was taken belongs to the member, and goes with it */
}

static void without_huge_pages(struct subject *s)
{
    cove_segment *segment = NULL;
    if (s->backend->kind != KIND_HUGE)
        NOT_HERE();
    take_huge_pages_away();
    int result = cove_open(&segment, s->name, &(struct cove_options)SMALL_OPTIONS);
    if (strcmp(s->backend->label, "huge") == 0) {
        SAYS(-EOPNOTSUPP, "mount -t hugetlbfs", result);
        IT_DOES_NOT();
    }
    EQUAL(COVE_CREATED, result);
    segment_sound(segment);
    EQUAL(0, cove_close(segment));
    EQUAL(0, cove_unlink(s->name, 0));
}

static const struct row table[] = {
    {"segment.gc-recovers", gc_recovers, NO_FEATURE},
    {"segment.gc-removes", gc_removes, NO_FEATURE},
    {"segment.gc-keeps", gc_keeps, NO_FEATURE},
    {"segment.sealed", sealed, COVE_CAN_SEAL},
    {"segment.guarded", guarded, NO_FEATURE},
    {"segment.cut-while-closed", cut_while_closed, NO_FEATURE},
    {"segment.full", full, NO_FEATURE},
    {"segment.full-when-growing", full_when_growing, COVE_CAN_RESERVE},
    {"segment.without-huge-pages", without_huge_pages, NO_FEATURE},
};
const struct rows segment_life_rows = ROWS(table);
