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

#define LATE_ROUNDS 10
#define NAP_NS INT64_C(200000) /* between two tries */

/* ---- handles */

struct cove_segment *covei_handle_new(const struct covei_place *place, uint32_t flags)
{
    struct cove_segment *segment = calloc(1, sizeof *segment);
    if (!segment) {
        (void)covei_error(-ENOMEM, "%s: no memory for a handle", place->name);
        return NULL;
    }
    segment->region = (struct covei_region){.backend = covei_backend_of(place), .file = -1, .system_id = -1};
    segment->lock_file = segment->alive_file = -1;
    segment->place = *place;
    segment->name = segment->place.name;
    segment->flags = flags;
    atomic_init(&segment->epoch, covei_process_epoch());
    (void)pthread_mutex_init(&segment->mutex, NULL);
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

/* Another description of the same file: through /proc, or by its path, where that leads to it still. */
static int open_lock_file(const struct cove_segment *segment, const char *path)
{
    int file = covei_os->file_reopen(segment->region.file, COVEI_OPEN_WRITE);
    if ((file != -ENOENT && file != -ENXIO && file != -EACCES) || !*path)
        return file;
    int named = covei_os->file_open(path, COVEI_OPEN_WRITE);
    struct covei_file_stat stat;
    if (named >= 0 && (covei_os->file_stat(named, &stat) < 0 || stat.device != segment->region.device ||
                       stat.inode != segment->region.inode)) {
        covei_os->file_close(named);
        named = -ENOENT;
    }
    return named < 0 ? file : named;
}

/* Who inherits it keeps the row's byte alone: not that of somebody whom we are just recovering, nor the life-cycle
 * byte. */
static int open_alive_file(struct cove_segment *segment, const char *path)
{
    if (!(segment->flags & COVE_HELD_BY_CHILDREN))
        return segment->lock_file;
    int file = open_lock_file(segment, path);
    if (file < 0)
        return file;
    int inherited = covei_os->file_inherit(file);
    covei_os->file_close(file);
    return inherited;
}

int covei_handle_open_lock_file(struct cove_segment *segment, const char *path)
{
    covei_registry_lock(); /* a fork waits: the child must find the descriptor in the handle, to close it */
    int file = open_lock_file(segment, path);
    segment->lock_file = file < 0 ? -1 : file;
    if (file >= 0)
        file = open_alive_file(segment, path);
    segment->alive_file = file < 0 ? -1 : file;
    covei_registry_unlock();
    if (file == -EMFILE || file == -ENFILE)
        return covei_error(file, "%s: no descriptor left (a segment needs two or three); raise ulimit -n",
                           segment->name);
    if (file < 0)
        return covei_error(file, "%s: opening a second descriptor of its file failed: %s (is /proc mounted?)",
                           segment->name, cove_strerror(file));
    return 0;
}

void covei_handle_drop(struct cove_segment *segment)
{
    covei_registry_lock(); /* as above: a child must not be born between the two */
    leave_registry(segment);
    if (segment->alive_file >= 0 && segment->alive_file != segment->lock_file &&
        covei_segment_owns(segment, segment->alive_file))
        covei_os->file_close(segment->alive_file);
    if (segment->lock_file >= 0 && covei_segment_owns(segment, segment->lock_file))
        covei_os->file_close(segment->lock_file);
    covei_registry_unlock();
    if (segment->region.file >= 0 && !covei_segment_owns(segment, segment->region.file))
        segment->region.file = -1; /* the program closed it, and what has the number is not ours to close */
    if (covei_segment_broken(segment)) {
        /* Threads have robust mutexes in what is private memory now: it stays, as their lists lead through it. */
        covei_region_close(&segment->region);
        return;
    }
    covei_guard_end(atomic_load_explicit(&segment->guarded, memory_order_acquire));
    if (segment->base)
        segment->region.backend->unmap(segment->base, segment->mapped_bytes);
    covei_region_close(&segment->region);
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

/* Through a mapping or a write, as the backend has it. */
static void write_state(const struct covei_region *region, uint32_t state)
{
    (void)region->backend->write(region, &state, sizeof state, offsetof(struct covei_header_shm, state));
}

int covei_remove_name(const struct covei_region *region, const struct covei_place *place)
{
    struct covei_file_stat stat;
    /* By another name (a hard link) it goes on, and must not say REMOVED even for a moment: who is killed in it would
     * take that name away too. */
    bool other_name = covei_can(region->backend, COVE_CAN_HIDE) && covei_os->file_stat(region->file, &stat) == 0 &&
                      stat.links > 1;
    if (!other_name)
        write_state(region, COVEI_SEGMENT_REMOVED);
    covei_durable_forget(place); /* before the name: a remover that dies in between is finished by the next */
    int result = region->backend->remove(region, place);
    if (result < 0 && !other_name) /* or the next to open it would try to finish what we may not do */
        write_state(region, COVEI_SEGMENT_READY);
    return result;
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

int covei_header_read(const struct covei_region *region, const char *name, struct covei_header_shm *header)
{
    struct covei_region_stat stat;
    memset(header, 0, sizeof *header);
    int64_t count = region->backend->read(region, header, sizeof *header, 0);
    if (count < 0)
        return covei_error((int)count, "%s: reading its header failed: %s", name, cove_strerror((int)count));
    /* After the header: the file grows before the header says so. */
    int result = region->backend->stat(region, &stat);
    if (result < 0)
        return covei_error(result, "%s: looking at its memory failed: %s", name, cove_strerror(result));
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
            covei_os->lock_held(segment->region.file, COVEI_BYTE_ALIVE(row)) != 0)
            return true;
    return false;
}

static bool still_named(const struct cove_segment *segment)
{
    return segment->region.backend->leads_to(&segment->region, &segment->place);
}

/* In memory no other run of the system can have been at it, whatever a container calls its run. */
static bool outlives_the_machine(const struct covei_region *region)
{
    struct covei_file_system system;
    return region->system_id < 0 && covei_os->file_system(region->file, &system) == 0 && !system.memory && !system.huge;
}

/* Join under the life-cycle byte. A LAST_OUT segment whose last member died went with it: it loses its name now.
 * COVE_EREMOVED: the file has lost its name, or is about to; try again. */
static int join_named(struct cove_segment *segment, int64_t deadline)
{
    bool last_out = segment->header->lifetime == COVE_LAST_OUT && covei_can(segment->region.backend, COVE_CAN_NAME);
    bool alone = last_out || segment->durable; /* then who joins decides for all */
    int result = covei_handle_open_lock_file(segment, segment->place.path);
    if (result == 0)
        result = covei_life_cycle_lock(segment->lock_file, segment->name, alone, deadline);
    if (result < 0)
        return result;
    bool other_run = covei_same_run(segment->header) == 0 && outlives_the_machine(&segment->region);
    bool has_members = (!alone && !other_run) || has_living_member(segment);
    if (atomic_load_explicit(&segment->header->state, memory_order_acquire) != COVEI_SEGMENT_READY ||
        !still_named(segment))
        result = COVE_EREMOVED;
    else if (last_out && !has_members) {
        result = covei_remove_name(&segment->region, &segment->place);
        result = result < 0 ? result : COVE_EREMOVED;
    } else if (segment->durable)
        result = covei_durable_begin(segment, has_members);
    else if (other_run && !has_members)
        result = covei_error(COVE_EUNCLEAN,
                             "%s: it was made before the machine started anew, and only segments of file: outlive "
                             "that; remove it (cove rm --force)",
                             segment->name);
    if (result == 0)
        result = covei_segment_join(segment);
    covei_life_cycle_unlock(segment->lock_file);
    return result;
}

/* A sparse copy of a segment, or a header that claims more than there is: on a full tmpfs even reading a hole is
 * SIGBUS. There the books are exact. */
static int check_holes(const struct cove_segment *segment, const struct covei_header_shm *header)
{
    struct covei_file_system system;
    struct covei_region_stat stat;
    if (segment->region.file < 0 || segment->region.system_id >= 0 ||
        covei_os->file_system(segment->region.file, &system) < 0 || !system.memory ||
        segment->region.backend->stat(&segment->region, &stat) < 0)
        return 0;
    uint32_t members = header->max_members;
    uint64_t rows = atomic_load_explicit(&header->rows_ready, memory_order_relaxed); /* our copy */
    uint64_t lanes = atomic_load_explicit(&header->lanes_ready, memory_order_relaxed);
    uint64_t needed = COVEI_TABLES_AT + covei_round_up(UINT64_C(8) * members, COVEI_PAGE) +
                      covei_round_up(UINT64_C(4) * COVEI_LANES_PER_MEMBER * members, COVEI_PAGE) +
                      covei_round_up(rows * sizeof(struct covei_row_shm), COVEI_PAGE) +
                      covei_round_up(lanes * sizeof(struct covei_lane_shm), COVEI_PAGE) +
                      (atomic_load_explicit(&header->size_bytes, memory_order_relaxed) - covei_heap_offset(members));
    return rows > members || lanes > header->max_lanes || stat.allocated_bytes < needed
               ? covei_error(COVE_ECORRUPT,
                             "%s: its file has holes where there must be memory (a sparse copy?); remove it (cove rm "
                             "--force)",
                             segment->name)
               : 0;
}

static int attach(struct cove_segment *segment, int64_t deadline)
{
    struct covei_header_shm header;
    int result = covei_header_read(&segment->region, segment->name, &header);
    /* After a power cut it may be shorter than its header says. Who only looks is told so. */
    if (result == COVE_ECORRUPT && !(segment->flags & COVE_READONLY) && covei_durable_torn(&header, &segment->place))
        result = COVE_EUNCLEAN;
    if (result == 0)
        result = check_features(segment, &header);
    if (result == 0)
        result = check_holes(segment, &header);
    if (result < 0)
        return result;
    uint32_t state = atomic_load_explicit(&header.state, memory_order_relaxed);
    if (state == COVEI_SEGMENT_REMOVED && !(segment->flags & COVE_READONLY))
        return COVE_EREMOVED;
    if (state != COVEI_SEGMENT_READY && state != COVEI_SEGMENT_REMOVED)
        return covei_error(COVE_ECORRUPT, "%s: its header has no state; remove it (cove rm --force)", segment->name);
    segment->max_members = header.max_members;
    segment->max_lanes = header.max_lanes;
    segment->durable = header.durable == 1;
    uint64_t size = atomic_load_explicit(&header.size_bytes, memory_order_relaxed);
    result = covei_segment_map(segment, size, header.max_size_bytes);
    if (result < 0)
        return result;
    covei_segment_locate(segment);
    return segment->flags & COVE_READONLY ? 0 : join_named(segment, deadline);
}

int covei_finish_removal(const struct covei_place *place, int64_t deadline)
{
    struct covei_region region;
    int result = covei_region_find(&region, place, COVE_ANY_OWNER);
    if (result < 0)
        return result == -ENOENT ? 0 : result;
    uint32_t state = 0;
    result = covei_life_cycle_lock(region.file, place->name, true, deadline);
    if (result == 0) {
        (void)region.backend->read(&region, &state, sizeof state, offsetof(struct covei_header_shm, state));
        if (state == COVEI_SEGMENT_REMOVED && region.backend->leads_to(&region, place))
            result = covei_remove_name(&region, place);
        covei_life_cycle_unlock(region.file); /* a child forked meanwhile may have a copy of the descriptor */
    }
    covei_region_close(&region);
    return result;
}

/* ---- open */

/* The handle that this process has of that file already and that can be opened once more: open, or lingering. A
 * handle that is still being opened has no inode yet; one that is closing is left alone. Under the registry's lock.
 * */
static struct cove_segment *find_handle(const struct covei_region *region)
{
    struct cove_segment *segment = covei_registry;
    while (segment && (segment->device != region->device || segment->inode != region->inode || segment->closing ||
                       segment->region.system_id != region->system_id || segment->flags & COVE_READONLY ||
                       covei_segment_broken(segment)))
        segment = segment->next;
    return segment;
}

/* Our membership lingers: become a member again, under the life-cycle byte, so that a last member who is just
 * removing the segment sees us, or we see that it is gone. */
static bool rejoin(struct cove_segment *segment)
{
    if (covei_os->lock_try(segment->lock_file, COVEI_LIFE_CYCLE_BYTE, segment->durable) < 0)
        return false;
    bool good = atomic_load_explicit(&segment->header->state, memory_order_acquire) == COVEI_SEGMENT_READY &&
                still_named(segment) && (!segment->durable || covei_durable_begin(segment, true) == 0);
    if (good)
        atomic_store_explicit(&segment->states[segment->row], COVEI_STATE_WORD(segment->generation, COVEI_ROW_ATTACHED),
                              memory_order_release);
    covei_life_cycle_unlock(segment->lock_file);
    return good;
}

/* Open such a handle again; NULL where there is none, -EAGAIN in `result` where it cannot be told just now. Under the
 * registry's lock. */
static struct cove_segment *open_again(const struct covei_region *region, int *result)
{
    struct cove_segment *segment = find_handle(region);
    *result = 0;
    if (!segment || atomic_load_explicit(&segment->header->state, memory_order_acquire) != COVEI_SEGMENT_READY)
        return NULL;
    if (segment->opens == 0 && !rejoin(segment)) {
        *result = -EAGAIN;
        return NULL;
    }
    segment->opens++;
    atomic_store_explicit(&segment->closed, false, memory_order_relaxed); /* guarded by the registry */
    return segment;
}

/* The handle is whole: others may find it. Returns the one to use: another thread of ours may have been faster. */
static struct cove_segment *enter(struct cove_segment *segment)
{
    covei_registry_lock();
    int again = 0;
    struct cove_segment *other = segment->flags & COVE_READONLY ? NULL : open_again(&segment->region, &again);
    if (!other) {
        segment->opens = 1;
        segment->device = segment->region.device;
        segment->inode = segment->region.inode;
    }
    covei_registry_unlock();
    if (!other)
        return segment;
    abandon(segment, true);
    return other;
}

static int open_existing(struct cove_segment **out, const struct covei_place *place, const struct cove_options *options,
                         int64_t deadline)
{
    struct covei_region region;
    int result = covei_region_find(&region, place, options->flags);
    if (result < 0)
        return result;
    if (!(options->flags & COVE_READONLY)) {
        covei_registry_lock();
        *out = open_again(&region, &result);
        covei_registry_unlock();
        if (*out || result < 0) {
            covei_region_close(&region);
            return result;
        }
    }
    struct cove_segment *segment = covei_handle_new(place, options->flags);
    if (!segment) {
        covei_region_close(&region);
        return -ENOMEM;
    }
    segment->region = region;
    result = attach(segment, deadline);
    if (result < 0) {
        abandon(segment, false);
        return result;
    }
    *out = enter(segment);
    return 0;
}

static int create_new(struct cove_segment **out, const struct covei_place *place, const struct cove_options *options)
{
    struct cove_segment *segment = covei_handle_new(place, options->flags);
    if (!segment)
        return -ENOMEM;
    int result = covei_segment_build(segment, options);
    if (result < 0) {
        covei_handle_drop(segment);
        return result;
    }
    *out = enter(segment);
    return COVE_CREATED;
}

/* Is the name that of a segment whose removal is half done? Then finish it. */
static bool finish_removal(const struct covei_place *place, int64_t deadline)
{
    struct covei_region region;
    if (covei_finish_removal(place, deadline) < 0)
        return false;
    int result = covei_region_find(&region, place, COVE_ANY_OWNER | COVE_READONLY);
    if (result == 0)
        covei_region_close(&region);
    return result == -ENOENT;
}

/* Is it a LAST_OUT segment whose last member died? It went with him: whoever opens it takes its name away, and so do
 * we. */
static bool finish_last_out(const struct covei_place *place)
{
    struct cove_segment *segment = NULL;
    if (cove_open(&segment, place->name, &(struct cove_options){.flags = COVE_READONLY}) < 0)
        return false;
    bool dead = segment->header->lifetime == COVE_LAST_OUT && covei_roster_others(segment) == 0;
    (void)cove_close(segment);
    if (dead && cove_open(&segment, place->name, &(struct cove_options){.flags = COVE_EXISTING}) == 0)
        (void)cove_close(segment); /* somebody came meanwhile; if he is gone again too, it went now */
    return dead;
}

/* One round: 0, COVE_CREATED, an error; COVE_EREMOVED or -EAGAIN: somebody was faster, go round again. */
static int open_once(struct cove_segment **out, const struct covei_place *place, const struct cove_options *options,
                     int64_t deadline)
{
    bool exclusive = (options->flags & COVE_EXCLUSIVE) != 0;
    bool may_create = !(options->flags & (COVE_EXISTING | COVE_READONLY));
    if (!exclusive && !(place->backend == COVEI_MEMFD && may_create)) {
        int result = open_existing(out, place, options, deadline);
        if (result == COVE_EREMOVED) {
            int finished = covei_finish_removal(place, deadline);
            return finished < 0 ? finished : COVE_EREMOVED;
        }
        if (result != -ENOENT || !may_create)
            return result;
    }
    int result = create_new(out, place, options);
    if (result == -EEXIST && (!exclusive || finish_removal(place, deadline) || finish_last_out(place)))
        return -EAGAIN;
    return result == -EEXIST ? covei_error(result, "%s: it exists already", place->name) : result;
}

struct opening {
    struct cove_segment **out;
    const struct cove_options *options;
    int64_t deadline;
};

static int open_place(void *context, const struct covei_place *place)
{
    const struct opening *opening = context;
    int64_t deadline = opening->deadline;
    bool restored = false;
    for (int late = 0;;) {
        int result = open_once(opening->out, place, opening->options, deadline);
        if (result == COVE_EUNCLEAN && !restored) { /* a power cut: go back to what cove_sync wrote */
            result = covei_durable_restore(place, opening->options->flags, deadline);
            restored = result == 0;
            if (restored)
                continue;
        }
        if (result != COVE_EREMOVED && result != -EAGAIN)
            return result == 0 && restored ? COVE_RECOVERED : result;
        /* -EAGAIN: the name is there by now, and the next round opens it, however long ours took to make. */
        if (covei_wait_left(deadline) == 0 && (result == COVE_EREMOVED || late++ >= LATE_ROUNDS))
            return covei_error(COVE_EREMOVED,
                               "%s: it is removed and made again all the time; somebody fights for the name",
                               place->name);
        covei_os->nap(NAP_NS); /* somebody was faster: let him get on */
    }
}

#define FLAGS \
    (COVE_EXISTING | COVE_EXCLUSIVE | COVE_READONLY | COVE_ANY_OWNER | COVE_NODUMP | COVE_GUARD | COVE_HELD_BY_CHILDREN)

/* What a handle that was open already cannot be made to do. */
static int check_shared(const struct cove_segment *segment, uint32_t flags)
{
    if (!(flags & ~segment->flags & COVE_HELD_BY_CHILDREN))
        return 0;
    return covei_error(-EBUSY,
                       "%s: this process has it open without COVE_HELD_BY_CHILDREN, and a membership that ends with "
                       "the process; close it first",
                       segment->name);
}

int cove_open(cove_segment **segment, const char *name, const struct cove_options *given)
{
    static const struct cove_options defaults;
    struct cove_options options = given ? *given : defaults;
    struct covei_place place;
    int result = covei_place_parse(&place, name, false);
    if (result == 0)
        result = covei_process_prepare();
    if (result < 0)
        return result;
    if (!segment || (options.flags & ~FLAGS) != 0 ||
        ((options.flags & COVE_EXCLUSIVE) && (options.flags & (COVE_EXISTING | COVE_READONLY))) ||
        ((options.flags & COVE_HELD_BY_CHILDREN) && (options.flags & COVE_READONLY)))
        return covei_error(-EINVAL, "%s: these flags (%#x) do not go together, or no place for the handle", name,
                           options.flags);
    struct cove_segment *opened = NULL;
    struct opening opening = {&opened, &options,
                              covei_wait_begin(options.timeout_ns > 0 ? options.timeout_ns : COVEI_LIFE_CYCLE_NS)};
    place.deadline = opening.deadline;
    if (place.backend == COVEI_HUGETRY)
        result = covei_choose(&place, opening.deadline, open_place, &opening,
                              !(options.flags & (COVE_EXISTING | COVE_READONLY)));
    else
        result = open_place(&opening, &place);
    if (result < 0)
        return result;
    int protect = check_shared(opened, options.flags); /* an open handle may have been opened without */
    if (protect == 0)
        protect = covei_segment_protect(opened, options.flags);
    if (protect < 0) {
        (void)cove_close(opened);
        return protect;
    }
    *segment = opened;
    if (!(options.flags & COVE_READONLY))
        covei_recover_some(opened, COVEI_ROWS_LOOKED_AT);
    return result;
}
