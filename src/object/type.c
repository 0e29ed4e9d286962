/* type.c - the table of types.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "object/type.h"

const struct covei_type covei_type_user = {.id = COVEI_TYPE_USER, .name = "user", .alignment = 16};

static const struct covei_type *const types[COVEI_TYPE_COUNT] = {
    [COVEI_TYPE_USER] = &covei_type_user,           [COVEI_TYPE_STREAM] = &covei_type_stream,
    [COVEI_TYPE_MUTEX] = &covei_type_mutex,         [COVEI_TYPE_RWLOCK] = &covei_type_rwlock,
    [COVEI_TYPE_SEMAPHORE] = &covei_type_semaphore, [COVEI_TYPE_EVENT] = &covei_type_event,
    [COVEI_TYPE_CONDITION] = &covei_type_condition, [COVEI_TYPE_BARRIER] = &covei_type_barrier,
    [COVEI_TYPE_ONCE] = &covei_type_once,           [COVEI_TYPE_COUNTER] = &covei_type_counter,
};

const struct covei_type *covei_type_find(uint32_t id)
{
    return id < COVEI_TYPE_COUNT ? types[id] : NULL;
}
