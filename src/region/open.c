/* open.c - public regions: opening, mapping, closing.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A region is found, or built whole and then named (files.c; System V memory is whole from its first moment). What is
 * mapped are the pages that hold the part that was asked for. Nothing of it is shared between threads but the bytes:
 * the handle does not change after it was opened, save for what guards it.
 * Crash: nothing, or a whole region. */
#include "region/handle.h"

#include "base/base.h"
#include "base/error.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#define FLAGS (COVE_EXISTING | COVE_EXCLUSIVE | COVE_READONLY | COVE_ANY_OWNER | COVE_NODUMP | COVE_GUARD)
#define LARGEST (UINT64_C(1) << 46)
#define NAP_NS INT64_C(100000)

static int check_options(const char *name, const struct cove_region_options *options)
{
    if (options->flags & ~FLAGS ||
        ((options->flags & COVE_EXCLUSIVE) && (options->flags & (COVE_EXISTING | COVE_READONLY))) ||
        options->access > COVE_ACCESS_NONE)
        return covei_error(-EINVAL, "%s: these flags (%#x) and this access (%u) do not go together", name,
                           options->flags, options->access);
    if (options->flags & COVE_READONLY && options->access == COVE_ACCESS_WRITE)
        return covei_error(-EACCES, "%s: opened COVE_READONLY it cannot be mapped for writing", name);
    if (options->size_bytes > LARGEST || options->offset > LARGEST || options->length_bytes > LARGEST)
        return covei_error(-EINVAL, "%s: sizes end at %" PRIu64 " bytes", name, LARGEST);
    if (options->mode & ~0777u)
        return covei_error(-EINVAL,
                           "%s: mode 0%" PRIo32 " is impossible; give permission bits as of chmod, 0600 for instance",
                           name, options->mode);
    return 0;
}

static enum covei_access access_of(const struct cove_region_options *options)
{
    if (options->access == COVE_ACCESS_NONE)
        return COVEI_ACCESS_NONE;
    return options->access == COVE_ACCESS_READ || options->flags & COVE_READONLY ? COVEI_ACCESS_READ
                                                                                 : COVEI_ACCESS_WRITE;
}

/* The part, in bytes of the whole. */
static int choose_part(struct cove_region *handle, const struct cove_region_options *options, uint64_t whole)
{
    const char *name = handle->place.name;
    uint64_t least = covei_max(options->size_bytes, options->offset + options->length_bytes);
    if (whole < least || options->offset > whole)
        return covei_error(-EMSGSIZE, "%s: it has %" PRIu64 " bytes, and %" PRIu64 " are wanted", name, whole,
                           covei_max(least, options->offset));
    handle->offset = options->offset;
    handle->length = options->length_bytes ? options->length_bytes : whole - options->offset;
    return 0;
}

/* System V memory is mapped whole, whatever the part. */
static int map_part(struct cove_region *handle, const struct cove_region_options *options, uint64_t whole)
{
    const struct covei_backend *backend = handle->region.backend;
    if (handle->length == 0)
        return 0; /* an empty file, or the end of one: nothing to map, and nothing wrong */
    bool sysv = backend == &covei_backend_sysv_raw;
    uint64_t page = backend->page_bytes(&handle->region);
    uint64_t begin = sysv ? 0 : handle->offset / page * page;
    uint64_t size = covei_round_up(sysv ? whole : handle->offset + handle->length - begin, page);
    enum covei_access access = access_of(options);
    void *address = NULL;
    /* What is attached read-only stays so; protection changes later. */
    enum covei_access attached = !sysv                            ? access
                                 : options->flags & COVE_READONLY ? COVEI_ACCESS_READ
                                                                  : COVEI_ACCESS_WRITE;
    int result = backend->map(&handle->region, &address, begin, size, attached);
    if (result < 0)
        return covei_error(result, "%s: mapping %" PRIu64 " bytes failed: %s%s", handle->place.name, size,
                           cove_strerror(result), result == -ENOMEM ? "; raise ulimit -v, or map a part" : "");
    handle->mapped = address;
    handle->mapped_bytes = size;
    handle->data = (unsigned char *)address + (handle->offset - begin);
    if (attached != access && (result = covei_os->map_protect(address, size, access)) < 0)
        return covei_error(result, "%s: changing its protection failed: %s", handle->place.name, cove_strerror(result));
    if (options->flags & COVE_NODUMP)
        (void)covei_os->map_keep_from_dumps(address, size); /* a wish */
    return 0;
}

static int use(struct cove_region *handle, const struct cove_region_options *options)
{
    struct covei_region_stat stat;
    int result = handle->region.backend->stat(&handle->region, &stat);
    if (result < 0)
        return covei_error(result, "%s: looking at it failed: %s", handle->place.name, cove_strerror(result));
    result = choose_part(handle, options, stat.size_bytes);
    if (result == 0)
        result = map_part(handle, options, stat.size_bytes);
    if (result == 0 && covei_guard_wanted(options->flags) && handle->mapped)
        atomic_store_explicit(&handle->guarded,
                              covei_guard_begin(handle->mapped, handle->mapped_bytes,
                                                handle->region.backend->page_bytes(&handle->region), handle->place.name,
                                                NULL, NULL, &result),
                              memory_order_release);
    return result;
}

static int find(struct cove_region *handle, const struct cove_region_options *options)
{
    int result = covei_region_find(&handle->region, &handle->place, options->flags);
    int segment = result == 0 && !(options->flags & COVE_READONLY) ? covei_region_is_segment(&handle->region) : 0;
    if (segment < 0)
        result = covei_error(segment, "%s: reading it failed: %s", handle->place.name, cove_strerror(segment));
    else if (segment)
        result = covei_error(COVE_ETYPE,
                             "%s: it is a Cove segment, whose bytes are not for raw writing; open it with cove_open, "
                             "or COVE_READONLY",
                             handle->place.name);
    return result == 0 ? use(handle, options) : result;
}

static int create(struct cove_region *handle, const struct cove_region_options *options)
{
    struct covei_place *place = &handle->place;
    if (options->size_bytes == 0)
        return covei_error(-EINVAL, "%s: a region of 0 bytes cannot be made; give size_bytes", place->name);
    if (options->size_bytes < options->offset + options->length_bytes)
        return covei_error(-EINVAL, "%s: the part does not lie in the %" PRIu64 " bytes of the whole", place->name,
                           options->size_bytes);
    struct covei_building building;
    int result = covei_region_build(&building, place, options->size_bytes,
                                    options->mode && !options->group ? options->mode : 0600);
    if (result < 0)
        return result;
    handle->region = building.region;
    result = covei_region_ask(&building.region, place->name, options->size_bytes);
    if (result == 0)
        result = building.region.backend->reserve(&building.region, place->name, 0, options->size_bytes);
    if (result == 0)
        result = use(handle, options);
    if (result == 0)
        result = covei_region_give(&building.region, place, options->mode ? options->mode : 0600, options->group);
    if (result == 0)
        result = building.region.backend->publish(&building, place);
    if (result < 0) {
        building.region.backend->abandon(&building, place);
        handle->region.file = -1;
    }
    return result < 0 ? result : COVE_CREATED;
}

static void unmap(struct cove_region *handle)
{
    if (handle->mapped)
        covei_guard_end_of(handle->mapped);
    if (handle->mapped)
        handle->region.backend->unmap(handle->mapped, handle->mapped_bytes);
    atomic_store_explicit(&handle->guarded, NULL, memory_order_relaxed); /* nobody may use it any more */
    handle->mapped = handle->data = NULL;
}

static int open_once(struct cove_region *handle, const struct cove_region_options *options)
{
    bool may_create = !(options->flags & (COVE_EXISTING | COVE_READONLY)) && options->size_bytes > 0;
    int result = -ENOENT;
    bool nameless = handle->place.backend == COVEI_MEMFD;
    if (!(options->flags & COVE_EXCLUSIVE) && !(nameless && may_create))
        result = find(handle, options);
    if (result == -ENOENT && (may_create || options->flags & COVE_EXCLUSIVE))
        result = create(handle, options);
    if (result < 0) {
        unmap(handle);
        covei_region_close(&handle->region);
    }
    return result;
}

/* Somebody may be faster, again and again: -EEXIST although nobody asked to be first. -EAGAIN: another way of naming
 * is to be tried. */
static int open_place(struct cove_region *handle, const struct cove_region_options *options, int64_t deadline)
{
    for (;;) {
        int result = open_once(handle, options);
        bool again = result == -EAGAIN || (result == -EEXIST && !(options->flags & COVE_EXCLUSIVE));
        if (!again || covei_wait_left(deadline) == 0)
            return result;
        covei_os->nap(NAP_NS);
    }
}

int covei_choose(struct covei_place *place, int64_t deadline, covei_choice *open, void *context, bool may_create)
{
    struct covei_place hugetry = *place, huge, normal;
    struct covei_file_stat stat;
    char path[COVEI_PATH_MAX];
    int result = covei_place_of(&huge, &hugetry, COVEI_HUGE);
    if (result == 0)
        result = covei_place_of(&normal, &hugetry, COVEI_POSIX);
    if (result < 0)
        return result;
    int lock = may_create ? covei_choice_lock(&hugetry, path, deadline) : -1;
    if (may_create && lock < 0)
        return lock;
    bool is_huge = *huge.path && covei_os->path_stat(huge.path, &stat) == 0;
    bool is_normal = !is_huge && covei_os->path_stat(normal.path, &stat) == 0;
    *place = is_huge || (!is_normal && may_create) ? huge : normal;
    result = open(context, place);
    if (!is_huge && !is_normal && may_create &&
        (result == -EOPNOTSUPP || result == -ENOSPC || result == -ENOMEM || result == -EACCES)) {
        *place = normal;
        result = open(context, place);
    }
    if (lock >= 0)
        covei_choice_unlock(lock, path);
    return result;
}

struct choice {
    struct cove_region *handle;
    const struct cove_region_options *options;
    int64_t deadline;
};

static int open_choice(void *context, const struct covei_place *place)
{
    const struct choice *choice = context;
    (void)place; /* it is the handle's */
    return open_place(choice->handle, choice->options, choice->deadline);
}

int cove_region_open(cove_region **region, const char *name, const struct cove_region_options *given)
{
    static const struct cove_region_options defaults;
    const struct cove_region_options *options = given ? given : &defaults;
    if (!region)
        return covei_error(-EINVAL, "there is no place for the handle");
    struct cove_region *handle = calloc(1, sizeof *handle);
    if (!handle)
        return covei_error(-ENOMEM, "no memory for a handle");
    handle->region.file = handle->region.system_id = -1;
    handle->flags = options->flags;
    int64_t deadline = covei_wait_begin(options->timeout_ns > 0 ? options->timeout_ns : COVEI_LIFE_CYCLE_NS);
    int result = covei_place_parse(&handle->place, name, true);
    if (result == 0)
        result = check_options(name, options);
    if (result == 0 && handle->place.backend == COVEI_HUGETRY)
        result = covei_choose(&handle->place, deadline, open_choice, &(struct choice){handle, options, deadline},
                              !(options->flags & (COVE_EXISTING | COVE_READONLY)) && options->size_bytes > 0);
    else if (result == 0)
        result = open_place(handle, options, deadline);
    if (result < 0) {
        free(handle);
        return result;
    }
    *region = handle;
    return result;
}

int cove_region_close(cove_region *region)
{
    if (region) {
        unmap(region);
        covei_region_close(&region->region);
        free(region);
    }
    return 0;
}

void *cove_region_data(const cove_region *region)
{
    return region ? region->data : NULL;
}

uint64_t cove_region_size(const cove_region *region)
{
    return region ? region->length : 0;
}
