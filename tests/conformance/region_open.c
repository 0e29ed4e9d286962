/* region_open.c - regions: making, finding, refusing.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "conformance.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define WITH_SIZE                 \
    &(struct cove_region_options) \
    {                             \
        .size_bytes = SIZE_BYTES  \
    }

static void create(struct subject *s)
{
    cove_region *region = NULL;
    int64_t result = TRY(cove_region_open(&region, s->name, WITH_SIZE));
    CHECK(result == COVE_CREATED);
    if (!subject_named(s))
        subject_has(s, (int)GOOD(cove_region_fd(region)));
    CHECK(cove_region_data(region) && cove_region_size(region) >= SIZE_BYTES);
    region_leave(s, region);
}

static void missing(struct subject *s)
{
    cove_region *region = NULL;
    ANSWER(-ENOENT, cove_region_open(&region, s->name, &(struct cove_region_options){.flags = COVE_EXISTING}));
    CHECK(!region);
}

/* Nothing is said of its size, so it cannot be made. */
static void missing_without_size(struct subject *s)
{
    cove_region *region = NULL;
    ANSWER(-ENOENT, cove_region_open(&region, s->name, NULL));
    CHECK(!region);
}

static void missing_to_others(struct subject *s)
{
    struct cove_region_info info;
    if (!subject_named(s))
        NOT_HERE();
    EQUAL(-ENOENT, cove_region_look(s->name, &info));
    EQUAL(-ENOENT, cove_region_set_rights(s->name, 0600, NULL));
    EQUAL(-ENOENT, cove_region_unlink(s->name, 0));
}

static void exclusive(struct subject *s)
{
    cove_region *region = NULL, *again = NULL;
    struct cove_region_options options = {.flags = COVE_EXCLUSIVE, .size_bytes = SIZE_BYTES};
    int64_t result = TRY(cove_region_open(&region, s->name, &options));
    CHECK(result == COVE_CREATED);
    ANSWER(-EEXIST, cove_region_open(&again, s->name, &options));
    CHECK(!again);
    region_leave(s, region);
}

/* A second opening finds what the first stored, whatever size it asks for. */
static void existing(struct subject *s)
{
    cove_region *region = region_make(s, SIZE_BYTES), *again = NULL;
    memcpy(cove_region_data(region), "kept", 5);
    EQUAL(0, cove_region_close(region));
    EQUAL(0, cove_region_open(&again, s->other, &(struct cove_region_options){.size_bytes = 100}));
    CHECK(strcmp(cove_region_data(again), "kept") == 0);
    CHECK(cove_region_size(again) >= SIZE_BYTES);
    region_leave(s, again);
}

static void zeroed(struct subject *s)
{
    cove_region *region = region_make(s, SIZE_BYTES);
    const uint8_t *bytes = cove_region_data(region);
    for (uint64_t i = 0; i < cove_region_size(region); i++)
        CHECK(bytes[i] == 0);
    region_leave(s, region);
}

/* As asked, where pages are no larger than usual; else told truly, and as the system's books have it. */
static void size(struct subject *s)
{
    struct figures figures;
    struct cove_region_info info;
    cove_region *region = region_make(s, SIZE_BYTES);
    EQUAL(0, cove_region_stat(region, &info));
    CHECK(foreign_look(s, &figures));
    CHECK(info.page_bytes == s->page_bytes);
    CHECK(figures.size_bytes == info.size_bytes && cove_region_size(region) == info.size_bytes);
    CHECK(info.size_bytes == (s->backend->kind == KIND_HUGE ? s->page_bytes : SIZE_BYTES));
    ((uint8_t *)cove_region_data(region))[info.size_bytes - 1] = 1;
    region_leave(s, region);
}

static void too_small(struct subject *s)
{
    char actual[24];
    cove_region *region = region_make(s, SIZE_BYTES), *more = NULL;
    (void)snprintf(actual, sizeof actual, "%" PRIu64, cove_region_size(region));
    SAYS(-EMSGSIZE, actual,
         cove_region_open(&more, s->other, &(struct cove_region_options){.size_bytes = cove_region_size(region) + 1}));
    SAYS(-EMSGSIZE, actual,
         cove_region_open(&more, s->other,
                          &(struct cove_region_options){.offset = cove_region_size(region) - 1, .length_bytes = 2}));
    EQUAL(-EINVAL, cove_region_open(&more, s->other,
                                    &(struct cove_region_options){.offset = 8, .length_bytes = UINT64_MAX - 4}));
    CHECK(!more);
    region_leave(s, region);
}

/* Larger than anything. The limit is for kernels that would try to find the memory first. */
static void huge_size(struct subject *s)
{
    struct figures figures;
    cove_region *region = NULL;
    static const uint64_t sizes[] = {UINT64_C(1) << 62, UINT64_MAX, UINT64_MAX - 4095};
    (void)signal(SIGXFSZ, SIG_IGN);
    (void)setrlimit(RLIMIT_FSIZE, &(struct rlimit){UINT64_C(1) << 40, UINT64_C(1) << 40});
    if (s->backend->kind == KIND_FD)
        NOT_HERE();
    for (unsigned i = 0; i < 3; i++) {
        int result = cove_region_open(&region, s->name, &(struct cove_region_options){.size_bytes = sizes[i]});
        CHECK(result < 0 && *cove_last_error() && !region);
        CHECK(!foreign_look(s, &figures));
    }
}

static void bad_options(struct subject *s)
{
    cove_region *region = NULL;
    struct cove_region_options unknown_flag = {.flags = 0x80000000u, .size_bytes = SIZE_BYTES};
    struct cove_region_options both = {.flags = COVE_EXISTING | COVE_EXCLUSIVE, .size_bytes = SIZE_BYTES};
    struct cove_region_options no_access = {.access = 77, .size_bytes = SIZE_BYTES};
    struct cove_region_options no_group = {.group = "no such group", .size_bytes = SIZE_BYTES};
    struct figures figures;
    EQUAL(-EINVAL, cove_region_open(&region, s->name, &unknown_flag));
    EQUAL(-EINVAL, cove_region_open(&region, s->name, &both));
    EQUAL(-EINVAL, cove_region_open(&region, s->name, &no_access));
    if (s->backend->kind != KIND_FD)
        EQUAL(-EINVAL, cove_region_open(&region, s->name, &no_group));
    CHECK(!region);
    if (subject_named(s))
        CHECK(!foreign_look(s, &figures));
}

/* ---- names */

/* What is no name, by backend; a '%' stands for a file that exists. */
static const struct {
    const char *label, *names[6];
} odd_names[] = {
    {"plain", {"", "a b", ".hidden", "-v", "a/b", "nosuch:x"}},
    {"posix", {"posix:", "posix:/", "posix:x", "posix:/a/b", "posix:/.."}},
    {"file", {"file:", "file:/", "file:/tmp/", "file:/tmp/.."}},
    {"sysv-key", {"sysv:", "sysv:0", "sysv:0x100000000", "sysv:-1", "sysv:5eed", "sysv:0x5eed "}},
    {"sysv-path", {"sysv:%:0", "sysv:%:256", "sysv:%:0x666", "sysv:%:", "sysv:%:-1", "sysv:%:1x"}},
    {"memfd", {"memfd:x", "memfd:/"}},
    {"fd", {"fd:", "fd:-1", "fd:x", "fd: 1", "fd:99999999999"}},
    {"huge", {"huge:", "huge:a/b", "huge:.x"}},
    {"hugetry", {"hugetry:", "hugetry:a/b", "hugetry:.x"}},
};

static void refused_as_name(const struct subject *s, const char *pattern)
{
    char name[NAME_BYTES + PATH_BYTES];
    cove_region *region = NULL;
    cove_segment *segment = NULL;
    struct cove_region_info info;
    const char *file = strchr(pattern, '%');
    (void)snprintf(name, sizeof name, "%.*s%s%s", file ? (int)(file - pattern) : 100, pattern, file ? s->key_path : "",
                   file ? file + 1 : "");
    if (cove_region_open(&region, name, WITH_SIZE) != COVE_ENAME || *cove_last_error() == '\0')
        FAIL("\"%s\" is a region's name: %s", name, cove_last_error());
    if (cove_open(&segment, name, NULL) != COVE_ENAME || *cove_last_error() == '\0')
        FAIL("\"%s\" is a segment's name: %s", name, cove_last_error());
    EQUAL(COVE_ENAME, cove_region_look(name, &info));
    EQUAL(COVE_ENAME, cove_region_unlink(name, 0));
    EQUAL(COVE_ENAME, cove_supports(name, COVE_CAN_GROW));
}

static void names(struct subject *s)
{
    for (unsigned i = 0; i < sizeof odd_names / sizeof *odd_names; i++)
        for (unsigned j = 0; strcmp(odd_names[i].label, s->backend->label) == 0 && j < 6 && odd_names[i].names[j]; j++)
            refused_as_name(s, odd_names[i].names[j]);
}

/* ---- squatters: what has the name is no memory */

static void refused_as_no_memory(struct subject *s)
{
    cove_region *region = NULL;
    cove_segment *segment = NULL;
    struct cove_region_info info;
    EQUAL(COVE_ENOTCOVE, cove_region_open(&region, s->name, WITH_SIZE));
    EQUAL(COVE_ENOTCOVE, cove_region_open(&region, s->name, &(struct cove_region_options){.flags = COVE_READONLY}));
    EQUAL(COVE_ENOTCOVE, cove_region_look(s->name, &info));
    EQUAL(COVE_ENOTCOVE, cove_open(&segment, s->name, NULL));
    CHECK(!region && !segment);
}

static void squatter_directory(struct subject *s)
{
    if (!*s->path)
        NOT_HERE();
    CHECK(mkdir(s->path, 0700) == 0);
    refused_as_no_memory(s);
    CHECK(rmdir(s->path) == 0);
}

static void squatter_link(struct subject *s)
{
    char target[PATH_BYTES + 8];
    if (!*s->path)
        NOT_HERE();
    (void)snprintf(target, sizeof target, "%s.target", s->path);
    int file = open(target, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    CHECK(file >= 0 && ftruncate(file, (off_t)s->page_bytes) == 0 && close(file) == 0);
    if (symlink(target, s->path) < 0) {
        CHECK(s->backend->kind == KIND_HUGE && errno == EINVAL && unlink(target) == 0);
        NOT_HERE(); /* hugetlbfs has no links */
    }
    refused_as_no_memory(s);
    CHECK(unlink(s->path) == 0);
    CHECK(symlink("/nowhere/at/all", s->path) == 0); /* and nothing is made at its end */
    refused_as_no_memory(s);
    CHECK(unlink(s->path) == 0 && unlink(target) == 0);
}

static void squatter_fifo(struct subject *s)
{
    if (!*s->path)
        NOT_HERE();
    CHECK(mkfifo(s->path, 0600) == 0);
    refused_as_no_memory(s);
    CHECK(unlink(s->path) == 0);
}

static void squatter_pipe(struct subject *s)
{
    int pipe_ends[2];
    if (s->backend->kind != KIND_FD)
        NOT_HERE();
    CHECK(pipe(pipe_ends) == 0);
    (void)snprintf(s->name, sizeof s->name, "fd:%d", pipe_ends[0]);
    refused_as_no_memory(s);
    (void)close(pipe_ends[0]);
    (void)close(pipe_ends[1]);
    CHECK(cove_region_open(&(cove_region *){NULL}, s->name, WITH_SIZE) < 0 && *cove_last_error()); /* a closed one */
}

static const struct row table[] = {
    {"region.create", create, NO_FEATURE},
    {"region.missing", missing, NO_FEATURE},
    {"region.missing-no-size", missing_without_size, NO_FEATURE},
    {"region.missing-to-others", missing_to_others, NO_FEATURE},
    {"region.exclusive", exclusive, NO_FEATURE},
    {"region.existing", existing, NO_FEATURE},
    {"region.zeroed", zeroed, NO_FEATURE},
    {"region.size", size, NO_FEATURE},
    {"region.too-small", too_small, NO_FEATURE},
    {"region.huge-size", huge_size, NO_FEATURE},
    {"region.bad-options", bad_options, NO_FEATURE},
    {"region.odd-names", names, NO_FEATURE},
    {"region.squatter-directory", squatter_directory, NO_FEATURE},
    {"region.squatter-link", squatter_link, NO_FEATURE},
    {"region.squatter-fifo", squatter_fifo, NO_FEATURE},
    {"region.squatter-pipe", squatter_pipe, NO_FEATURE},
};
const struct rows region_open_rows = ROWS(table);
