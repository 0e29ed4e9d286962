/* build.c - making a segment: whole, with its memory, before it has a name.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The builder works in a file that nobody else can open, is its first member, and gives the file its name last, in
 * one step that fails if somebody was first. Crash: before that step nothing is left (posix.c); after it the segment
 * is whole and has a dead member. */
#include "segment/build.h"

#include <errno.h>
#include <inttypes.h>

#define DEFAULT_SIZE (UINT64_C(256) << 10)
#define DEFAULT_FIXED_SIZE (UINT64_C(16) << 20) /* where it cannot grow; memory is taken as it is used */
#define DEFAULT_MEMBERS 1024u
#define LARGEST_SIZE (UINT64_C(1) << 46)

/* How much address space a segment asks for by default: 64 GiB, where there is so much. */
static uint64_t default_max_size(void)
{
    return sizeof(void *) >= 8 ? UINT64_C(64) << 30 : UINT64_C(1) << 30;
}

struct sizes {
    uint32_t members;
    uint64_t size_bytes, max_size_bytes; /* of the file */
};

/* Memory that cannot grow has all that it may ever want from the start. */
static int choose_sizes(struct sizes *sizes, const char *name, const struct cove_options *options, bool grows)
{
    sizes->members = options->max_members ? options->max_members : DEFAULT_MEMBERS;
    if (sizes->members < COVEI_MEMBERS_MIN || sizes->members > COVEI_MEMBERS_MAX)
        return covei_error(-EINVAL, "%s: max_members %" PRIu32 " is impossible; give 2 to 16384", name, sizes->members);
    uint64_t heap = options->size_bytes ? options->size_bytes : grows ? DEFAULT_SIZE : DEFAULT_FIXED_SIZE;
    if (!grows && options->max_size_bytes > heap)
        heap = options->max_size_bytes;
    if (heap < COVEI_PAGE || heap > LARGEST_SIZE / 2)
        return covei_error(-EINVAL, "%s: a size of %" PRIu64 " bytes is impossible; give 4096 to %" PRIu64, name, heap,
                           LARGEST_SIZE / 2);
    sizes->size_bytes = covei_heap_offset(sizes->members) + covei_round_up(heap, COVEI_PAGE);
    uint64_t most = options->max_size_bytes;
    if (most != 0 && (most < heap || most > LARGEST_SIZE / 2))
        return covei_error(-EINVAL,
                           "%s: a max_size of %" PRIu64 " bytes is impossible; give %" PRIu64 " (its size) to %" PRIu64,
                           name, most, heap, LARGEST_SIZE / 2);
    sizes->max_size_bytes = !grows ? sizes->size_bytes
                            : most ? covei_heap_offset(sizes->members) + covei_round_up(most, COVEI_PAGE)
                                   : covei_max(default_max_size(), sizes->size_bytes);
    if (options->lifetime > COVE_LAST_OUT)
        return covei_error(-EINVAL, "%s: there is no lifetime %" PRIu32, name, options->lifetime);
    if (options->mode & ~0777u)
        return covei_error(-EINVAL,
                           "%s: mode 0%" PRIo32 " is impossible; give permission bits as of chmod, 0600 for instance",
                           name, options->mode);
    return 0;
}

/* The pages of header and dense tables, and the heap; those of rows and lanes stay holes. */
static int reserve_parts(const struct covei_region *region, const char *name, const struct sizes *sizes)
{
    uint64_t tables = COVEI_TABLES_AT + covei_round_up(UINT64_C(8) * sizes->members, COVEI_PAGE) +
                      covei_round_up(UINT64_C(4) * COVEI_LANES_PER_MEMBER * sizes->members, COVEI_PAGE);
    uint64_t heap_at = covei_heap_offset(sizes->members);
    int result = covei_region_ask(region, name, tables + sizes->size_bytes - heap_at);
    if (result == 0)
        result = region->backend->reserve(region, name, 0, tables);
    return result < 0 ? result : region->backend->reserve(region, name, heap_at, sizes->size_bytes - heap_at);
}

static void format(struct cove_segment *segment, const struct sizes *sizes, const struct cove_options *options)
{
    struct covei_header_shm *header = segment->header;
    header->magic = COVEI_MAGIC;
    header->layout = COVEI_LAYOUT;
    header->signature = covei_layout_signature();
    header->max_size_bytes = sizes->max_size_bytes;
    header->max_members = sizes->members;
    header->max_lanes = sizes->members * COVEI_LANES_PER_MEMBER;
    header->lifetime = options->lifetime;
    header->created_ns = covei_os->wall();
    covei_os->boot_id(header->boot_id);
    /* relaxed: nobody else sees the file yet. */
    atomic_store_explicit(&header->size_bytes, sizes->size_bytes, memory_order_relaxed);
    header->durable = segment->durable;
    header->inode = segment->region.inode;
    covei_upper.format(segment);
}

/* The file is made and sized; map it, fill it, take the first row. */
static int build_whole(struct cove_segment *segment, const struct covei_building *building, const struct sizes *sizes,
                       const struct cove_options *options)
{
    segment->max_members = sizes->members;
    segment->max_lanes = sizes->members * COVEI_LANES_PER_MEMBER;
    int result = covei_segment_map(segment, sizes->size_bytes, sizes->max_size_bytes);
    if (result < 0)
        return result;
    covei_segment_locate(segment);
    format(segment, sizes, options);
    result = covei_handle_open_lock_file(segment, *building->path ? building->path : segment->place.path);
    return result < 0 ? result : covei_segment_join(segment);
}

/* The deciding store is the name, which the backend gives in one step. */
static int name_it(struct cove_segment *segment, struct covei_building *building)
{
    atomic_store_explicit(&segment->header->state, COVEI_SEGMENT_READY, memory_order_release);
    int result = segment->durable ? covei_os->file_sync(building->region.file) : 0; /* D1: not clean, on the disk */
    if (result < 0)
        return covei_error(result, "%s: writing it to the disk failed: %s", segment->name, cove_strerror(result));
    return building->region.backend->publish(building, &segment->place);
}

int covei_segment_build(struct cove_segment *segment, const struct cove_options *options)
{
    const struct covei_backend *backend = segment->region.backend;
    struct sizes sizes = {0};
    int result = choose_sizes(&sizes, segment->name, options, covei_can(backend, COVE_CAN_GROW));
    if (result < 0)
        return result;
    struct covei_building building;
    result = covei_region_build(&building, &segment->place, sizes.size_bytes, 0600);
    if (result < 0)
        return result;
    segment->region = building.region;
    if (covei_can(backend, COVE_CAN_GROW))
        sizes.max_size_bytes = covei_round_up(sizes.max_size_bytes, backend->page_bytes(&building.region));
    segment->durable = covei_can(backend, COVE_CAN_SYNC);
    /* The rights that were asked for come just before the name: until then it is for us alone. */
    result = reserve_parts(&building.region, segment->name, &sizes);
    if (result == 0)
        result = build_whole(segment, &building, &sizes, options);
    if (result == 0)
        result = covei_region_give(&building.region, &segment->place, options->mode ? options->mode : 0600,
                                   options->group);
    if (result == 0)
        result = name_it(segment, &building);
    if (result < 0) {
        backend->abandon(&building, &segment->place);
        segment->region.file = -1;
    }
    return result;
}
