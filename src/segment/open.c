/* open.c - opening segments; one handle a segment in a process.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Open: look the name up; where there is a file, check a copy of its header, map it, and join under the life-cycle
 * byte (shared), after looking whether the name still leads to this file. Where there is none, build one. Whoever
 * loses a race goes round again, until the timeout.
 * Between removal's mark and the loss of the name its maker may die; whoever finds the mark takes the name away.
 *
 * Crash: joined or not. Closing is in close.c. */
#include "region/region.h"
#include "segment/build.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NAP_NS INT64_C(200000) /* between two tries */

int64_t covei_wait_begin(int64_t timeout_ns)
{
    int64_t now = covei_os->now();
    return timeout_ns >= INT64_MAX - now ? INT64_MAX : now + timeout_ns;
}

/* ---- handles */

struct cove_segment *covei_handle_new(const char *name, uint32_t flags)
{
    struct cove_segment *segment = calloc(1, sizeof *segment);
    if (!segment) {
        (void)covei_error(-ENOMEM, "%s: no memory for a handle", name);
        return NULL;
    }
    segment->file = segment->lock_file = -1;
    segment->flags = flags;
    segment->epoch = covei_process_epoch();
    (void)pthread_mutex_init(&segment->mutex, NULL);
    memcpy(segment->name, name, strnlen(name, COVEI_NAME_MAX));
    covei_registry_lock();
    segment->next = covei_registry;
    covei_registry = segment;
    covei_registry_unlock();
    return segment;
}

static void leave_registry(struct cove_segment *segment)
{
    struct cove_segment **at = &covei_registry;
    while (*at && *at != segment)
        at = &(*at)->next;
    if (*at)
        *at = segment->next;
}

int covei_handle_open_lock_file(struct cove_segment *segment)
{
    covei_registry_lock(); /* a fork waits: the child must find the descriptor in the handle, to close it */
    int file = covei_os->file_reopen(segment->file, COVEI_OPEN_WRITE);
    segment->lock_file = file < 0 ? -1 : file;
    covei_registry_unlock();
    if (file < 0)
        return covei_error(file, "%s: opening a second descriptor of its file failed: %s (is /proc mounted?)",
                           segment->name, cove_strerror(file));
    return 0;
}

void covei_handle_drop(struct cove_segment *segment)
{
    covei_registry_lock(); /* as above: a child must not be born between the two */
    leave_registry(segment);
    if (segment->lock_file >= 0)
        covei_os->file_close(segment->lock_file);
    covei_registry_unlock();
    if (segment->base)
        covei_os->unmap(segment->base, segment->mapped_bytes);
    if (segment->file >= 0)
        covei_os->file_close(segment->file);
    (void)pthread_mutex_destroy(&segment->mutex);
    free(segment);
}

/* An open failed, perhaps after this thread took a lane to recover somebody; or it was one too many. */
static void abandon(struct cove_segment *segment, bool joined)
{
    struct covei_lane *lane = covei_thread.lanes;
    while (lane && lane->segment != segment)
        lane = lane->next;
    if (lane)
        covei_lane_release(lane); /* does not end the handle, which has no inode yet */
    if (joined)
        covei_roster_release(segment);
    covei_handle_drop(segment);
}

/* ---- the life cycle */

bool covei_name_leads_to(const char *path, uint64_t device, uint64_t inode)
{
    struct covei_file_stat stat;
    return covei_os->path_stat(path, &stat) == 0 && stat.device == device && stat.inode == inode;
}

int covei_life_cycle_lock(int file, const char *name, bool exclusive, int64_t deadline)
{
    int result;
    while ((result = covei_os->lock_try(file, COVEI_BYTE_LIFE_CYCLE, exclusive)) == -EAGAIN) {
        if (covei_wait_left(deadline) == 0)
            return covei_error(-ETIMEDOUT,
                               "%s: another process is opening or removing it and does not get on; look whether it is "
                               "stopped, or wait longer",
                               name);
        covei_os->nap(NAP_NS);
    }
    return result < 0 ? covei_error(result, "%s: locking its file failed: %s", name, cove_strerror(result)) : 0;
}

void covei_life_cycle_unlock(int file)
{
    (void)covei_os->lock_drop(file, COVEI_BYTE_LIFE_CYCLE);
}

static void write_state(int file, uint32_t state)
{
    (void)covei_os->file_write_at(file, &state, sizeof state, offsetof(struct covei_header_shm, state));
}

int covei_remove_name(int file, const char *name, const char *path)
{
    write_state(file, COVEI_SEGMENT_REMOVED);
    int result = covei_os->path_remove(path);
    if (result == 0 || result == -ENOENT)
        return 0;
    write_state(file, COVEI_SEGMENT_READY); /* or the next to open it would try to finish what we may not do */
    return covei_error(result, "%s: removing %s failed: %s; the directory must let you", name, path,
                       cove_strerror(result));
}

/* ---- joining */

int covei_segment_join(struct cove_segment *segment)
{
    int result = covei_roster_claim(segment);
    if (result < 0)
        return result;
    segment->may_fence = covei_os->fence_register() == 0;
    if (!segment->may_fence)
        /* Nobody can fence us from outside, so senders see this and fence themselves. release: before our first
         * message. */
        atomic_store_explicit(&segment->header->must_fence, 1, memory_order_release);
    return 0;
}

int covei_header_read(int file, const char *name, struct covei_header_shm *header)
{
    struct covei_file_stat stat;
    memset(header, 0, sizeof *header);
    int64_t count = covei_os->file_read_at(file, header, sizeof *header, 0);
    if (count < 0)
        return covei_error((int)count, "%s: reading its file failed: %s", name, cove_strerror((int)count));
    /* After the header: the file grows before the header says so. */
    int result = covei_os->file_stat(file, &stat);
    if (result < 0)
        return covei_error(result, "%s: looking at its file failed: %s", name, cove_strerror(result));
    return covei_header_verify(header, name, count < (int64_t)sizeof *header ? 0 : stat.size_bytes);
}

static int check_features(const struct cove_segment *segment, const struct covei_header_shm *header)
{
    uint64_t unknown = atomic_load_explicit(&header->features, memory_order_relaxed) & ~covei_upper.features;
    if (unknown != 0)
        return covei_error(COVE_ELAYOUT,
                           "%s: it holds objects of a type that this library does not know (features %#llx); use a "
                           "newer Cove",
                           segment->name, (unsigned long long)unknown);
    return 0;
}

/* Before we are one ourselves. */
static bool has_living_member(const struct cove_segment *segment)
{
    for (uint32_t row = 0; row < segment->max_members; row++)
        if (covei_row_used(atomic_load_explicit(&segment->states[row], memory_order_acquire)) &&
            covei_os->lock_held(segment->file, COVEI_BYTE_ALIVE(row)) != 0)
            return true;
    return false;
}

/* Join under the life-cycle byte. A LAST_OUT segment whose last member died went with it: it loses its name now.
 * COVE_EREMOVED: the file has lost its name, or is about to; try again. */
static int join_named(struct cove_segment *segment, const char *path, const struct covei_file_stat *stat,
                      int64_t deadline)
{
    bool last_out = segment->header->lifetime == COVE_LAST_OUT;
    int result = covei_handle_open_lock_file(segment);
    if (result < 0)
        return result;
    result = covei_life_cycle_lock(segment->lock_file, segment->name, last_out, deadline);
    if (result < 0)
        return result;
    if (atomic_load_explicit(&segment->header->state, memory_order_acquire) != COVEI_SEGMENT_READY ||
        !covei_name_leads_to(path, stat->device, stat->inode))
        result = COVE_EREMOVED;
    else if (last_out && !has_living_member(segment)) {
        result = covei_remove_name(segment->file, segment->name, path);
        result = result < 0 ? result : COVE_EREMOVED;
    } else
        result = covei_segment_join(segment);
    covei_life_cycle_unlock(segment->lock_file);
    return result;
}

static int attach(struct cove_segment *segment, const char *path, const struct covei_file_stat *stat, int64_t deadline)
{
    struct covei_header_shm header;
    int result = covei_header_read(segment->file, segment->name, &header);
    if (result == 0)
        result = check_features(segment, &header);
    if (result < 0)
        return result;
    uint32_t state = atomic_load_explicit(&header.state, memory_order_relaxed);
    if (state == COVEI_SEGMENT_REMOVED && !(segment->flags & COVE_READONLY))
        return COVE_EREMOVED;
    if (state != COVEI_SEGMENT_READY && state != COVEI_SEGMENT_REMOVED)
        return covei_error(COVE_ECORRUPT, "%s: its header has no state; remove it (cove rm --force)", segment->name);
    segment->max_members = header.max_members;
    segment->max_lanes = header.max_lanes;
    uint64_t size = atomic_load_explicit(&header.size_bytes, memory_order_relaxed);
    result = covei_segment_map(segment, size, header.max_size_bytes);
    if (result < 0)
        return result;
    covei_segment_locate(segment);
    return segment->flags & COVE_READONLY ? 0 : join_named(segment, path, stat, deadline);
}

int covei_finish_removal(const char *name, const char *path, int64_t deadline)
{
    struct covei_file_stat stat;
    int file = covei_region_open(name, path, COVE_ANY_OWNER, &stat);
    if (file < 0)
        return file == -ENOENT ? 0 : file;
    uint32_t state = 0;
    int result = covei_life_cycle_lock(file, name, true, deadline);
    if (result == 0) {
        (void)covei_os->file_read_at(file, &state, sizeof state, offsetof(struct covei_header_shm, state));
        if (state == COVEI_SEGMENT_REMOVED && covei_name_leads_to(path, stat.device, stat.inode))
            result = covei_remove_name(file, name, path);
        covei_life_cycle_unlock(file); /* a child forked meanwhile may have a copy of the descriptor */
    }
    covei_os->file_close(file);
    return result;
}

/* ---- open */

/* The handle that this process has of that file already and that can be opened once more: open, or lingering. A
 * handle that is still being opened has no inode yet; one that is closing is left alone. Under the registry's lock.
 * */
static struct cove_segment *find_handle(const struct covei_file_stat *stat)
{
    struct cove_segment *segment = covei_registry;
    while (segment && (segment->device != stat->device || segment->inode != stat->inode || segment->closing ||
                       segment->flags & COVE_READONLY))
        segment = segment->next;
    return segment;
}

/* Our membership lingers: become a member again, under the life-cycle byte, so that a last member who is just
 * removing the segment sees us, or we see that it is gone. */
static bool rejoin(struct cove_segment *segment, const char *path, const struct covei_file_stat *stat)
{
    if (covei_os->lock_try(segment->lock_file, COVEI_BYTE_LIFE_CYCLE, false) < 0)
        return false;
    bool good = atomic_load_explicit(&segment->header->state, memory_order_acquire) == COVEI_SEGMENT_READY &&
                covei_name_leads_to(path, stat->device, stat->inode);
    if (good)
        atomic_store_explicit(&segment->states[segment->row], COVEI_STATE_WORD(segment->generation, COVEI_ROW_ATTACHED),
                              memory_order_release);
    covei_life_cycle_unlock(segment->lock_file);
    return good;
}

/* Open such a handle again; NULL where there is none, -EAGAIN in `result` where it cannot be told just now. Under the
 * registry's lock. */
static struct cove_segment *open_again(const char *path, const struct covei_file_stat *stat, int *result)
{
    struct cove_segment *segment = find_handle(stat);
    *result = 0;
    if (!segment || atomic_load_explicit(&segment->header->state, memory_order_acquire) != COVEI_SEGMENT_READY)
        return NULL;
    if (segment->opens == 0 && !rejoin(segment, path, stat)) {
        *result = -EAGAIN;
        return NULL;
    }
    segment->opens++;
    atomic_store_explicit(&segment->closed, false, memory_order_relaxed); /* guarded by the registry */
    return segment;
}

/* The handle is whole: others may find it. Returns the one to use: another thread of ours may have been faster. */
static struct cove_segment *enter(struct cove_segment *segment, const char *path, const struct covei_file_stat *stat)
{
    covei_registry_lock();
    int again = 0;
    struct cove_segment *other = segment->flags & COVE_READONLY ? NULL : open_again(path, stat, &again);
    if (!other) {
        segment->opens = 1;
        segment->device = stat->device;
        segment->inode = stat->inode;
    }
    covei_registry_unlock();
    if (!other)
        return segment;
    abandon(segment, true);
    return other;
}

static int open_existing(struct cove_segment **out, const char *name, const char *path,
                         const struct cove_options *options, int64_t deadline)
{
    struct covei_file_stat stat;
    int file = covei_region_open(name, path, options->flags, &stat);
    if (file < 0)
        return file;
    if (!(options->flags & COVE_READONLY)) {
        covei_registry_lock();
        int result = 0;
        *out = open_again(path, &stat, &result);
        covei_registry_unlock();
        if (*out || result < 0) {
            covei_os->file_close(file);
            return result;
        }
    }
    struct cove_segment *segment = covei_handle_new(name, options->flags);
    if (!segment) {
        covei_os->file_close(file);
        return -ENOMEM;
    }
    segment->file = file;
    int result = attach(segment, path, &stat, deadline);
    if (result < 0) {
        abandon(segment, false);
        return result;
    }
    *out = enter(segment, path, &stat);
    return 0;
}

static int create_new(struct cove_segment **out, const char *name, const char *path, const struct cove_options *options)
{
    struct cove_segment *segment = covei_handle_new(name, options->flags);
    if (!segment)
        return -ENOMEM;
    struct covei_file_stat stat;
    int result = covei_segment_build(segment, path, options, &stat);
    if (result < 0) {
        covei_handle_drop(segment);
        return result;
    }
    *out = enter(segment, path, &stat);
    return COVE_CREATED;
}

/* Is the name that of a segment whose removal is half done? Then finish it. */
static bool finish_removal(const char *name, const char *path, int64_t deadline)
{
    struct covei_file_stat stat;
    return covei_finish_removal(name, path, deadline) == 0 && covei_os->path_stat(path, &stat) == -ENOENT;
}

/* One round: 0, COVE_CREATED, an error; COVE_EREMOVED or -EAGAIN: somebody was faster, go round again. */
static int open_once(struct cove_segment **out, const char *name, const char *path, const struct cove_options *options,
                     int64_t deadline)
{
    bool exclusive = (options->flags & COVE_EXCLUSIVE) != 0;
    if (!exclusive) {
        int result = open_existing(out, name, path, options, deadline);
        if (result == COVE_EREMOVED) {
            int finished = covei_finish_removal(name, path, deadline);
            return finished < 0 ? finished : COVE_EREMOVED;
        }
        if (result != -ENOENT || options->flags & (COVE_EXISTING | COVE_READONLY))
            return result;
    }
    int result = create_new(out, name, path, options);
    if (result == -EEXIST && (!exclusive || finish_removal(name, path, deadline)))
        return -EAGAIN;
    return result == -EEXIST ? covei_error(result, "%s: it exists already (%s)", name, path) : result;
}

int cove_open(cove_segment **segment, const char *name, const struct cove_options *given)
{
    static const struct cove_options defaults;
    struct cove_options options = given ? *given : defaults;
    char path[COVEI_PATH_MAX];
    int result = covei_name_path(path, name);
    if (result == 0)
        result = covei_process_prepare();
    if (result < 0)
        return result;
    if (!segment ||
        (options.flags & ~(COVE_EXISTING | COVE_EXCLUSIVE | COVE_READONLY | COVE_ANY_OWNER | COVE_NODUMP)) != 0 ||
        ((options.flags & COVE_EXCLUSIVE) && (options.flags & (COVE_EXISTING | COVE_READONLY))))
        return covei_error(-EINVAL, "%s: these flags (%#x) do not go together, or no place for the handle", name,
                           options.flags);
    int64_t deadline = covei_wait_begin(options.timeout_ns > 0 ? options.timeout_ns : COVEI_LIFE_CYCLE_NS);
    struct cove_segment *opened = NULL;
    for (;;) {
        result = open_once(&opened, name, path, &options, deadline);
        if ((result != COVE_EREMOVED && result != -EAGAIN) || covei_wait_left(deadline) == 0)
            break;
        covei_os->nap(NAP_NS); /* somebody was faster: let him get on */
    }
    if (result == COVE_EREMOVED || result == -EAGAIN)
        return covei_error(COVE_EREMOVED, "%s: it is removed and made again all the time; somebody fights for the name",
                           name);
    if (result < 0)
        return result;
    *segment = opened;
    if (!(options.flags & COVE_READONLY))
        covei_recover_some(opened, COVEI_ROWS_LOOKED_AT);
    return result;
}
