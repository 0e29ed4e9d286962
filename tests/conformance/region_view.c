/* region_view.c - regions: what a mapping shows and forbids.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "conformance.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#define PART_AT UINT64_C(5003) /* inside a page */
#define PART_BYTES UINT64_C(77)

static void two_handles(struct subject *s)
{
    cove_region *one = region_make(s, SIZE_BYTES), *two = region_open(s, 0);
    uint8_t *in_one = cove_region_data(one), *in_two = cove_region_data(two);
    in_one[7] = 1;
    in_two[8] = 2;
    CHECK(in_two[7] == 1 && in_one[8] == 2);
    EQUAL(0, cove_region_close(two));
    CHECK(in_one[8] == 2);
    region_leave(s, one);
}

static void part_of_it(struct subject *s)
{
    cove_region *whole = region_make(s, SIZE_BYTES), *piece = NULL;
    struct cove_region_info info;
    uint8_t *bytes = cove_region_data(whole);
    for (uint64_t i = 0; i < SIZE_BYTES; i++)
        bytes[i] = (uint8_t)(i % 251);
    EQUAL(0, cove_region_open(&piece, s->other,
                              &(struct cove_region_options){.offset = PART_AT, .length_bytes = PART_BYTES}));
    CHECK(cove_region_size(piece) == PART_BYTES);
    CHECK(memcmp(cove_region_data(piece), bytes + PART_AT, PART_BYTES) == 0);
    *(uint8_t *)cove_region_data(piece) = 255;
    CHECK(bytes[PART_AT] == 255);
    EQUAL(0, cove_region_stat(piece, &info));
    CHECK(info.offset == PART_AT && info.length_bytes == PART_BYTES && info.data == cove_region_data(piece));
    EQUAL(0, cove_region_protect(piece, 0, 0, COVE_ACCESS_READ)); /* the part's own ends need not be pages' */
    EQUAL(0, cove_region_close(piece));
    EQUAL(0, cove_region_open(&piece, s->other, &(struct cove_region_options){.offset = PART_AT}));
    CHECK(cove_region_size(piece) == cove_region_size(whole) - PART_AT);
    EQUAL(0, cove_region_close(piece));
    region_leave(s, whole);
}

static void store(struct subject *s, void *address)
{
    (void)s;
    *(volatile uint8_t *)address = 9;
}

static void load(struct subject *s, void *address)
{
    (void)s;
    (void)*(volatile uint8_t *)address;
}

static void read_only(struct subject *s)
{
    cove_region *region = region_make(s, SIZE_BYTES), *looking = region_open(s, COVE_READONLY);
    const uint8_t *bytes = cove_region_data(looking);
    *(uint8_t *)cove_region_data(region) = 5;
    CHECK(bytes[0] == 5);
    CHECK(signal_of(store, s, cove_region_data(looking)) == SIGSEGV);
    EQUAL(-EACCES, cove_region_protect(looking, 0, 0, COVE_ACCESS_WRITE));
    CHECK(signal_of(store, s, cove_region_data(looking)) == SIGSEGV);
    EQUAL(0, cove_region_protect(looking, 0, 0, COVE_ACCESS_NONE));
    CHECK(signal_of(load, s, cove_region_data(looking)) == SIGSEGV);
    EQUAL(0, cove_region_protect(looking, 0, 0, COVE_ACCESS_READ));
    CHECK(bytes[0] == 5);
    EQUAL(0, cove_region_close(looking));
    region_leave(s, region);
}

/* Opening only to read makes nothing. */
static void read_only_missing(struct subject *s)
{
    cove_region *region = NULL;
    struct cove_region_options options = {.flags = COVE_READONLY, .size_bytes = SIZE_BYTES};
    ANSWER(-ENOENT, cove_region_open(&region, s->name, &options));
    CHECK(!region);
}

static void access_to_read(struct subject *s)
{
    cove_region *region = region_make(s, SIZE_BYTES), *reading = NULL;
    EQUAL(0, cove_region_open(&reading, s->other, &(struct cove_region_options){.access = COVE_ACCESS_READ}));
    CHECK(signal_of(store, s, cove_region_data(reading)) == SIGSEGV);
    EQUAL(0, cove_region_protect(reading, 0, 0, COVE_ACCESS_WRITE)); /* it was not opened to read only */
    *(uint8_t *)cove_region_data(reading) = 3;
    CHECK(*(uint8_t *)cove_region_data(region) == 3);
    EQUAL(0, cove_region_close(reading));
    region_leave(s, region);
}

static void access_none(struct subject *s)
{
    cove_region *region = region_make(s, SIZE_BYTES), *closed = NULL;
    EQUAL(0, cove_region_open(&closed, s->other, &(struct cove_region_options){.access = COVE_ACCESS_NONE}));
    *(uint8_t *)cove_region_data(region) = 4;
    CHECK(signal_of(load, s, cove_region_data(closed)) == SIGSEGV);
    EQUAL(0, cove_region_protect(closed, 0, 0, COVE_ACCESS_READ));
    CHECK(*(uint8_t *)cove_region_data(closed) == 4);
    CHECK(signal_of(store, s, cove_region_data(closed)) == SIGSEGV);
    EQUAL(0, cove_region_protect(closed, 0, 0, COVE_ACCESS_WRITE));
    CHECK(signal_of(store, s, cove_region_data(closed)) == 0);
    EQUAL(0, cove_region_close(closed));
    region_leave(s, region);
}

/* One page of several, and only at pages' bounds. */
static void protect_a_page(struct subject *s)
{
    char page_bytes[24];
    uint64_t page = s->page_bytes;
    cove_region *region = region_make(s, 3 * page);
    uint8_t *bytes = cove_region_data(region);
    (void)snprintf(page_bytes, sizeof page_bytes, "%" PRIu64, page);
    EQUAL(0, cove_region_protect(region, page, page, COVE_ACCESS_READ));
    CHECK(signal_of(store, s, bytes + page) == SIGSEGV);
    CHECK(signal_of(store, s, bytes + page - 1) == 0 && signal_of(store, s, bytes + 2 * page) == 0);
    SAYS(-EINVAL, page_bytes, cove_region_protect(region, 100, page, COVE_ACCESS_READ));
    SAYS(-EINVAL, page_bytes, cove_region_protect(region, 0, page + 100, COVE_ACCESS_READ));
    EQUAL(-EINVAL, cove_region_protect(region, page, 3 * page, COVE_ACCESS_READ));
    EQUAL(-EINVAL, cove_region_protect(region, UINT64_MAX - page + 1, 2 * page, COVE_ACCESS_READ));
    EQUAL(0, cove_region_protect(region, page, page, COVE_ACCESS_WRITE));
    bytes[page] = 1;
    region_leave(s, region);
}

static void unlink_while_mapped(struct subject *s)
{
    cove_region *old = region_make(s, SIZE_BYTES), *fresh = NULL;
    uint8_t *bytes = cove_region_data(old);
    bytes[0] = 1;
    TRY(cove_region_unlink(s->other, 0));
    EQUAL(-ENOENT, cove_region_open(&fresh, s->other, &(struct cove_region_options){.flags = COVE_EXISTING}));
    bytes[1] = 2;
    fresh = region_make(s, SIZE_BYTES);
    CHECK(bytes[0] == 1 && bytes[1] == 2 && *(uint8_t *)cove_region_data(fresh) == 0);
    EQUAL(0, cove_region_close(old));
    region_leave(s, fresh);
}

/* A handle of its own in a child, and the parent's: either may be closed without the other's end. */
static void child_stores(struct subject *s, void *region)
{
    (void)s;
    ((uint8_t *)cove_region_data(region))[1] = 2;
    EQUAL(0, cove_region_close(region));
}

static void inherited(struct subject *s)
{
    cove_region *region = region_make(s, SIZE_BYTES);
    uint8_t *bytes = cove_region_data(region);
    bytes[0] = 1;
    join(start(child_stores, s, region));
    CHECK(bytes[0] == 1 && bytes[1] == 2);
    region_leave(s, region);
}

static void two_names(struct subject *s)
{
    char alias[NAME_BYTES];
    cove_region *region = region_make(s, SIZE_BYTES), *same = NULL;
    unsigned which = 0;
    for (; subject_alias(s, which, alias); which++) {
        int result = cove_region_open(&same, alias, NULL);
        if (result != 0)
            FAIL("%s: %s", alias, cove_last_error());
        ((uint8_t *)cove_region_data(region))[which] = (uint8_t)(which + 1);
        CHECK(((uint8_t *)cove_region_data(same))[which] == which + 1);
        EQUAL(0, cove_region_close(same));
    }
    CHECK(which > 0);
    region_leave(s, region);
}

static const struct row table[] = {
    {"region.two-handles", two_handles, NO_FEATURE},
    {"region.two-names", two_names, NO_FEATURE},
    {"region.part", part_of_it, NO_FEATURE},
    {"region.read-only", read_only, NO_FEATURE},
    {"region.read-only-missing", read_only_missing, NO_FEATURE},
    {"region.access-read", access_to_read, NO_FEATURE},
    {"region.access-none", access_none, NO_FEATURE},
    {"region.protect-a-page", protect_a_page, NO_FEATURE},
    {"region.unlink-while-mapped", unlink_while_mapped, COVE_CAN_NAME},
    {"region.inherited", inherited, NO_FEATURE},
};
const struct rows region_view_rows = ROWS(table);
