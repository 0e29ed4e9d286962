/* segment_sync.c - segments that outlive the machine: cove_sync, and what is believed after another boot.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Another boot is played by storing another boot id into the header of a file that nobody has open. */
#include "conformance.h"

#include "segment/segment_shm.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

static void copy_path(const struct subject *s, char path[PATH_BYTES + 8])
{
    (void)snprintf(path, PATH_BYTES + 8, "%s.synced", s->path);
}

static bool has_copy(const struct subject *s)
{
    char path[PATH_BYTES + 8];
    struct stat status;
    copy_path(s, path);
    return stat(path, &status) == 0;
}

/* Some cases use its memory as a mutex. */
static uint64_t *the_number(cove_segment *segment, uint32_t flags)
{
    void *object = NULL;
    GOOD(cove_object_open(&object, segment, "number",
                          &(struct cove_type){.name = "number", .size_bytes = sizeof(cove_mutex)}, flags));
    return object;
}

/* As if the machine had started anew since. */
static void another_boot(const char *path)
{
    uint8_t other_boot[16];
    int file = open(path, O_RDWR | O_CLOEXEC);
    memset(other_boot, 0xab, sizeof other_boot);
    CHECK(file >= 0 &&
          pwrite(file, other_boot, sizeof other_boot, offsetof(struct covei_header_shm, boot_id)) == sizeof other_boot);
    (void)close(file);
}

static void synced(struct subject *s)
{
    cove_segment *segment = segment_make(s);
    *the_number(segment, 0) = 5;
    TRY(cove_sync(segment, PATIENCE_NS));
    CHECK(*the_number(segment, COVE_EXISTING) == 5);
    EQUAL(0, cove_close(segment));
    segment = segment_open(s, 0);
    CHECK(*the_number(segment, COVE_EXISTING) == 5);
    EQUAL(0, cove_begin(segment));
    EQUAL(-EBUSY, cove_sync(segment, COVE_NOWAIT));
    EQUAL(0, cove_commit(segment));
    EQUAL(0, cove_sync(segment, PATIENCE_NS));
    segment_leave(s, segment);
    CHECK(!has_copy(s));
}

static void hold_a_lock(struct subject *s, void *context)
{
    (void)context;
    cove_segment *segment = segment_open(s, 0);
    EQUAL(0, cove_mutex_lock(segment, (cove_mutex *)(void *)the_number(segment, COVE_EXISTING), COVE_NOWAIT));
    reach(STEP_READY);
    await(STEP_GO);
    EQUAL(0, cove_mutex_unlock(segment, (cove_mutex *)(void *)the_number(segment, COVE_EXISTING)));
    EQUAL(0, cove_close(segment));
}

/* It waits for who is inside of something, and says who that is when it waits no longer. */
static void sync_waits(struct subject *s)
{
    char pid[16];
    cove_segment *segment = segment_make(s);
    *the_number(segment, 0) = 0;
    TRY(cove_sync(segment, PATIENCE_NS));
    pid_t other = start(hold_a_lock, s, NULL);
    await(STEP_READY);
    (void)snprintf(pid, sizeof pid, "%d", (int)other);
    SAYS(-ETIMEDOUT, pid, cove_sync(segment, 20000000));
    reach(STEP_GO);
    EQUAL(0, cove_sync(segment, PATIENCE_NS));
    join(other);
    segment_leave(s, segment);
}

struct dying {
    uint64_t synced; /* 0: cove_sync is not called */
    uint64_t afterwards;
};

/* In use when the machine stopped: killed without a close. */
static void store_and_die(struct subject *s, void *context)
{
    const struct dying *dying = context;
    cove_segment *segment = segment_make(s);
    uint64_t *number = the_number(segment, 0);
    if (dying->synced) {
        *number = dying->synced;
        EQUAL(0, cove_sync(segment, PATIENCE_NS));
    }
    *number = dying->afterwards;
    (void)raise(SIGKILL);
}

static void need_sync(const struct subject *s)
{
    if (cove_supports(s->name, COVE_CAN_SYNC) != 1)
        NOT_HERE();
}

/* In use when the machine stopped, and no copy: never recovered in place. */
static void unclean(struct subject *s)
{
    struct dying dying = {0, 3};
    struct cove_segment_info info;
    cove_segment *segment = NULL;
    need_sync(s);
    CHECK(signal_of(store_and_die, s, &dying) == SIGKILL);
    another_boot(s->path);
    SAYS(COVE_EUNCLEAN, s->name, cove_open(&segment, s->name, NULL));
    EQUAL(COVE_EUNCLEAN, cove_open(&segment, s->name, &(struct cove_options){.flags = COVE_EXISTING}));
    CHECK(!segment);
    int looked = cove_stat(s->name, &info);
    CHECK(looked == 0 || looked == COVE_EUNCLEAN);
    EQUAL(0, cove_unlink(s->name, 1));
}

/* In use when the machine stopped: the copy takes its place, with what was synced and nothing younger. */
static void unclean_with_copy(struct subject *s)
{
    struct dying dying = {8, 9};
    cove_segment *segment = NULL;
    struct cove_member_info list[4];
    need_sync(s);
    CHECK(signal_of(store_and_die, s, &dying) == SIGKILL);
    CHECK(has_copy(s));
    another_boot(s->path);
    EQUAL(COVE_RECOVERED, cove_open(&segment, s->name, NULL));
    CHECK(*the_number(segment, COVE_EXISTING) == 8);
    EQUAL(1, cove_segment_members(segment, list, 4));
    segment_sound(segment);
    EQUAL(0, cove_close(segment));
    segment = segment_open(s, 0); /* from now on it is a segment as any other */
    CHECK(*the_number(segment, COVE_EXISTING) == 8);
    segment_leave(s, segment);
    CHECK(!has_copy(s));
}

/* In use when its last user was killed, in this same boot: nothing was lost, and nothing is refused. */
static void killed_in_this_boot(struct subject *s)
{
    struct dying dying = {0, 4};
    need_sync(s);
    CHECK(signal_of(store_and_die, s, &dying) == SIGKILL);
    cove_segment *segment = segment_open(s, 0);
    CHECK(*the_number(segment, COVE_EXISTING) == 4);
    segment_leave(s, segment);
}

/* Left clean: another boot changes nothing. */
static void clean(struct subject *s)
{
    need_sync(s);
    cove_segment *segment = segment_make(s);
    *the_number(segment, 0) = 6;
    EQUAL(0, cove_close(segment));
    another_boot(s->path);
    segment = segment_open(s, 0);
    CHECK(*the_number(segment, COVE_EXISTING) == 6);
    EQUAL(0, cove_close(segment));
    segment = segment_open(s, 0);
    segment_leave(s, segment);
}

/* A copy that is no segment is not believed. */
static void spoilt_copy(struct subject *s)
{
    struct dying dying = {8, 9};
    char path[PATH_BYTES + 8];
    cove_segment *segment = NULL;
    need_sync(s);
    CHECK(signal_of(store_and_die, s, &dying) == SIGKILL);
    copy_path(s, path);
    CHECK(truncate(path, 100) == 0);
    another_boot(s->path);
    int result = cove_open(&segment, s->name, NULL);
    CHECK(result == COVE_EUNCLEAN || result == COVE_ECORRUPT || result == COVE_ENOTCOVE);
    CHECK(*cove_last_error() && !segment);
    EQUAL(0, cove_unlink(s->name, 1));
    CHECK(!has_copy(s));
}

static const struct row table[] = {
    {"segment.synced", synced, COVE_CAN_SYNC},
    {"segment.sync-waits", sync_waits, COVE_CAN_SYNC},
    {"segment.unclean", unclean, NO_FEATURE},
    {"segment.unclean-with-copy", unclean_with_copy, NO_FEATURE},
    {"segment.spoilt-copy", spoilt_copy, NO_FEATURE},
    {"segment.killed-in-this-boot", killed_in_this_boot, NO_FEATURE},
    {"segment.clean", clean, NO_FEATURE},
};
const struct rows segment_sync_rows = ROWS(table);
