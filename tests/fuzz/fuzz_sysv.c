/* fuzz_sysv.c - System V segments of any bytes, with a side file of any bytes.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The system's calls are replaced by one segment of shared memory that exists in this process alone, so no object of
 * the machine is in danger. Head: one byte, see enum. The patches' bit says whether they are for the memory or the
 * side file. Somebody else's memory under the key is neither written nor removed, whatever the side file says of it,
 * unless that says that its very maker died while building. */
#include "ground.h"
#include "target.h"
#include "use.h"

#include <cove.h>

#include "region/name.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum head {
    FOREIGN = 1, /* the memory is no segment, and somebody else's */
    GONE = 2, /* there is none under the key */
    OTHER_USER = 4,
    BY_PATH = 8, /* sysv:PATH:ID */
    READONLY = 16,
    NO_SIDE = 32,
    UNLINK = 64, /* by force, at the end */
};

#define ID 77
#define FOREIGN_PID 4242
#define BY_KEY_NAME "sysv:0x5eed"
#define BY_PATH_NAME "sysv:/:7" /* of the root directory, which is always there */
#define FOREIGN_BYTES 8192u
#define SIZE_BYTES 16384

/* What the side file begins with, as sysv.c has it. */
struct record {
    uint32_t phase;
    int32_t pid, id;
};
enum { BUILDING = 1 };

static struct image images[2];

/* ---- the memory */

static struct {
    bool exists;
    int file; /* holds its bytes */
    uint64_t size_bytes;
    int32_t creator_pid;
    uint32_t uid;
    bool removed; /* since the input began */
} memory = {.file = -1};

static void make_memory(const void *bytes, uint64_t size_bytes)
{
    if (memory.file < 0)
        memory.file = memfd_create("memory", MFD_CLOEXEC);
    ground_demand(ftruncate(memory.file, 0), "shrink");
    ground_demand(ftruncate(memory.file, (off_t)size_bytes), "size");
    if (bytes && pwrite(memory.file, bytes, size_bytes, 0) != (ssize_t)size_bytes)
        ground_demand(-EIO, "fill");
    memory.exists = true;
    memory.size_bytes = size_bytes;
    memory.creator_pid = getpid();
    memory.uid = covei_os_native.user_id();
}

static int shm_find(uint32_t key, int *id)
{
    (void)key; /* it is that of every key */
    if (!memory.exists)
        return -ENOENT;
    *id = ID;
    return 0;
}

static int shm_make(uint32_t key, uint64_t size_bytes, uint32_t mode, int *id)
{
    (void)key, (void)mode;
    if (memory.exists)
        return -EEXIST;
    make_memory(NULL, size_bytes);
    *id = ID;
    return 0;
}

static int shm_stat(int id, struct covei_shm_stat *stat)
{
    if (id != ID || !memory.exists)
        return -EINVAL;
    *stat = (struct covei_shm_stat){.id = ID,
                                    .key = 0x5eed,
                                    .size_bytes = memory.size_bytes,
                                    .mode = 0600,
                                    .uid = memory.uid,
                                    .creator_uid = memory.uid,
                                    .creator_pid = memory.creator_pid};
    return 0;
}

static int shm_set_rights(int id, uint32_t mode, const uint32_t *gid)
{
    (void)mode, (void)gid;
    return id == ID && memory.exists ? 0 : -EINVAL;
}

/* How much is mapped where: the call that takes it off does not say. */
static struct {
    void *address;
    uint64_t size_bytes;
} mapped[64];
#define PLACES (sizeof mapped / sizeof *mapped)

static int shm_map(void **address, int id, bool writable)
{
    if (id != ID || !memory.exists)
        return -EINVAL;
    size_t i = 0;
    while (i < PLACES && mapped[i].address)
        i++;
    if (i == PLACES)
        ground_fail("memory is attached again and again");
    uint64_t whole = (memory.size_bytes + 4095) / 4096 * 4096;
    int result = ground_calls.map(address, memory.file, 0, whole, writable ? COVEI_ACCESS_WRITE : COVEI_ACCESS_READ,
                                  false);
    if (result < 0)
        return result;
    mapped[i].address = *address;
    mapped[i].size_bytes = whole;
    return 0;
}

static int shm_unmap(void *address)
{
    for (size_t i = 0; i < PLACES; i++)
        if (mapped[i].address == address) {
            ground_calls.unmap(address, mapped[i].size_bytes);
            mapped[i].address = NULL;
            return 0;
        }
    ground_fail("memory is detached that is not attached");
}

static int shm_remove(int id)
{
    if (id != ID || !memory.exists)
        return -EINVAL;
    memory.exists = false;
    memory.removed = true;
    return 0;
}

/* ---- the images: a segment that was made in that memory */

static void side_path(char path[COVEI_PATH_MAX], const char *name)
{
    struct covei_place place;
    ground_demand(covei_place_parse(&place, name, false), name);
    (void)snprintf(path, COVEI_PATH_MAX, "%s", place.path);
}

static void begin(void)
{
    static unsigned char bytes[IMAGE_LARGEST];
    struct cove_options options = {.size_bytes = SIZE_BYTES, .max_size_bytes = SIZE_BYTES, .max_members = 2};
    cove_segment *segment = NULL;
    char path[COVEI_PATH_MAX];
    ground_begin();
    ground_calls.shm_find = shm_find;
    ground_calls.shm_make = shm_make;
    ground_calls.shm_stat = shm_stat;
    ground_calls.shm_set_rights = shm_set_rights;
    ground_calls.shm_map = shm_map;
    ground_calls.shm_unmap = shm_unmap;
    ground_calls.shm_remove = shm_remove;
    ground_demand(cove_open(&segment, BY_KEY_NAME, &options), "create");
    image_fill(segment);
    side_path(path, BY_KEY_NAME);
    image_take(&images[1], path);
    ground_demand(pread(memory.file, bytes, sizeof bytes, 0), "read");
    ground_write(image_path(), bytes, memory.size_bytes, memory.size_bytes);
    image_take(&images[0], image_path());
    ground_demand(cove_abort(segment), "abort");
    ground_demand(cove_close(segment), "close");
    ground_clear();
}

const struct target target = {.head_bytes = 1, .images = {&images[0], &images[1]}, .begin = begin};

/* ---- an input */

static void set_up(uint8_t head, const char *name, const uint8_t *data, size_t size, struct record *record)
{
    static unsigned char bytes[2 * IMAGE_LARGEST];
    char path[COVEI_PATH_MAX];
    image_put(&images[0], 0, image_path(), data, size);
    size_t length = ground_read(image_path(), bytes, sizeof bytes);
    (void)unlink(image_path());
    if (head & FOREIGN)
        memset(bytes, 'f', length = FOREIGN_BYTES);
    make_memory(bytes, length ? length : 1);
    memory.exists = !(head & GONE);
    memory.removed = false;
    memory.uid += head & OTHER_USER ? 1 : 0;
    if (head & FOREIGN)
        memory.creator_pid = FOREIGN_PID;
    memset(record, 0, sizeof *record);
    if (head & NO_SIDE)
        return;
    side_path(path, name);
    image_put(&images[1], 1, path, data, size);
    (void)ground_read(path, record, sizeof *record);
}

static void work(uint8_t head, const char *name, uint64_t place)
{
    cove_segment *segment = NULL;
    struct cove_segment_info info;
    struct cove_region_info region;
    (void)cove_stat(name, &info);
    (void)cove_region_look(name, &region);
    (void)cove_gc(1, NULL, NULL);
    uint32_t flags = head & READONLY ? COVE_READONLY : COVE_EXISTING;
    if (cove_open(&segment, name, &(struct cove_options){.flags = flags, .timeout_ns = 1000000}) >= 0) {
        if (head & READONLY)
            use_look(segment, place);
        else
            use_segment(segment, place);
        if (!use_close(segment))
            ground_fail("it cannot be closed");
    }
    (void)cove_gc(0, NULL, NULL);
}

static void check_foreign(const struct record *record)
{
    static unsigned char bytes[FOREIGN_BYTES];
    if (memory.removed && !(record->phase == BUILDING && record->pid == FOREIGN_PID))
        ground_fail("somebody else's memory was removed");
    ground_demand(pread(memory.file, bytes, sizeof bytes, 0), "read");
    for (size_t i = 0; i < sizeof bytes; i++)
        if (bytes[i] != 'f')
            ground_fail("somebody else's memory was written to");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t head = size > 0 ? data[0] : 0;
    const char *name = head & BY_PATH ? BY_PATH_NAME : BY_KEY_NAME;
    struct record record;
    ground_clear();
    set_up(head, name, data + (size > 0), size - (size > 0), &record);
    work(head, name, use_place(data, size));
    if (head & FOREIGN)
        check_foreign(&record);
    if (head & UNLINK)
        (void)cove_unlink(name, 1);
    for (size_t i = 0; i < PLACES; i++)
        if (mapped[i].address)
            ground_fail("memory stays attached");
    return 0;
}
