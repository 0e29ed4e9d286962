/* objects.c - structs with a name and a type. Nobody computes offsets, and a program with another idea of the struct
 * is told.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <stdio.h>

struct motor {
    int64_t speed;
    uint32_t enabled, reserved;
};
static const struct cove_type motor_type = {.name = "motor", .version = 1, .size_bytes = sizeof(struct motor)};
static const struct cove_type motor_type_2 = {.name = "motor", .version = 2, .size_bytes = sizeof(struct motor) + 8};

int main(void)
{
    cove_segment *segment;
    void *left, *again, *newer;
    struct cove_object_info objects[8];
    if (cove_open(&segment, "example-objects", &(struct cove_options){.lifetime = COVE_LAST_OUT}) < 0 ||
        cove_object_open(&left, segment, "motors/left", &motor_type, 0) < 0)
        return cove_complain("open");
    ((struct motor *)left)->speed = -42;

    if (cove_object_open(&again, segment, "motors/left", &motor_type, COVE_EXISTING) < 0)
        return cove_complain("find");
    printf("motors/left: speed %lld\n", (long long)((struct motor *)again)->speed);

    int result = cove_object_open(&newer, segment, "motors/left", &motor_type_2, 0);
    printf("%s: %s\n", cove_errname(result), cove_last_error());

    int64_t count = cove_objects(segment, objects, 8);
    for (int64_t i = 0; i < count; i++)
        printf("%s is a %s of %llu bytes\n", objects[i].name, objects[i].type,
               (unsigned long long)objects[i].size_bytes);
    return cove_close(segment) < 0 || result != COVE_ETYPE || count != 1;
}
