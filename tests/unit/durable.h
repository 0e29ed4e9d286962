/* durable.h - for tests of segments that outlive the machine: their files, and other runs of the system.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Another run of the system is played by storing another boot id into the header of a file that nobody has open. */
#ifndef DURABLE_H
#define DURABLE_H

#include "unit.h"

#include "segment/segment_shm.h"

#include <fcntl.h>
#include <signal.h>

/* "DIRECTORY/NAME.cove" + suffix */
static inline const char *durable_path(const char *name, const char *suffix)
{
    static _Thread_local char paths[2][1100];
    static _Thread_local unsigned turn;
    char *path = paths[turn++ % 2];
    (void)snprintf(path, sizeof paths[0], "%s/%s.cove%s", testing_dir(), name, suffix);
    return path;
}

/* What cove_open calls it. */
static inline const char *durable_name(const char *name)
{
    static _Thread_local char full[1100];
    (void)snprintf(full, sizeof full, "file:%s", durable_path(name, ""));
    return full;
}

static inline void durable_read(const char *path, void *bytes, size_t size_bytes, uint64_t offset)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(file >= 0);
    assert_int_equal(pread(file, bytes, size_bytes, (off_t)offset), size_bytes);
    assert_int_equal(close(file), 0);
}

static inline void durable_write(const char *path, const void *bytes, size_t size_bytes, uint64_t offset)
{
    int file = open(path, O_RDWR | O_CLOEXEC);
    assert_true(file >= 0);
    assert_int_equal(pwrite(file, bytes, size_bytes, (off_t)offset), size_bytes);
    assert_int_equal(close(file), 0);
}

static inline uint32_t durable_clean(const char *name)
{
    uint32_t clean = 77;
    durable_read(durable_path(name, ""), &clean, sizeof clean, offsetof(struct covei_header_shm, clean));
    return clean;
}

static inline void durable_set_clean(const char *path, uint32_t clean)
{
    durable_write(path, &clean, sizeof clean, offsetof(struct covei_header_shm, clean));
}

/* As if the machine had started anew since. */
static inline void durable_other_boot(const char *path)
{
    uint8_t id[16];
    memset(id, 0xab, sizeof id);
    durable_write(path, id, sizeof id, offsetof(struct covei_header_shm, boot_id));
}

static inline bool durable_exists(const char *name, const char *suffix)
{
    struct stat about;
    return lstat(durable_path(name, suffix), &about) == 0;
}

static inline uint64_t *durable_number(cove_segment *segment)
{
    return unit_object(segment, "number", 8);
}

/* A process that stores `synced` and calls cove_sync (unless it is 0), then `afterwards`, and is killed. */
struct durable_death {
    const char *name;
    uint64_t synced, afterwards;
    uint32_t lifetime;
};

static inline void durable_die(void *argument)
{
    const struct durable_death *death = argument;
    cove_segment *segment = unit_open_as(durable_name(death->name),
                                         &(struct cove_options){.lifetime = death->lifetime, .max_members = 16});
    uint64_t *number = durable_number(segment);
    *number = death->synced;
    if (death->synced)
        EXPECT(0, cove_sync(segment, unit_patience()));
    *number = death->afterwards;
    (void)raise(SIGKILL);
}

static inline void durable_leave_unclean(const char *name, uint64_t synced, uint64_t afterwards)
{
    struct durable_death death = {name, synced, afterwards, COVE_KEEP};
    assert_int_equal(WTERMSIG(testing_wait(testing_spawn(durable_die, &death))), SIGKILL);
}

#endif
