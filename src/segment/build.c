/* build.c - making a segment: whole, with its memory, before it has a name.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The builder works in a file that nobody else can open, is its first member, and gives the file its name last, in
 * one step that fails if somebody was first. Crash: before that step nothing is left (posix.c); after it the segment
 * is whole and has a dead member. */
#include "segment/build.h"

#include "region/region.h"

#include <errno.h>
#include <inttypes.h>

#define DEFAULT_SIZE (UINT64_C(256) << 10)
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

static int choose_sizes(struct sizes *sizes, const char *name, const struct cove_options *options)
{
    sizes->members = options->max_members ? options->max_members : DEFAULT_MEMBERS;
    if (sizes->members < COVEI_MEMBERS_MIN || sizes->members > COVEI_MEMBERS_MAX)
        return covei_error(-EINVAL, "%s: max_members %" PRIu32 " is impossible; give 2 to 16384", name, sizes->members);
    uint64_t heap = options->size_bytes ? options->size_bytes : DEFAULT_SIZE;
    if (heap < COVEI_PAGE || heap > LARGEST_SIZE / 2)
        return covei_error(-EINVAL, "%s: a size of %" PRIu64 " bytes is impossible; give 4096 to %" PRIu64, name, heap,
                           LARGEST_SIZE / 2);
    sizes->size_bytes = covei_heap_offset(sizes->members) + covei_round_up(heap, COVEI_PAGE);
    uint64_t most = options->max_size_bytes;
    if (most != 0 && (most < heap || most > LARGEST_SIZE / 2))
        return covei_error(-EINVAL,
                           "%s: a max_size of %" PRIu64 " bytes is impossible; give %" PRIu64 " (its size) to %" PRIu64,
                           name, most, heap, LARGEST_SIZE / 2);
    sizes->max_size_bytes = most ? covei_heap_offset(sizes->members) + covei_round_up(most, COVEI_PAGE)
                                 : covei_max(default_max_size(), sizes->size_bytes);
    if (options->lifetime > COVE_LAST_OUT)
        return covei_error(-EINVAL, "%s: there is no lifetime %" PRIu32, name, options->lifetime);
    if (options->mode & ~0777u)
        return covei_error(-EINVAL,
                           "%s: mode 0%" PRIo32 " is impossible; give permission bits as of chmod, 0600 for instance",
                           name, options->mode);
    return 0;
}

static int set_rights(int file, const char *name, const struct cove_options *options)
{
    int result = 0;
    if (options->group) {
        uint32_t gid = 0;
        result = covei_os->group_find(options->group, &gid);
        if (result == -ENOENT)
            return covei_error(-EINVAL, "%s: there is no group %s here", name, options->group);
        if (result < 0)
            return covei_error(result, "%s: looking up group %s failed: %s", name, options->group,
                               cove_strerror(result));
        result = covei_os->file_set_group(file, gid);
        if (result < 0)
            return covei_error(result, "%s: giving it to group %s failed: %s; you must be in that group", name,
                               options->group, cove_strerror(result));
    }
    result = covei_os->file_set_mode(file, options->mode ? options->mode : 0600);
    return result < 0 ? covei_error(result, "%s: setting its mode failed: %s", name, cove_strerror(result)) : 0;
}

/* The pages of header and dense tables, and the heap; those of rows and lanes stay holes. */
static int reserve_parts(int file, const char *name, const struct sizes *sizes)
{
    uint64_t tables = COVEI_TABLES_AT + covei_round_up(UINT64_C(8) * sizes->members, COVEI_PAGE) +
                      covei_round_up(UINT64_C(4) * COVEI_LANES_PER_MEMBER * sizes->members, COVEI_PAGE);
    uint64_t heap_at = covei_heap_offset(sizes->members);
    int result = covei_region_reserve(file, name, 0, tables);
    return result < 0 ? result : covei_region_reserve(file, name, heap_at, sizes->size_bytes - heap_at);
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
    covei_upper.format(segment);
    atomic_store_explicit(&header->state, COVEI_SEGMENT_READY, memory_order_release);
}

/* The file is made and sized; map it, fill it, take the first row. */
static int build_whole(struct cove_segment *segment, const struct sizes *sizes, const struct cove_options *options)
{
    segment->max_members = sizes->members;
    segment->max_lanes = sizes->members * COVEI_LANES_PER_MEMBER;
    int result = covei_segment_map(segment, sizes->size_bytes, sizes->max_size_bytes);
    if (result < 0)
        return result;
    covei_segment_locate(segment);
    format(segment, sizes, options);
    result = covei_handle_open_lock_file(segment);
    return result < 0 ? result : covei_segment_join(segment);
}

int covei_segment_build(struct cove_segment *segment, const char *path, const struct cove_options *options,
                        struct covei_file_stat *stat)
{
    struct sizes sizes = {0};
    int result = choose_sizes(&sizes, segment->name, options);
    if (result < 0)
        return result;
    struct covei_building building;
    result = covei_region_build(&building, segment->name);
    if (result < 0)
        return result;
    segment->file = building.file;
    /* Rights to ourselves are needed to open the second descriptor; those that were asked for come just before the
     * name. */
    result = covei_os->file_set_mode(building.file, 0600);
    if (result < 0)
        (void)covei_error(result, "%s: setting its mode failed: %s", segment->name, cove_strerror(result));
    if (result == 0)
        result = reserve_parts(building.file, segment->name, &sizes);
    if (result == 0)
        result = build_whole(segment, &sizes, options);
    if (result == 0)
        result = set_rights(building.file, segment->name, options);
    if (result == 0 && (result = covei_os->file_stat(building.file, stat)) < 0)
        (void)covei_error(result, "%s: looking at its file failed: %s", segment->name, cove_strerror(result));
    if (result == 0)
        result = covei_region_publish(&building, segment->name, path);
    if (result < 0) {
        covei_region_abandon(&building);
        segment->file = -1;
    }
    return result;
}
