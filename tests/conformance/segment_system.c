/* segment_system.c - segments: looking, rights, names in the system, other programs.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "conformance.h"
#include "watch.h"

#include "segment/segment_shm.h"

#include <grp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void store(struct subject *s, void *address)
{
    (void)s;
    *(volatile uint8_t *)address = 9;
}

static void read_only(struct subject *s)
{
    struct cove_member_info list[4];
    void *object = NULL;
    cove_segment *segment = segment_make(s);
    uint64_t *number = NULL;
    struct cove_type type = {.name = "number", .size_bytes = 8};
    EQUAL(COVE_CREATED, cove_object_open((void **)&number, segment, "number", &type, 0));
    cove_segment *looking = segment_open(s, COVE_READONLY);
    CHECK(looking != segment);
    EQUAL(1, cove_segment_members(segment, list, 4));
    object = cove_at(looking, cove_ref_of(segment, number), 8);
    *number = 5;
    CHECK(object && *(uint64_t *)object == 5);
    CHECK(signal_of(store, s, object) == SIGSEGV);
    EQUAL(-EPERM, cove_save(looking, object, 8));
    CHECK(cove_alloc(looking, 100) == 0);
    segment_sound(looking);
    EQUAL(0, cove_close(looking));
    segment_leave(s, segment);
}

static void look(struct subject *s)
{
    struct cove_options options = SMALL_OPTIONS;
    struct cove_segment_info info, open_info;
    struct figures figures;
    options.mode = 0640;
    cove_segment *segment = segment_make_as(s, &options);
    CHECK(foreign_look(s, &figures));
    EQUAL(0, cove_stat(s->other, &info));
    CHECK(strcmp(info.name, s->other) == 0 && strcmp(info.state, "ready") == 0);
    /* hugetlbfs makes a file as long as the longest mapping of it, so its length says nothing of what is used */
    CHECK(s->backend->kind == KIND_HUGE ? info.size_bytes <= figures.size_bytes
                                        : info.size_bytes == figures.size_bytes);
    CHECK(info.mode == 0640 && figures.mode == 0640);
    CHECK(info.owner_uid == figures.uid && info.owner_gid == figures.gid);
    CHECK(info.max_members == 16 && info.members_alive == 1 && info.members_dead == 0);
    if (info.max_size_bytes < info.size_bytes)
        FAIL("it has %" PRIu64 " bytes and may grow to %" PRIu64, info.size_bytes, info.max_size_bytes);
    CHECK(info.heap_bytes > 0 && info.heap_free_bytes <= info.heap_bytes);
    CHECK(info.created_ns / 1000000000 + 600 > (uint64_t)time(NULL));
    EQUAL(0, cove_segment_stat(segment, &open_info));
    if (strcmp(open_info.backend, s->backend->told) != 0)
        FAIL("its backend is called %s", open_info.backend);
    CHECK(open_info.size_bytes == info.size_bytes && open_info.mode == info.mode);
    segment_leave(s, segment);
}

/* ---- rights */

static gid_t some_group(const char **name)
{
    const struct group *entry = getgrgid(geteuid() == 0 ? 1 : getegid());
    CHECK(entry);
    *name = entry->gr_name;
    return entry->gr_gid;
}

static void rights(struct subject *s)
{
    struct cove_options options = SMALL_OPTIONS;
    struct figures figures;
    gid_t gid = some_group(&options.group);
    options.mode = 0660;
    (void)umask(0777);
    if (s->backend->kind == KIND_FD)
        NOT_HERE();
    cove_segment *segment = segment_make_as(s, &options);
    CHECK(foreign_look(s, &figures) && figures.mode == 0660 && figures.gid == gid);
    segment_leave(s, segment);
}

static void set_rights(struct subject *s)
{
    struct figures figures;
    const char *name = NULL;
    gid_t gid = some_group(&name);
    cove_segment *segment = segment_make(s);
    TRY(cove_region_set_rights(s->other, 0660, name));
    CHECK(foreign_look(s, &figures) && figures.mode == 0660 && figures.gid == gid);
    segment_leave(s, segment);
}

static void another_joins(struct subject *s, void *expected)
{
    cove_segment *segment = NULL;
    struct cove_member_info list[4];
    CHECK(setgroups(0, NULL) == 0 && setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
    EQUAL(*(int *)expected, cove_open(&segment, s->other, &(struct cove_options){.flags = COVE_EXISTING}));
    if (*(int *)expected != COVE_EOWNER)
        return;
    EQUAL(0, cove_open(&segment, s->other, &(struct cove_options){.flags = COVE_EXISTING | COVE_ANY_OWNER}));
    EQUAL(2, cove_segment_members(segment, list, 4));
    EQUAL(0, cove_close(segment));
}

/* A member of another user, when mode allows it and he says that he trusts it. */
static void another_user(struct subject *s)
{
    int no_right = -EACCES, not_asked = COVE_EOWNER;
    if (geteuid() != 0)
        ends("skip");
    CHECK(chmod(disk_directory(), 0755) == 0);
    cove_segment *segment = segment_make(s);
    join(start(another_joins, s, &no_right));
    CHECK(s->file < 0 ? cove_region_set_rights(s->other, 0666, NULL) == 0 : fchmod(s->file, 0666) == 0);
    join(start(another_joins, s, &not_asked));
    segment_leave(s, segment);
}

/* ---- names */

struct searched {
    cove_segment *segment;
    unsigned found;
};

static int note_name(const char *name, void *context)
{
    struct searched *searched = context;
    cove_segment *same = NULL;
    struct cove_segment_info info;
    EQUAL(0, cove_stat(name, &info));
    EQUAL(0, cove_open(&same, name, &(struct cove_options){.flags = COVE_EXISTING}));
    searched->found += same == searched->segment;
    return cove_close(same);
}

/* cove_segments names it once, by a name that leads to it. */
static void listed(struct subject *s)
{
    cove_segment *segment = segment_make(s);
    struct searched searched = {.segment = segment};
    EQUAL(0, cove_segments(note_name, &searched));
    CHECK(searched.found <= 1);
    segment_leave(s, segment);
    if (searched.found == 0)
        IT_DOES_NOT();
}

static void unlink_in_use(struct subject *s)
{
    struct figures figures;
    cove_segment *segment = segment_make(s), *fresh = NULL;
    uint64_t *number = NULL;
    EQUAL(COVE_CREATED,
          cove_object_open((void **)&number, segment, "number", &(struct cove_type){.name = "n", .size_bytes = 8}, 0));
    ANSWER(-EBUSY, cove_unlink(s->other, 0));
    CHECK(foreign_look(s, &figures));
    EQUAL(0, cove_unlink(s->other, 1));
    EQUAL(-ENOENT, cove_open(&fresh, s->other, &(struct cove_options){.flags = COVE_EXISTING}));
    *number = 4; /* members go on */
    cove_ref ref = cove_alloc(segment, 100);
    CHECK(ref && cove_free(segment, ref) == 0);
    segment_sound(segment);
    fresh = segment_make(s); /* and the name can be used again meanwhile */
    CHECK(fresh != segment);
    EQUAL(0, cove_close(segment));
    segment_leave(s, fresh);
}

/* ---- other programs */

/* A program started anew becomes a member by the name alone. */
static void by_name(struct subject *s)
{
    cove_segment *segment = segment_make(s);
    if (!subject_named(s))
        IT_DOES_NOT();
    CHECK(run_other("segment", s->name, "1") == 0);
    CHECK(run_other("segment", s->name, "2") == 0);
    segment_leave(s, segment);
}

/* By the name that others have: an inherited descriptor's where there is no other. */
static void by_others(struct subject *s)
{
    cove_segment *segment = segment_make(s);
    CHECK(run_other("segment", s->other, "1") == 0);
    CHECK(run_other("segment", s->other, "2") == 0);
    segment_leave(s, segment);
}

static void joins_what_comes(struct subject *s, void *socket)
{
    char name[32];
    cove_segment *segment = NULL;
    struct cove_member_info list[4];
    (void)s;
    int file = (int)GOOD(cove_fd_receive(*(int *)socket));
    (void)snprintf(name, sizeof name, "fd:%d", file);
    EQUAL(0, cove_open(&segment, name, NULL));
    CHECK(close(file) == 0);
    EQUAL(2, cove_segment_members(segment, list, 4));
    cove_ref ref = cove_alloc(segment, 100);
    CHECK(ref && cove_free(segment, ref) == 0);
    EQUAL(0, cove_close(segment));
}

static void passed_on(struct subject *s)
{
    int sockets[2];
    struct cove_member_info list[4];
    cove_segment *segment = segment_make(s);
    int file = (int)TRY(cove_segment_fd(segment));
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
    pid_t other = start(joins_what_comes, s, &sockets[1]);
    EQUAL(0, cove_fd_send(sockets[0], file));
    join(other);
    EQUAL(1, cove_segment_members(segment, list, 4));
    CHECK(close(file) == 0 && close(sockets[0]) == 0 && close(sockets[1]) == 0);
    segment_leave(s, segment);
}

/* ---- whole when it appears */

static void make_segment(struct subject *s)
{
    cove_segment *segment = NULL;
    EQUAL(COVE_CREATED, cove_open(&segment, s->name, &(struct cove_options)SMALL_OPTIONS));
}

static bool is_whole(const struct subject *s, const struct figures *figures)
{
    struct covei_header_shm header;
    return figures->mode == 0600 && foreign_read(s, &header, sizeof header) && header.magic == COVEI_MAGIC &&
           atomic_load_explicit(&header.state, memory_order_relaxed) == COVEI_SEGMENT_READY &&
           atomic_load_explicit(&header.size_bytes, memory_order_relaxed) <= figures->size_bytes;
}

static void hidden_until_whole(struct subject *s)
{
    if (!subject_named(s))
        NOT_HERE();
    struct watched watched = watch_maker(s, make_segment, is_whole);
    CHECK(watched.absent > 0 && watched.whole > 0);
    EQUAL(0, cove_unlink(s->other, 0)); /* its maker ended without closing */
    if (watched.half > 0)
        IT_DOES_NOT();
}

static const struct row table[] = {
    {"segment.read-only", read_only, NO_FEATURE},
    {"segment.look", look, NO_FEATURE},
    {"segment.rights", rights, NO_FEATURE},
    {"segment.set-rights", set_rights, NO_FEATURE},
    {"segment.another-user", another_user, NO_FEATURE},
    {"segment.listed", listed, NO_FEATURE},
    {"segment.unlink-in-use", unlink_in_use, NO_FEATURE},
    {"segment.by-name", by_name, COVE_CAN_NAME},
    {"segment.by-others", by_others, NO_FEATURE},
    {"segment.passed-on", passed_on, COVE_CAN_PASS},
    {"segment.hidden-until-whole", hidden_until_whole, COVE_CAN_HIDE},
};
const struct rows segment_system_rows = ROWS(table);
