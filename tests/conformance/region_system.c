/* region_system.c - regions: the system's books and rights, and programs that know nothing of Cove.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "conformance.h"
#include "watch.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- rights */

static void mode_of(struct subject *s, uint32_t mode)
{
    struct figures figures;
    cove_region *region = region_make_as(s, &(struct cove_region_options){.size_bytes = SIZE_BYTES, .mode = mode});
    CHECK(foreign_look(s, &figures));
    CHECK(figures.mode == (mode ? mode : 0600));
    region_leave(s, region);
}

/* As asked, whatever the umask: one that takes all, and one that takes nothing. */
static void mode(struct subject *s)
{
    if (s->backend->kind == KIND_FD)
        NOT_HERE(); /* it has its rights already */
    (void)umask(0777);
    mode_of(s, 0640);
    (void)umask(0);
    mode_of(s, 0);
}

/* One that this user may give things to. */
static gid_t some_group(const char **name)
{
    gid_t gid = getegid();
    if (geteuid() == 0)
        gid = 1;
    const struct group *entry = getgrgid(gid);
    CHECK(entry);
    *name = entry->gr_name;
    return gid;
}

static void group(struct subject *s)
{
    struct figures figures;
    const char *name = NULL;
    gid_t gid = some_group(&name);
    if (s->backend->kind == KIND_FD)
        NOT_HERE();
    cove_region *region = region_make_as(
        s, &(struct cove_region_options){.size_bytes = SIZE_BYTES, .mode = 0660, .group = name});
    CHECK(foreign_look(s, &figures));
    CHECK(figures.gid == gid && figures.mode == 0660);
    region_leave(s, region);
}

static void set_rights(struct subject *s)
{
    struct figures figures;
    const char *name = NULL;
    gid_t gid = some_group(&name);
    cove_region *region = region_make(s, SIZE_BYTES);
    TRY(cove_region_set_rights(s->other, 0640, NULL));
    CHECK(foreign_look(s, &figures) && figures.mode == 0640 && figures.uid == geteuid());
    EQUAL(0, cove_region_set_rights(s->other, 0660, name));
    CHECK(foreign_look(s, &figures) && figures.mode == 0660 && figures.gid == gid);
    EQUAL(-EINVAL, cove_region_set_rights(s->other, 0600, "no such group"));
    CHECK(foreign_look(s, &figures) && figures.mode == 0660);
    region_leave(s, region);
}

static void become_another(void)
{
    CHECK(setgroups(0, NULL) == 0 && setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
}

static void another_opens(struct subject *s, void *result)
{
    cove_region *region = NULL;
    become_another();
    EQUAL(*(int *)result, cove_region_open(&region, s->other, &(struct cove_region_options){.flags = COVE_EXISTING}));
    if (*(int *)result != COVE_EOWNER)
        return;
    EQUAL(0, cove_region_open(&region, s->other, &(struct cove_region_options){.flags = COVE_ANY_OWNER}));
    ((uint8_t *)cove_region_data(region))[1] = 2;
    EQUAL(0, cove_region_close(region));
}

/* Mode decides who may; whoever may still has to say that he trusts another's memory. */
static void another_user(struct subject *s)
{
    int no_right = -EACCES, not_asked = COVE_EOWNER;
    if (geteuid() != 0)
        ends("skip");
    CHECK(chmod(disk_directory(), 0755) == 0);
    cove_region *region = region_make(s, SIZE_BYTES);
    join(start(another_opens, s, &no_right));
    CHECK(s->file < 0 ? cove_region_set_rights(s->other, 0666, NULL) == 0 : fchmod(s->file, 0666) == 0);
    join(start(another_opens, s, &not_asked));
    CHECK(((uint8_t *)cove_region_data(region))[1] == 2);
    region_leave(s, region);
}

/* ---- figures */

static void look(struct subject *s)
{
    struct figures figures;
    struct cove_region_info info, mapped;
    cove_region *region = region_make_as(s, &(struct cove_region_options){.size_bytes = SIZE_BYTES, .mode = 0640});
    CHECK(foreign_look(s, &figures));
    EQUAL(0, cove_region_look(s->other, &info));
    CHECK(strcmp(info.name, s->other) == 0);
    CHECK(info.size_bytes == figures.size_bytes && info.mode == figures.mode);
    CHECK(info.owner_uid == figures.uid && info.owner_gid == figures.gid);
    CHECK(info.system_id == figures.system_id && !info.data && !info.is_segment);
    CHECK(info.page_bytes == s->page_bytes);
    EQUAL(0, cove_region_stat(region, &mapped));
    if (strcmp(mapped.backend, s->backend->told) != 0)
        FAIL("its backend is called %s", mapped.backend);
    CHECK(mapped.data == cove_region_data(region) && mapped.length_bytes == cove_region_size(region));
    CHECK(mapped.size_bytes == info.size_bytes && mapped.resident_bytes >= figures.allocated_bytes / 2);
    region_leave(s, region);
}

static bool recent(uint64_t time_ns)
{
    int64_t away = (int64_t)(time_ns / 1000000000) - (int64_t)time(NULL);
    return away <= 2 && away >= -600;
}

static void attach_and_stay(struct subject *s, void *context)
{
    (void)context;
    (void)region_open(s, 0);
    reach(STEP_READY);
    await(STEP_GO);
}

/* System V's books: attachments, pids, times. */
static void look_at_attachments(struct subject *s)
{
    struct cove_region_info info;
    if (s->backend->kind != KIND_SYSV)
        NOT_HERE();
    cove_region *region = region_make(s, SIZE_BYTES);
    pid_t other = start(attach_and_stay, s, NULL);
    await(STEP_READY);
    EQUAL(0, cove_region_look(s->other, &info));
    CHECK(info.attached_count >= 2 && info.creator_pid == getpid() && info.last_pid == other);
    CHECK(info.creator_uid == geteuid() && info.creator_gid == getegid());
    CHECK(recent(info.attached_ns) && recent(info.changed_ns));
    reach(STEP_GO);
    join(other);
    EQUAL(0, cove_region_stat(region, &info));
    CHECK(info.attached_count == 1 && recent(info.detached_ns));
    region_leave(s, region);
}

/* ---- replacing, syncing */

static void replace(struct subject *s)
{
    static const char text[] = "new contents, and longer than the old ones were in their first bytes";
    cove_region *old = region_make(s, SIZE_BYTES);
    memcpy(cove_region_data(old), "old", 4);
    TRY(cove_region_replace(s->other, text, sizeof text, NULL));
    CHECK(strcmp(cove_region_data(old), "old") == 0 && ((uint8_t *)cove_region_data(old))[SIZE_BYTES - 1] == 0);
    cove_region *new = region_open(s, 0);
    CHECK(memcmp(cove_region_data(new), text, sizeof text) == 0);
    CHECK(cove_region_size(new) == (s->backend->kind == KIND_HUGE ? s->page_bytes : sizeof text));
    EQUAL(0, cove_region_close(old));
    region_leave(s, new);
    EQUAL(-ENOENT,
          cove_region_replace(s->other, text, sizeof text, &(struct cove_region_options){.flags = COVE_EXISTING}));
    EQUAL(COVE_CREATED, cove_region_replace(s->other, text, sizeof text, NULL));
    region_leave(s, region_open(s, 0));
}

static uint64_t new_size(const struct subject *s)
{
    return s->page_bytes + 2 * SIZE_BYTES;
}

static void replace_by_new(struct subject *s)
{
    uint64_t size = new_size(s);
    char *bytes = malloc(size);
    CHECK(bytes);
    memset(bytes, 'n', size);
    EQUAL(0, cove_region_replace(s->other, bytes, size, NULL));
    free(bytes);
}

/* All of the old bytes, or all of the new ones. */
static bool is_old_or_new(const struct subject *s, const struct figures *figures)
{
    bool is_new = figures->size_bytes >= new_size(s);
    uint64_t size = is_new ? new_size(s) : SIZE_BYTES, same = 0;
    char *bytes = malloc(size);
    CHECK(bytes);
    bool is_read = foreign_read(s, bytes, size);
    while (same < size && bytes[same] == (is_new ? 'n' : 'o'))
        same++;
    free(bytes);
    return is_read && same == size;
}

/* At each system call of who replaces it, the name leads to one of the two. */
static void replace_in_one_step(struct subject *s)
{
    if (cove_supports(s->other, COVE_CAN_REPLACE) != 1)
        NOT_HERE();
    cove_region *old = region_make(s, SIZE_BYTES);
    memset(cove_region_data(old), 'o', SIZE_BYTES);
    struct watched watched = watch_maker(s, replace_by_new, is_old_or_new);
    CHECK(watched.absent == 0 && watched.half == 0 && watched.whole > 0);
    EQUAL(0, cove_region_close(old));
    region_leave(s, region_open(s, 0));
}

static void sync_it(struct subject *s)
{
    cove_region *region = region_make(s, SIZE_BYTES);
    memcpy(cove_region_data(region), "kept", 5);
    TRY(cove_region_sync(region, 0, 0));
    EQUAL(0, cove_region_sync(region, 5000, 100)); /* inside a page */
    EQUAL(-EINVAL, cove_region_sync(region, SIZE_BYTES, 1));
    EQUAL(-EINVAL, cove_region_sync(region, 8, UINT64_MAX - 4));
    region_leave(s, region);
}

/* ---- programs that know nothing of Cove */

/* They made it: Cove reads, writes, and removes it. */
static void made_by_others(struct subject *s)
{
    struct cove_region_info info;
    foreign_make(s, SIZE_BYTES);
    uint8_t *bytes = foreign_map(s, SIZE_BYTES);
    bytes[6000] = 1;
    EQUAL(0, cove_region_look(s->other, &info));
    CHECK(!info.is_segment);
    cove_region *region = region_open(s, 0);
    CHECK(((uint8_t *)cove_region_data(region))[6000] == 1);
    ((uint8_t *)cove_region_data(region))[6001] = 2;
    CHECK(bytes[6001] == 2);
    foreign_unmap(s, bytes, SIZE_BYTES);
    region_leave(s, region);
}

/* Cove made it: they read and write. */
static void used_by_others(struct subject *s)
{
    cove_region *region = region_make(s, SIZE_BYTES);
    uint8_t *ours = cove_region_data(region), *theirs = foreign_map(s, SIZE_BYTES);
    ours[5] = 1;
    theirs[6] = 2;
    CHECK(theirs[5] == 1 && ours[6] == 2);
    foreign_unmap(s, theirs, SIZE_BYTES);
    region_leave(s, region);
}

/* A segment under that name is opened as a region to look at alone, and neither replaced
 * nor removed as one: its members have a say. */
static void segment_under_it(struct subject *s)
{
    cove_region *region = NULL;
    struct cove_region_info info;
    cove_segment *segment = segment_make(s);
    EQUAL(COVE_ETYPE, cove_region_open(&region, s->other, NULL));
    EQUAL(COVE_ETYPE, cove_region_open(&region, s->other, &(struct cove_region_options){.size_bytes = SIZE_BYTES}));
    EQUAL(0, cove_region_look(s->other, &info));
    CHECK(info.is_segment == 1);
    region = region_open(s, COVE_READONLY);
    CHECK(memcmp(cove_region_data(region), "Covegt1", 7) == 0);
    EQUAL(0, cove_region_close(region));
    CHECK(cove_region_replace(s->other, "x", 1, NULL) < 0 && *cove_last_error());
    SAYS(COVE_ETYPE, "cove_unlink", cove_region_unlink(s->other, 0));
    segment_leave(s, segment);
}

/* ---- whole when it appears */

#define LARGE_BYTES UINT64_C(1048576)

static void make_large(struct subject *s)
{
    cove_region *region = NULL;
    EQUAL(COVE_CREATED, cove_region_open(&region, s->name, &(struct cove_region_options){.size_bytes = LARGE_BYTES}));
}

static bool is_whole(const struct subject *s, const struct figures *figures)
{
    return figures->size_bytes >= LARGE_BYTES &&
           (s->backend->kind == KIND_SYSV || figures->allocated_bytes >= LARGE_BYTES) && figures->mode == 0600;
}

/* Whoever looks between any two system calls of its maker sees nothing, or all of it: size, memory, rights. */
static void hidden_until_whole(struct subject *s)
{
    if (!subject_named(s))
        NOT_HERE();
    struct watched watched = watch_maker(s, make_large, is_whole);
    CHECK(watched.absent > 0 && watched.whole > 0);
    EQUAL(0, cove_region_unlink(s->other, 0));
    if (watched.half > 0)
        IT_DOES_NOT();
}

static const struct row table[] = {
    {"region.mode", mode, NO_FEATURE},
    {"region.group", group, NO_FEATURE},
    {"region.set-rights", set_rights, NO_FEATURE},
    {"region.another-user", another_user, NO_FEATURE},
    {"region.look", look, NO_FEATURE},
    {"region.look-attachments", look_at_attachments, NO_FEATURE},
    {"region.replace", replace, COVE_CAN_REPLACE},
    {"region.replace-in-one-step", replace_in_one_step, NO_FEATURE},
    {"region.sync", sync_it, COVE_CAN_SYNC},
    {"region.made-by-others", made_by_others, NO_FEATURE},
    {"region.used-by-others", used_by_others, NO_FEATURE},
    {"region.segment-under-it", segment_under_it, NO_FEATURE},
    {"region.hidden-until-whole", hidden_until_whole, NO_FEATURE},
};
const struct rows region_system_rows = ROWS(table);
