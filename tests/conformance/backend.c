/* backend.c - the columns of the table: how each backend's things are named, made, opened and left.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Nameless memory has no name that others could open it by: who has it hands on a descriptor. So in the columns memfd
 * and fd `other` is "fd:N", of an inheritable descriptor that the subject keeps; memfd makes a thing by "memfd:", fd
 * finds one that came as a descriptor. */
#include "conformance.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>

static void put(char *to, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void put(char *to, size_t size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(to, size, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= size)
        FAIL("a name is too long");
}
#define PUT(to, ...) put((to), sizeof(to), __VA_ARGS__)

static void name_plain(struct subject *s)
{
    PUT(s->name, "cf-%d-%u", machine_id(), s->number);
    PUT(s->path, "%s/%s.cove", work_directory(), s->name);
}

static void name_posix(struct subject *s)
{
    PUT(s->name, "posix:/cf-%d-%u.cove", machine_id(), s->number); /* so that it has a plain name too */
    PUT(s->path, "%s/%s", work_directory(), s->name + strlen("posix:/"));
}

static void name_file(struct subject *s)
{
    PUT(s->path, "%s/cf-%d-%u.state", disk_directory(), machine_id(), s->number);
    PUT(s->name, "file:%s", s->path);
}

/* A key that is free, by way of ftok: so that it has both forms of a name. */
static void make_key(struct subject *s)
{
    PUT(s->key_path, "%s/key-%d-%u", work_directory(), machine_id(), s->number);
    int file = open(s->key_path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    CHECK(file >= 0);
    (void)close(file);
    for (s->key_id = 1; s->key_id < 256; s->key_id++) {
        s->key = (int)ftok(s->key_path, s->key_id);
        if (s->key != IPC_PRIVATE && shmget(s->key, 0, 0) < 0 && errno == ENOENT) {
            note_key(s->key);
            return;
        }
    }
    FAIL("no System V key is free");
}

static void name_sysv_key(struct subject *s)
{
    make_key(s);
    PUT(s->name, "sysv:%#x", (unsigned)s->key);
}

static void name_sysv_path(struct subject *s)
{
    make_key(s);
    PUT(s->name, "sysv:%s:%d", s->key_path, s->key_id);
}

static void name_memfd(struct subject *s)
{
    PUT(s->name, "memfd:");
}

static void name_fd(struct subject *s)
{
    s->file = memfd_create("conformance", 0);
    CHECK(s->file >= 0 && fchmod(s->file, 0600) == 0); /* the system makes them 0777 */
    PUT(s->name, "fd:%d", s->file);
}

static void name_in_huge(struct subject *s, const char *prefix)
{
    char plain[NAME_BYTES - 16];
    PUT(plain, "cf-%d-%u", machine_id(), s->number);
    PUT(s->name, "%s%s", prefix, plain);
    PUT(s->path, "%s/%s.cove", huge_directory() ? huge_directory() : "", plain);
    s->page_bytes = huge_page_bytes();
}

static void name_huge(struct subject *s)
{
    name_in_huge(s, "huge:");
}

static void name_hugetry(struct subject *s)
{
    name_in_huge(s, "hugetry:");
}

const struct backend backends[] = {
    {"plain", "posix", KIND_FILE, name_plain},
    {"posix", "posix", KIND_FILE, name_posix},
    {"file", "file", KIND_FILE, name_file},
    {"sysv-key", "sysv", KIND_SYSV, name_sysv_key},
    {"sysv-path", "sysv", KIND_SYSV, name_sysv_path},
    {"memfd", "memfd", KIND_MEMFD, name_memfd},
    {"fd", "fd", KIND_FD, name_fd},
    {"huge", "huge", KIND_HUGE, name_huge},
    {"hugetry", "huge", KIND_HUGE, name_hugetry},
};
const unsigned backend_count = sizeof backends / sizeof *backends;

void subject_init(struct subject *s, const struct backend *backend, unsigned number)
{
    *s = (struct subject){.backend = backend, .number = number, .file = -1};
    s->page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    backend->name(s);
    if (backend->kind != KIND_MEMFD)
        PUT(s->other, "%s", s->name);
}

bool subject_named(const struct subject *s)
{
    return s->backend->kind != KIND_MEMFD && s->backend->kind != KIND_FD;
}

void subject_has(struct subject *s, int file)
{
    if (subject_named(s)) {
        (void)close(file);
        return;
    }
    int inheritable = fcntl(file, F_DUPFD, 100);
    CHECK(inheritable >= 0);
    (void)close(file);
    if (s->file >= 0)
        (void)close(s->file);
    s->file = inheritable;
    PUT(s->other, "fd:%d", s->file);
    if (s->backend->kind == KIND_FD)
        PUT(s->name, "fd:%d", s->file);
}

/* ---- aliases */

/* A link to the directory that its file lies in. */
static void through_link(const struct subject *s, char alias[NAME_BYTES])
{
    char directory[PATH_BYTES], link[PATH_BYTES];
    PUT(directory, "%.*s", (int)(strrchr(s->path, '/') - s->path), s->path);
    PUT(link, "%s/key-link-%u", work_directory(), s->number); /* key-: no debris, the runner removes it */
    if (symlink(directory, link) < 0)
        CHECK(errno == EEXIST);
    put(alias, NAME_BYTES, "file:%s%s", link, strrchr(s->path, '/'));
}

static bool file_alias(const struct subject *s, unsigned which, char alias[NAME_BYTES])
{
    const char *base = strrchr(s->path, '/') + 1;
    int directory = (int)(base - s->path);
    if (which == 0)
        put(alias, NAME_BYTES, "file:%.*s./%s", directory, s->path, base);
    else if (which == 1)
        put(alias, NAME_BYTES, "file:%.*s/%s", directory, s->path, base);
    else if (which == 2)
        put(alias, NAME_BYTES, "file:%.*s.././%s/%s", directory, s->path, strrchr(disk_directory(), '/') + 1, base);
    else if (which == 3)
        through_link(s, alias);
    return which < 4;
}

bool subject_alias(const struct subject *s, unsigned which, char alias[NAME_BYTES])
{
    const char *label = s->backend->label;
    if (strcmp(label, "file") == 0)
        return file_alias(s, which, alias);
    if (s->backend->kind == KIND_MEMFD || s->backend->kind == KIND_FD) {
        if (which == 0) /* another number, of the same description */
            put(alias, NAME_BYTES, "fd:%d", dup(s->file));
        return which == 0;
    }
    if (s->backend->kind == KIND_FILE && which == 1) {
        put(alias, NAME_BYTES, "file:%s", s->path);
        return true;
    }
    if (which > 0)
        return false;
    if (strcmp(label, "plain") == 0)
        put(alias, NAME_BYTES, "posix:/%s.cove", s->name);
    else if (strcmp(label, "posix") == 0)
        put(alias, NAME_BYTES, "cf-%d-%u", machine_id(), s->number);
    else if (strcmp(label, "sysv-key") == 0)
        put(alias, NAME_BYTES, "sysv:%s:%d", s->key_path, s->key_id);
    else if (strcmp(label, "sysv-path") == 0)
        put(alias, NAME_BYTES, "sysv:%#x", (unsigned)s->key);
    else
        put(alias, NAME_BYTES, "%s:%s", strcmp(label, "huge") == 0 ? "hugetry" : "huge", strchr(s->name, ':') + 1);
    return true;
}

/* ---- regions */

cove_region *region_make_as(struct subject *s, const struct cove_region_options *options)
{
    cove_region *region = NULL;
    if (s->backend->kind == KIND_FD)
        foreign_make(s, options->size_bytes);
    int64_t result = GOOD(cove_region_open(&region, s->name, options));
    CHECK(region && result == (s->backend->kind == KIND_FD ? 0 : COVE_CREATED));
    if (s->backend->kind == KIND_MEMFD)
        subject_has(s, (int)GOOD(cove_region_fd(region)));
    return region;
}

cove_region *region_make(struct subject *s, uint64_t size_bytes)
{
    return region_make_as(s, &(struct cove_region_options){.size_bytes = size_bytes});
}

cove_region *region_open(const struct subject *s, uint32_t flags)
{
    cove_region *region = NULL;
    EQUAL(0, cove_region_open(&region, s->other, &(struct cove_region_options){.flags = flags | COVE_EXISTING}));
    return region;
}

static void forget_file(struct subject *s)
{
    if (s->file >= 0)
        (void)close(s->file);
    s->file = -1;
}

void region_leave(struct subject *s, cove_region *region)
{
    struct figures figures;
    EQUAL(0, cove_region_close(region));
    if (subject_named(s)) {
        EQUAL(0, cove_region_unlink(s->other, 0));
        CHECK(!foreign_look(s, &figures));
    }
    forget_file(s);
}

/* ---- segments */

/* One that comes as a descriptor: made nameless, closed again, kept by the descriptor alone. */
static void make_for_descriptor(struct subject *s, const struct cove_options *options)
{
    cove_segment *maker = NULL;
    EQUAL(COVE_CREATED, cove_open(&maker, "memfd:", options));
    subject_has(s, (int)GOOD(cove_segment_fd(maker)));
    EQUAL(0, cove_close(maker));
}

cove_segment *segment_make_as(struct subject *s, const struct cove_options *options)
{
    cove_segment *segment = NULL;
    bool comes = s->backend->kind == KIND_FD;
    if (comes)
        make_for_descriptor(s, options);
    int64_t result = GOOD(cove_open(&segment, s->name, options));
    CHECK(segment && result == (comes ? 0 : COVE_CREATED));
    if (s->backend->kind == KIND_MEMFD)
        subject_has(s, (int)GOOD(cove_segment_fd(segment)));
    return segment;
}

cove_segment *segment_make(struct subject *s)
{
    return segment_make_as(s, &(struct cove_options)SMALL_OPTIONS);
}

cove_segment *segment_open(const struct subject *s, uint32_t flags)
{
    cove_segment *segment = NULL;
    EQUAL(0, cove_open(&segment, s->other, &(struct cove_options){.flags = flags | COVE_EXISTING}));
    return segment;
}

static void note_finding(const char *sentence, void *context)
{
    (void)context;
    FAIL("cove_segment_check finds: %s", sentence);
}

void segment_sound(cove_segment *segment)
{
    EQUAL(0, cove_segment_check(segment, note_finding, NULL));
}

void segment_leave(struct subject *s, cove_segment *segment)
{
    struct figures figures;
    segment_sound(segment);
    EQUAL(0, cove_close(segment));
    if (subject_named(s)) {
        EQUAL(0, cove_unlink(s->other, 0));
        CHECK(!foreign_look(s, &figures));
    }
    forget_file(s);
}
