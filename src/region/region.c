/* region.c - choosing a backend, and what is the same for all of them.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "region/region.h"

#include "base/error.h"

#include <errno.h>
#include <string.h>

const struct covei_backend *covei_backend_of(const struct covei_place *place)
{
    switch (place->backend) {
    case COVEI_POSIX:
        return &covei_backend_posix;
    case COVEI_FILE:
        return &covei_backend_file;
    case COVEI_SYSV:
        return place->raw ? &covei_backend_sysv_raw : &covei_backend_sysv;
    case COVEI_MEMFD:
        return &covei_backend_memfd;
    case COVEI_FD:
        return &covei_backend_fd;
    case COVEI_HUGE:
        return &covei_backend_huge;
    default:
        return NULL;
    }
}

static struct covei_region nothing(const struct covei_place *place)
{
    return (struct covei_region){.backend = covei_backend_of(place), .file = -1, .system_id = -1};
}

int covei_region_find(struct covei_region *region, const struct covei_place *place, uint32_t flags)
{
    *region = nothing(place);
    return region->backend->find(region, place, flags);
}

int covei_region_build(struct covei_building *building, const struct covei_place *place, uint64_t size_bytes,
                       uint32_t mode)
{
    building->region = nothing(place);
    building->path[0] = '\0';
    building->mode = mode;
    return building->region.backend->build(building, place, size_bytes);
}

void covei_region_close(struct covei_region *region)
{
    if (region->file >= 0)
        covei_os->file_close(region->file);
    region->file = -1;
}

static int find_group(const struct covei_place *place, const char *group, uint32_t *gid)
{
    int result = covei_os->group_find(group, gid);
    if (result == -ENOENT)
        return covei_error(-EINVAL, "%s: there is no group %s here", place->name, group);
    return result < 0
               ? covei_error(result, "%s: looking up group %s failed: %s", place->name, group, cove_strerror(result))
               : 0;
}

int covei_region_give(const struct covei_region *region, const struct covei_place *place, uint32_t mode,
                      const char *group)
{
    uint32_t gid = 0;
    int result = group ? find_group(place, group, &gid) : 0;
    if (result < 0)
        return result;
    result = region->backend->set_rights(region, place, mode, group ? &gid : NULL);
    if (result < 0 && group)
        return covei_error(result,
                           "%s: giving it to group %s and setting its mode failed: %s; you must own it, and be "
                           "in that group",
                           place->name, group, cove_strerror(result));
    return result < 0 ? covei_error(result, "%s: setting its mode (fchmod) failed: %s; only its owner may", place->name,
                                    cove_strerror(result))
                      : 0;
}

uint64_t covei_region_resident(const struct covei_region *region, const struct covei_region_stat *stat)
{
    return region->system_id >= 0 ? covei_os->shm_resident(region->system_id) : stat->allocated_bytes;
}

int covei_region_is_segment(const struct covei_region *region)
{
    uint64_t magic = 0;
    if (region->backend->is_segment)
        return region->backend->is_segment(region);
    int64_t count = region->backend->read(region, &magic, sizeof magic, 0);
    return count < 0 ? (int)count : count == (int64_t)sizeof magic && magic == COVEI_SEGMENT_MAGIC;
}

int cove_supports(const char *name, enum cove_feature feature)
{
    struct covei_place place;
    int result = covei_place_parse(&place, name, false);
    if (result < 0)
        return result;
    if (place.backend == COVEI_HUGETRY) { /* what both its forms can */
        int huge, normal;
        struct covei_place form;
        huge = covei_place_of(&form, &place, COVEI_HUGE) == 0 && covei_backend_huge.usable(&form);
        normal = covei_place_of(&form, &place, COVEI_POSIX) == 0 && covei_backend_posix.usable(&form);
        return feature == COVE_HAS_HUGE_PAGES ? huge
               : feature == COVE_CAN_USE      ? huge || normal
                                              : (unsigned)feature < 32 && covei_can(&covei_backend_posix, feature);
    }
    const struct covei_backend *backend = covei_backend_of(&place);
    if (place.backend == COVEI_FD && feature == COVE_CAN_SEAL)
        return covei_os->file_sealed(place.fd);
    if (feature == COVE_CAN_USE && backend->usable)
        return backend->usable(&place);
    return (unsigned)feature < 32 && covei_can(backend, feature);
}

int cove_fd_send(int socket, int fd)
{
    int result = covei_os->fd_send(socket, fd);
    return result < 0 ? covei_error(result, "sending descriptor %d over socket %d failed: %s", fd, socket,
                                    cove_strerror(result))
                      : 0;
}

int cove_fd_receive(int socket)
{
    int result = covei_os->fd_receive(socket);
    if (result == -ENODATA)
        return covei_error(COVE_EPEER, "socket %d: the other end closed it without sending a descriptor", socket);
    if (result == -EPROTO)
        return covei_error(result, "socket %d: what came is no descriptor that cove_fd_send sent", socket);
    if (result == -EMFILE)
        return covei_error(result,
                           "socket %d: a descriptor came and there was no room for it, so it is lost; raise "
                           "ulimit -n, and have it sent again",
                           socket);
    return result < 0
               ? covei_error(result, "receiving a descriptor over socket %d failed: %s%s", socket,
                             cove_strerror(result), result == -EMFILE || result == -ENFILE ? "; raise ulimit -n" : "")
               : result;
}
