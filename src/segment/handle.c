/* handle.c - mapping a segment, where its parts are, and which bytes of it may be touched.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The header is looked at in a copy, before anything is mapped, and nothing that can change is read from the segment
 * twice for one decision. What is fixed (max_members, sizes of the tables) is copied into the handle.
 *
 * I1  known_size <= the file's size, mapped_bytes and max_size_bytes: a byte below known_size can be touched. A
 *     member that scribbles a larger size into the header is found by asking the file. */
#include "segment/segment.h"

#include <cove/sync.h>

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static uint64_t states_at(void)
{
    return COVEI_TABLES_AT;
}

static uint64_t owners_at(uint32_t max_members)
{
    return states_at() + covei_round_up(UINT64_C(8) * max_members, COVEI_PAGE);
}

static uint64_t rows_at(uint32_t max_members)
{
    return owners_at(max_members) + covei_round_up(UINT64_C(4) * COVEI_LANES_PER_MEMBER * max_members, COVEI_PAGE);
}

static uint64_t lanes_at(uint32_t max_members)
{
    return rows_at(max_members) + covei_round_up(sizeof(struct covei_row_shm) * max_members, COVEI_PAGE);
}

uint64_t covei_heap_offset(uint32_t max_members)
{
    return lanes_at(max_members) +
           covei_round_up((uint64_t)sizeof(struct covei_lane_shm) * COVEI_LANES_PER_MEMBER * max_members, COVEI_PAGE);
}

uint32_t covei_layout_signature(void)
{
    static const uint32_t parts[] = {
        sizeof(struct covei_header_shm),
        sizeof(struct covei_row_shm),
        sizeof(struct covei_lane_shm),
        COVEI_LANES_PER_MEMBER,
        COVEI_LANE_LOCKS,
        COVEI_INNER_UNITS,
        COVEI_CACHE_LINE,
    };
    uint32_t signature = covei_upper.signature; /* FNV-1a, 32 bits, a word at a time */
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        signature = (signature ^ parts[i]) * 16777619u;
    return signature;
}

void covei_segment_locate(struct cove_segment *segment)
{
    uint32_t members = segment->max_members;
    segment->header = covei_address(segment, 0);
    segment->states = covei_address(segment, states_at());
    segment->owners = covei_address(segment, owners_at(members));
    segment->rows = covei_address(segment, rows_at(members));
    segment->lanes = covei_address(segment, lanes_at(members));
    segment->heap_at = covei_heap_offset(members);
}

/* In the handler of SIGBUS: what the shortest paths look at sends them the longer way, which finds the mark. */
static void on_broken(void *context)
{
    struct cove_segment *segment = context;
    atomic_store_explicit(&segment->known_size, segment->heap_at, memory_order_relaxed);
    atomic_store_explicit(&segment->closed, true, memory_order_relaxed);
    atomic_store_explicit(&segment->epoch, 0, memory_order_relaxed);
}

/* Map max_size_bytes of address space at once, so that growth moves nothing; where the machine has no room for that,
 * half of it, and so on down to size_bytes. */
int covei_segment_map(struct cove_segment *segment, uint64_t size_bytes, uint64_t max_size_bytes)
{
    bool writable = !(segment->flags & COVE_READONLY);
    const struct covei_region *region = &segment->region;
    enum covei_access access = writable ? COVEI_ACCESS_WRITE : COVEI_ACCESS_READ;
    uint64_t page = covei_max(region->backend->page_bytes(region), COVEI_PAGE);
    uint64_t least = covei_round_up(size_bytes, page);
    uint64_t wished = writable ? covei_round_up(max_size_bytes, page) : least;
    void *base = NULL;
    int result = region->backend->map(region, &base, 0, wished, access);
    while ((result == -ENOMEM || result == -EINVAL) && wished > least) { /* -EINVAL: valgrind's word for it */
        wished = covei_max(covei_round_up(wished / 2, page), least);
        result = region->backend->map(region, &base, 0, wished, access);
    }
    if (result < 0)
        return covei_error(result,
                           "%s: mapping %" PRIu64 " bytes failed: %s; raise ulimit -v, or give the segment a smaller "
                           "max_size",
                           segment->name, size_bytes, cove_strerror(result));
    segment->base = base;
    segment->mapped_bytes = wished;
    atomic_store_explicit(&segment->known_size, size_bytes, memory_order_relaxed); /* the handle is not shared yet */
    return covei_segment_protect(segment, segment->flags);
}

int covei_segment_protect(struct cove_segment *segment, uint32_t flags)
{
    int result = 0;
    if (flags & COVE_NODUMP) /* a wish: dumps are larger where it cannot be had */
        (void)covei_os->map_keep_from_dumps(segment->base, segment->mapped_bytes);
    if (covei_guard_wanted(flags) && !atomic_load_explicit(&segment->guarded, memory_order_acquire)) {
        uint64_t page = segment->region.backend->page_bytes(&segment->region);
        struct covei_guarded *guarded = covei_guard_begin(segment->base, segment->mapped_bytes, page, segment->name,
                                                          on_broken, segment, &result);
        atomic_store_explicit(&segment->guarded, guarded, memory_order_release); /* it is whole */
    }
    return result;
}

bool covei_segment_broken(const struct cove_segment *segment)
{
    struct covei_guarded *guarded = atomic_load_explicit(&segment->guarded, memory_order_acquire);
    return guarded && atomic_load_explicit(&guarded->broken, memory_order_acquire) != 0;
}

/* A program that closes all descriptors (closefrom, to become a daemon) closes ours, and its next file gets the
 * number.
 */
bool covei_segment_owns(const struct cove_segment *segment, int file)
{
    struct covei_file_stat stat;
    int result = covei_os->file_stat(file, &stat);
    if (result < 0)
        return result != -EBADF; /* nobody can tell: then nothing says that it is not */
    return stat.device == segment->region.device && stat.inode == segment->region.inode;
}

static int check_descriptor(const struct cove_segment *segment, uint64_t size_bytes)
{
    struct covei_region_stat stat;
    if (!covei_segment_owns(segment, segment->region.file))
        return covei_error(COVE_ECLOSED,
                           "%s: this program closed the segment's descriptor (closefrom? close_range?); close the "
                           "segment before that, and open it anew after it",
                           segment->name);
    int result = segment->region.backend->stat(&segment->region, &stat);
    if (result < 0)
        return covei_error(result, "%s: looking at its memory failed: %s", segment->name, cove_strerror(result));
    return stat.size_bytes < size_bytes
               ? covei_error(COVE_ETRUNCATED,
                             "%s: somebody made its file smaller: it has %" PRIu64 " bytes, and should have %" PRIu64
                             "; remove it (cove rm --force)",
                             segment->name, stat.size_bytes, size_bytes)
               : 0;
}

int covei_segment_reserve(struct cove_segment *segment, uint64_t offset, uint64_t size_bytes)
{
    /* Before, or a stranger's file would grow. What is reserved below the size must be in the file already. */
    uint64_t size = atomic_load_explicit(&segment->header->size_bytes, memory_order_acquire);
    int result = check_descriptor(segment, size);
    return result < 0 ? result : segment->region.backend->reserve(&segment->region, segment->name, offset, size_bytes);
}

int covei_sees_too_little(const struct cove_segment *segment)
{
    uint64_t size = atomic_load_explicit(&segment->header->size_bytes, memory_order_acquire);
    return covei_error(-ENOMEM,
                       "%s: it has grown to %" PRIu64 " bytes, of which this process could map only %" PRIu64
                       "; raise ulimit -v and open it anew",
                       segment->name, size, segment->mapped_bytes);
}

bool covei_grown_to(struct cove_segment *segment, uint64_t end)
{
    /* acquire, edge G: the file was made larger before the size was stored. */
    uint64_t size = atomic_load_explicit(&segment->header->size_bytes, memory_order_acquire);
    uint64_t known = atomic_load_explicit(&segment->known_size, memory_order_relaxed);
    if (end <= known)
        return true; /* another thread looked first */
    if (size <= known || end > size || end > segment->mapped_bytes)
        return false;
    struct covei_region_stat stat;
    if (segment->region.backend->stat(&segment->region, &stat) < 0 || stat.size_bytes < size)
        return false; /* scribbled */
    size = covei_min(size, segment->mapped_bytes);
    while (known < size && !atomic_compare_exchange_weak_explicit(&segment->known_size, &known, size,
                                                                  memory_order_relaxed, memory_order_relaxed))
        ;
    return true;
}

int covei_header_verify(const struct covei_header_shm *header, const char *name, uint64_t file_bytes)
{
    if (header->magic != COVEI_MAGIC)
        return covei_error(COVE_ENOTCOVE, "%s: the file is not a Cove segment; give yours another name, or remove it",
                           name);
    if (header->layout != COVEI_LAYOUT || header->signature != covei_layout_signature())
        return covei_error(COVE_ELAYOUT,
                           "%s: it has layout %" PRIu32 ".%08" PRIx32 ", this library reads %u.%08" PRIx32
                           "; use the Cove that made it, or remove it",
                           name, header->layout, header->signature, COVEI_LAYOUT, covei_layout_signature());
    uint32_t members = header->max_members;
    /* relaxed: a copy that nobody else sees. */
    uint64_t size = atomic_load_explicit(&header->size_bytes, memory_order_relaxed);
    if (members < COVEI_MEMBERS_MIN || members > COVEI_MEMBERS_MAX ||
        header->max_lanes != members * COVEI_LANES_PER_MEMBER || size % COVEI_PAGE != 0 ||
        header->max_size_bytes % COVEI_PAGE != 0 || size > header->max_size_bytes ||
        header->max_size_bytes > UINT64_C(1) << 46 || size < covei_heap_offset(members) + COVEI_PAGE)
        return covei_error(COVE_ECORRUPT, "%s: its header contradicts itself; remove it (cove rm --force)", name);
    if (file_bytes < size)
        return covei_error(COVE_ECORRUPT,
                           "%s: the file was truncated to %" PRIu64 " of %" PRIu64
                           " bytes; remove it (cove rm --force)",
                           name, file_bytes, size);
    return 0;
}

static bool is_within(const struct cove_segment *segment, const void *address)
{
    return (uintptr_t)address - (uintptr_t)segment->base < segment->mapped_bytes;
}

cove_segment *cove_segment_of(const void *address)
{
    struct cove_segment *segment = covei_thread.cache->segment;
    if (segment && is_within(segment, address))
        return segment;
    covei_registry_lock();
    segment = covei_registry;
    /* relaxed: guarded by the registry. */
    while (segment && (!is_within(segment, address) || !covei_segment_current(segment) || segment->closing ||
                       atomic_load_explicit(&segment->closed, memory_order_relaxed)))
        segment = segment->next;
    covei_registry_unlock();
    return segment;
}
