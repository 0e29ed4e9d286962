/* region.h - named stretches of raw shared bytes: what every backend can do, and what files share.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Segments and public regions (cove_region) stand on this. A backend is one `const struct covei_backend`; most are
 * files of some kind and share the functions of files.c. */
#ifndef COVEI_REGION_REGION_H
#define COVEI_REGION_REGION_H

#include "os/os.h"
#include "region/name.h"

#include <cove/region.h>
#include <cove/segment.h>

#define COVEI_DEBRIS_PREFIX ".cove-new-" /* files that are being built where the system has no nameless ones */
#define COVEI_DEBRIS_BYTE UINT64_C(0) /* locked by the builder while it lives */
#define COVEI_LIFE_CYCLE_BYTE (UINT64_C(1) << 40) /* shared: opening; exclusive: making (System V), removing */
#define COVEI_LIFE_CYCLE_NS INT64_C(5000000000) /* how long others may hold us up who open or remove */
#define COVEI_SEGMENT_MAGIC UINT64_C(0x0a31746765766f43) /* what a segment's bytes begin with */

/* Memory that was found or made. */
struct covei_region {
    const struct covei_backend *backend;
    int file; /* the memory itself; of System V segments the file whose bytes are locked; -1: none */
    int system_id; /* System V; else -1 */
    uint64_t device, inode; /* which it is, whatever its name */
};

/* Memory that is being made and has no name yet. */
struct covei_building {
    struct covei_region region;
    char path[COVEI_PATH_MAX]; /* of a temporary file; "" where there is none */
    uint32_t mode; /* System V: the rights that it is made with; files get theirs just before the name */
};

struct covei_region_stat {
    uint64_t size_bytes, allocated_bytes, changed_ns;
    uint32_t mode, uid, gid;
    struct covei_shm_stat shm; /* System V */
};

struct covei_backend {
    const char *name;
    uint32_t features; /* bit n: enum cove_feature n; that of COVE_CAN_USE where it needs no asking */
    bool (*usable)(const struct covei_place *place); /* where it does */

    /* Find what exists, and look at it before anything is believed: the right kind, of this user unless
     * COVE_ANY_OWNER. 0, -ENOENT, COVE_ENOTCOVE, COVE_EOWNER, -EACCES, ..., with a sentence. */
    int (*find)(struct covei_region *region, const struct covei_place *place, uint32_t flags);
    /* Begin memory for at least `size_bytes` bytes; all zero; for its owner alone. Files are empty still. */
    int (*build)(struct covei_building *building, const struct covei_place *place, uint64_t size_bytes);
    /* Give it its name in one step that fails with -EEXIST if somebody was first. The region is the caller's then. */
    int (*publish)(struct covei_building *building, const struct covei_place *place);
    /* Drop it; nothing stays. */
    void (*abandon)(struct covei_building *building, const struct covei_place *place);
    /* Does the name still lead to it? */
    bool (*leads_to)(const struct covei_region *region, const struct covei_place *place);
    /* Take the name away. */
    int (*remove)(const struct covei_region *region, const struct covei_place *place);
    int (*set_rights)(const struct covei_region *region, const struct covei_place *place, uint32_t mode,
                      const uint32_t *gid);
    int (*stat)(const struct covei_region *region, struct covei_region_stat *stat);
    /* Memory for [offset, offset + size_bytes), or an error with a sentence. Repeating it changes nothing. */
    int (*reserve)(const struct covei_region *region, const char *name, uint64_t offset, uint64_t size_bytes);
    /* Bytes that could still be reserved; UINT64_MAX: nobody knows. */
    uint64_t (*room)(const struct covei_region *region, uint64_t *total_bytes);
    int (*map)(const struct covei_region *region, void **address, uint64_t offset, uint64_t size_bytes,
               enum covei_access access);
    void (*unmap)(void *address, uint64_t size_bytes);
    int64_t (*read)(const struct covei_region *region, void *data, size_t size_bytes, uint64_t offset);
    int (*write)(const struct covei_region *region, const void *data, size_t size_bytes, uint64_t offset);
    /* Does it hold a segment? NULL: its first bytes tell. */
    int (*is_segment)(const struct covei_region *region);
    /* What mappings and parts are multiples of. */
    uint64_t (*page_bytes)(const struct covei_region *region);
};

#define COVEI_FEATURE(feature) (UINT32_C(1) << (feature))

extern const struct covei_backend covei_backend_posix, covei_backend_file, covei_backend_sysv, covei_backend_sysv_raw,
    covei_backend_memfd, covei_backend_fd, covei_backend_huge;

static inline bool covei_can(const struct covei_backend *backend, enum cove_feature feature)
{
    return (backend->features & COVEI_FEATURE(feature)) != 0;
}

/* ---- region.c */

/* The backend of a place; of a HUGETRY one NULL, since it has to be chosen first. */
const struct covei_backend *covei_backend_of(const struct covei_place *place);
int covei_region_find(struct covei_region *region, const struct covei_place *place, uint32_t flags);
/* `mode`: the rights that it will have; where it has a name from its first moment, it has them from then on too. */
int covei_region_build(struct covei_building *building, const struct covei_place *place, uint64_t size_bytes,
                       uint32_t mode);
void covei_region_close(struct covei_region *region);
/* Set the group, where `group` is not NULL, and the mode. With a sentence. */
int covei_region_give(const struct covei_region *region, const struct covei_place *place, uint32_t mode,
                      const char *group);
/* Bytes of memory or disk that it occupies. */
uint64_t covei_region_resident(const struct covei_region *region, const struct covei_region_stat *stat);
int covei_region_is_segment(const struct covei_region *region); /* 1, 0, or a negated errno */
/* Is there room for that much? -ENOSPC with a sentence. Reserving until the file system is full would leave nobody
 * any memory while it fails. */
int covei_region_ask(const struct covei_region *region, const char *name, uint64_t size_bytes);

/* ---- files.c: what backends whose memory is a file share */

/* "NAME: opening PATH failed ...", for a result of file_open. */
int covei_file_explain(int result, const struct covei_place *place);
int covei_file_adopt(struct covei_region *region, const struct covei_place *place, uint32_t flags);
int covei_file_find(struct covei_region *region, const struct covei_place *place, uint32_t flags);
int covei_file_build(struct covei_building *building, const struct covei_place *place, uint64_t size_bytes);
/* Begin a file that has a name of its own from the start: what will replace another needs that. */
int covei_file_build_named(struct covei_building *building, const struct covei_place *place);
int covei_file_publish(struct covei_building *building, const struct covei_place *place);
int covei_file_replace(struct covei_building *building, const struct covei_place *place);
void covei_file_abandon(struct covei_building *building, const struct covei_place *place);
bool covei_file_leads_to(const struct covei_region *region, const struct covei_place *place);
int covei_file_remove(const struct covei_region *region, const struct covei_place *place);
int covei_file_set_rights(const struct covei_region *region, const struct covei_place *place, uint32_t mode,
                          const uint32_t *gid);
int covei_file_stat(const struct covei_region *region, struct covei_region_stat *stat);
int covei_file_reserve(const struct covei_region *region, const char *name, uint64_t offset, uint64_t size_bytes);
uint64_t covei_file_room(const struct covei_region *region, uint64_t *total_bytes);
int covei_file_map(const struct covei_region *region, void **address, uint64_t offset, uint64_t size_bytes,
                   enum covei_access access);
void covei_file_unmap(void *address, uint64_t size_bytes);
int64_t covei_file_read(const struct covei_region *region, void *data, size_t size_bytes, uint64_t offset);
int covei_file_write(const struct covei_region *region, const void *data, size_t size_bytes, uint64_t offset);
uint64_t covei_file_page_bytes(const struct covei_region *region);

/* What backends have in common whose memory is a file with a name, after it was found and begun. */
#define COVEI_NAMED_FILE                                                                                      \
    .publish = covei_file_publish, .abandon = covei_file_abandon, .leads_to = covei_file_leads_to,            \
    .remove = covei_file_remove, .set_rights = covei_file_set_rights, .stat = covei_file_stat,                \
    .reserve = covei_file_reserve, .room = covei_file_room, .map = covei_file_map, .unmap = covei_file_unmap, \
    .read = covei_file_read, .write = covei_file_write, .page_bytes = covei_file_page_bytes

/* -ENOSPC, with a sentence that gives the bytes needed, those free, and the fix. */
int covei_region_no_room(const struct covei_region *region, const char *name, uint64_t needed_bytes);

/* Copies through a short mapping, for memory that cannot be read and written as files are. */
int64_t covei_mapped_read(const struct covei_region *region, void *data, size_t size_bytes, uint64_t offset);
int covei_mapped_write(const struct covei_region *region, const void *data, size_t size_bytes, uint64_t offset);

/* ---- debris.c */

/* Remove what dead builders left in the place's directory. Returns how many there were; with `dry_run` they stay. */
int64_t covei_debris_clear(const struct covei_place *place, bool dry_run);
/* Is that file of a directory debris? Then remove it, unless `dry_run`. */
bool covei_debris_clear_one(const char *directory, const char *file_name, bool dry_run);

/* ---- life_cycle.c */

/* Take the life-cycle byte of a file, shared or exclusively, waiting until the deadline. 0, -ETIMEDOUT, with a
 * sentence. */
int covei_life_cycle_lock(int file, const char *name, bool exclusive, int64_t deadline);
void covei_life_cycle_unlock(int file);
int64_t covei_wait_begin(int64_t timeout_ns); /* a deadline on the monotonic clock */
static inline int64_t covei_wait_left(int64_t deadline) /* 0: it has passed */
{
    if (deadline == INT64_MAX)
        return INT64_MAX;
    int64_t left = deadline - covei_os->now();
    return left > 0 ? left : 0;
}
/* The lock under which a HUGETRY name is made, so that of many who make it at once all choose the same. Returns a
 * descriptor to give back, or an error with a sentence. */
int covei_choice_lock(const struct covei_place *hugetry, char path[COVEI_PATH_MAX], int64_t deadline);
void covei_choice_unlock(int file, const char *path);

/* ---- open.c */

/* Open what a HUGETRY name leads to: `place` becomes the huge form or the normal one, and `open` is called with it.
 * */
typedef int covei_choice(void *context, const struct covei_place *place);
int covei_choose(struct covei_place *place, int64_t deadline, covei_choice *open, void *context, bool may_create);

/* ---- sysv.c */

/* Does the file keep the locks of a System V segment that is gone? Then take it away, unless `dry_run`. */
bool covei_sysv_clear_side(const char *file_name, bool dry_run);

/* ---- guard.c */

/* A mapping whose bytes may vanish. `broken` is set when they did, and whoever goes on uses private memory. */
struct covei_guarded {
    _Atomic uintptr_t begin;
    _Atomic uintptr_t end; /* 0: not in use */
    _Atomic uint32_t broken;
    uintptr_t page; /* bytes of a page of the mapping */
    void (*broke)(void *context); /* called in the handler of the signal; NULL: nothing */
    void *context;
};
/* Guard a mapping from now on. NULL and an error with a sentence where that cannot be: -EMFILE (all places are in
 * use), or what the system says. */
struct covei_guarded *covei_guard_begin(void *address, uint64_t size_bytes, uint64_t page_bytes, const char *name,
                                        void (*broke)(void *context), void *context, int *result);
void covei_guard_end(struct covei_guarded *guarded);
/* All that guard the mapping at that address, before it goes: an access may have been left by a jump. */
void covei_guard_end_of(const void *address);
bool covei_guard_wanted(uint32_t flags); /* by COVE_GUARD, or cove_guard_all */

#endif
