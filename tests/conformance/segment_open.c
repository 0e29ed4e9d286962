/* segment_open.c - segments: making, finding, refusing, one membership whatever the name.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "conformance.h"

#include <signal.h>
#include <unistd.h>

static const struct cove_options small = SMALL_OPTIONS;

static void create(struct subject *s)
{
    cove_segment *segment = NULL;
    int64_t result = TRY(cove_open(&segment, s->name, &small));
    CHECK(result == COVE_CREATED);
    CHECK(strcmp(cove_segment_name(segment), s->name) == 0);
    if (!subject_named(s))
        subject_has(s, (int)GOOD(cove_segment_fd(segment)));
    segment_leave(s, segment);
}

static void missing(struct subject *s)
{
    cove_segment *segment = NULL;
    ANSWER(-ENOENT, cove_open(&segment, s->name, &(struct cove_options){.flags = COVE_EXISTING}));
    CHECK(!segment);
}

static void missing_to_others(struct subject *s)
{
    struct cove_segment_info info;
    cove_segment *segment = NULL;
    if (!subject_named(s))
        NOT_HERE();
    EQUAL(-ENOENT, cove_stat(s->name, &info));
    EQUAL(-ENOENT, cove_unlink(s->name, 0));
    EQUAL(-ENOENT, cove_unlink(s->name, 1));
    EQUAL(-ENOENT, cove_open(&segment, s->name, &(struct cove_options){.flags = COVE_READONLY}));
}

static void exclusive(struct subject *s)
{
    struct cove_options options = SMALL_OPTIONS;
    cove_segment *segment = NULL, *again = NULL;
    options.flags = COVE_EXCLUSIVE;
    int64_t result = TRY(cove_open(&segment, s->name, &options));
    CHECK(result == COVE_CREATED);
    ANSWER(-EEXIST, cove_open(&again, s->name, &options));
    CHECK(!again);
    segment_leave(s, segment);
}

static uint64_t *the_number(cove_segment *segment, uint32_t flags)
{
    void *object = NULL;
    GOOD(cove_object_open(&object, segment, "number", &(struct cove_type){.name = "number", .size_bytes = 8}, flags));
    return object;
}

/* KEEP: it is there when nobody is. Nameless memory is kept by its descriptor. */
static void kept(struct subject *s)
{
    cove_segment *segment = segment_make(s);
    *the_number(segment, 0) = 77;
    EQUAL(0, cove_close(segment));
    segment = segment_open(s, 0);
    CHECK(*the_number(segment, COVE_EXISTING) == 77);
    segment_leave(s, segment);
}

/* LAST_OUT: it goes with the last, not before. */
static void last_out(struct subject *s)
{
    struct cove_options options = SMALL_OPTIONS;
    struct figures figures;
    options.lifetime = COVE_LAST_OUT;
    cove_segment *segment = segment_make_as(s, &options), *again = NULL;
    if (!subject_named(s))
        NOT_HERE(); /* the system counts for it */
    EQUAL(0, cove_open(&again, s->other, &(struct cove_options){.flags = COVE_EXISTING}));
    EQUAL(0, cove_close(again));
    CHECK(foreign_look(s, &figures));
    segment_sound(segment);
    EQUAL(0, cove_close(segment));
    CHECK(!foreign_look(s, &figures));
    EQUAL(-ENOENT, cove_open(&segment, s->other, &(struct cove_options){.flags = COVE_EXISTING}));
}

static void open_and_die(struct subject *s, void *options)
{
    (void)segment_make_as(s, options);
    (void)raise(SIGKILL);
}

/* Its last member was killed: the next to open that name makes a new one. */
static void last_out_killed(struct subject *s)
{
    struct cove_options options = SMALL_OPTIONS;
    cove_segment *segment = NULL;
    options.lifetime = COVE_LAST_OUT;
    if (!subject_named(s))
        NOT_HERE();
    CHECK(signal_of(open_and_die, s, &options) == SIGKILL);
    EQUAL(-ENOENT, cove_open(&segment, s->other, &(struct cove_options){.flags = COVE_EXISTING}));
    EQUAL(COVE_CREATED, cove_open(&segment, s->name, &small));
    segment_leave(s, segment);
}

static void one_handle(struct subject *s)
{
    cove_segment *one = segment_make(s), *two = segment_open(s, 0);
    struct cove_member_info members[4];
    CHECK(one == two);
    EQUAL(1, cove_segment_members(one, members, 4));
    EQUAL(0, cove_close(two));
    EQUAL(1, cove_segment_members(one, members, 4));
    CHECK(*the_number(one, 0) == 0);
    segment_leave(s, one);
}

/* By every name that it has: one handle, one row of the roster. */
static void two_names(struct subject *s)
{
    char alias[NAME_BYTES];
    struct cove_member_info members[4];
    cove_segment *segment = segment_make(s), *same = NULL;
    unsigned which = 0;
    for (; subject_alias(s, which, alias); which++) {
        int result = cove_open(&same, alias, &(struct cove_options){.flags = COVE_EXISTING});
        if (result != 0)
            FAIL("%s: %s", alias, cove_last_error());
        if (same != segment)
            FAIL("%s and %s are two handles", s->other, alias);
        EQUAL(1, cove_segment_members(segment, members, 4));
        EQUAL(0, cove_close(same));
    }
    CHECK(which > 0 && subject_alias(s, 0, alias));
    CHECK(run_other("segment", alias, "1") == 0 && run_other("segment", s->other, "2") == 0);
    segment_leave(s, segment);
}

/* What hugetry: made of normal pages, or somebody else by the plain name, is what hugetry: opens. */
static void other_form(struct subject *s)
{
    cove_segment *plain = NULL, *same = NULL;
    if (strcmp(s->backend->label, "hugetry") != 0)
        NOT_HERE();
    EQUAL(COVE_CREATED, cove_open(&plain, strchr(s->name, ':') + 1, &small));
    EQUAL(0, cove_open(&same, s->name, &small));
    CHECK(same == plain);
    EQUAL(0, cove_close(same));
    EQUAL(0, cove_close(plain));
    EQUAL(0, cove_unlink(s->name, 0));
    EQUAL(-ENOENT, cove_unlink(strchr(s->name, ':') + 1, 0));
}

/* Memory of somebody else's under that name: told, and left alone, also where removing it is asked for. */
static void foreign_bytes(struct subject *s)
{
    struct cove_segment_info info;
    struct figures figures;
    char maker[24] = "";
    cove_segment *segment = NULL;
    foreign_make(s, 65536);
    uint8_t *bytes = foreign_map(s, 65536);
    memset(bytes, 'x', 65536);
    if (s->backend->kind == KIND_SYSV)
        (void)snprintf(maker, sizeof maker, "pid %d", (int)getpid());
    SAYS(COVE_ENOTCOVE, maker, cove_open(&segment, s->other, &small)); /* of a System V key: whose it is */
    EQUAL(COVE_ENOTCOVE, cove_stat(s->other, &info));
    if (subject_named(s))
        EQUAL(COVE_ENOTCOVE, cove_unlink(s->other, 0));
    CHECK(foreign_look(s, &figures) && bytes[0] == 'x' && bytes[65535] == 'x');
    CHECK(!segment);
    foreign_unmap(s, bytes, 65536);
    foreign_remove(s);
}

/* The same, all zeros: a region that was only just made. */
static void foreign_zeros(struct subject *s)
{
    cove_segment *segment = NULL;
    struct figures figures;
    foreign_make(s, 65536);
    EQUAL(COVE_ENOTCOVE, cove_open(&segment, s->other, &small));
    CHECK(foreign_look(s, &figures) && !segment);
    foreign_remove(s);
}

static void bad_sizes(struct subject *s)
{
    struct figures figures;
    cove_segment *segment = NULL;
    struct cove_options too_small = {.size_bytes = 100},
                        small_maximum = {.size_bytes = 1 << 20, .max_size_bytes = 4096};
    struct cove_options one_member = {.max_members = 1}, many_members = {.max_members = 16385};
    if (s->backend->kind == KIND_FD)
        NOT_HERE();
    EQUAL(-EINVAL, cove_open(&segment, s->name, &too_small));
    EQUAL(-EINVAL, cove_open(&segment, s->name, &small_maximum));
    EQUAL(-EINVAL, cove_open(&segment, s->name, &one_member));
    EQUAL(-EINVAL, cove_open(&segment, s->name, &many_members));
    CHECK(!segment && !foreign_look(s, &figures));
}

static void count_one(struct subject *s, void *context)
{
    cove_segment *segment = NULL;
    int64_t result = GOOD(cove_open(&segment, s->other, context));
    (void)atomic_fetch_add_explicit((_Atomic uint64_t *)(void *)the_number(segment, 0), 1, memory_order_relaxed);
    (void)atomic_fetch_add_explicit(number_of(0), result == COVE_CREATED, memory_order_relaxed);
    EQUAL(0, cove_close(segment));
}

static void made_by_many(struct subject *s)
{
    pid_t pids[8];
    if (!subject_named(s))
        NOT_HERE();
    for (unsigned i = 0; i < 8; i++)
        pids[i] = start(count_one, s, &(struct cove_options)SMALL_OPTIONS);
    for (unsigned i = 0; i < 8; i++)
        join(pids[i]);
    cove_segment *segment = segment_open(s, 0);
    CHECK(*the_number(segment, COVE_EXISTING) == 8);
    CHECK(atomic_load_explicit(number_of(0), memory_order_relaxed) == 1);
    segment_leave(s, segment);
}

static const struct row table[] = {
    {"segment.create", create, NO_FEATURE},
    {"segment.missing", missing, NO_FEATURE},
    {"segment.missing-to-others", missing_to_others, NO_FEATURE},
    {"segment.exclusive", exclusive, NO_FEATURE},
    {"segment.kept", kept, NO_FEATURE},
    {"segment.last-out", last_out, NO_FEATURE},
    {"segment.last-out-killed", last_out_killed, NO_FEATURE},
    {"segment.one-handle", one_handle, NO_FEATURE},
    {"segment.two-names", two_names, NO_FEATURE},
    {"segment.other-form", other_form, NO_FEATURE},
    {"segment.foreign-bytes", foreign_bytes, NO_FEATURE},
    {"segment.foreign-zeros", foreign_zeros, NO_FEATURE},
    {"segment.bad-sizes", bad_sizes, NO_FEATURE},
    {"segment.made-by-many", made_by_many, NO_FEATURE},
};
const struct rows segment_open_rows = ROWS(table);
