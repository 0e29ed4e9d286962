/* other.c - another program: started anew, it shares nothing with the cell but what the name leads to.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 *     conformance --other region NAME N     finds N in byte 0 and stores N + 1 into byte 1
 *     conformance --other segment NAME N    becomes a member; is the Nth that counts itself in the segment */
#include "conformance.h"

static int failed(const char *what, int result)
{
    (void)fprintf(stderr, "conformance --other: %s: %s: %s\n", what, cove_errname(result), cove_last_error());
    return 1;
}

static int use_region(const char *name, int number)
{
    cove_region *region = NULL;
    int result = cove_region_open(&region, name, &(struct cove_region_options){.flags = COVE_EXISTING});
    if (result != 0)
        return failed(name, result);
    uint8_t *bytes = cove_region_data(region);
    if (bytes[0] != number)
        return failed("another byte is there", 0);
    bytes[1] = (uint8_t)(number + 1);
    return cove_region_close(region);
}

struct visitors {
    cove_mutex lock;
    uint64_t count;
};

static int use_segment(const char *name, uint64_t number)
{
    void *object = NULL;
    cove_segment *segment = NULL;
    struct cove_type type = {.name = "visitors", .size_bytes = sizeof(struct visitors)};
    int result = cove_open(&segment, name, &(struct cove_options){.flags = COVE_EXISTING});
    if (result == 0)
        result = cove_object_open(&object, segment, "visitors", &type, 0);
    if (result < 0)
        return failed(name, result);
    struct visitors *visitors = object;
    result = cove_mutex_lock(segment, &visitors->lock, PATIENCE_NS);
    if (result != 0 || ++visitors->count != number)
        return failed("counting", result);
    result = cove_mutex_unlock(segment, &visitors->lock);
    return result < 0 ? failed("unlocking", result) : cove_close(segment);
}

int other_main(int count, char **arguments)
{
    if (count != 3)
        return 2;
    int number = atoi(arguments[2]);
    return strcmp(arguments[0], "region") == 0 ? use_region(arguments[1], number)
                                               : use_segment(arguments[1], (uint64_t)number);
}
