/* type.c - the table of types.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "object/type.h"

const struct covei_type covei_type_user = {.id = COVEI_TYPE_USER, .name = "user", .alignment = 16};

static const struct covei_type *const types[COVEI_TYPE_COUNT] = {
    [COVEI_TYPE_USER] = &covei_type_user,
    [COVEI_TYPE_STREAM] = &covei_type_stream,
};

const struct covei_type *covei_type_find(uint32_t id)
{
    return id < COVEI_TYPE_COUNT ? types[id] : NULL;
}
