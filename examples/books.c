/* books.c - what the system has in its books about shared memory: who made it, who came last, how many are in; new
 * rights.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
    char name[32];
    cove_region *region, *second;
    cove_segment *segment;
    struct cove_region_info info;
    struct cove_member_info member;
    (void)snprintf(name, sizeof name, "sysv:0x%x", 0x5e000000u | (unsigned)getpid());
    if (cove_region_open(&region, name, &(struct cove_region_options){.size_bytes = 5000}) < 0)
        return cove_complain(name);
    pid_t visitor = fork();
    if (visitor == 0)
        return cove_region_open(&second, name, NULL) < 0 || cove_region_close(second) < 0;
    (void)waitpid(visitor, NULL, 0);

    if (cove_region_set_rights(name, 0640, NULL) < 0 || cove_region_look(name, &info) < 0)
        return cove_complain(name);
    printf("%llu bytes, mode %04o, made by %s, last used by %s, attached %llu time%s\n",
           (unsigned long long)info.size_bytes, info.mode, info.creator_pid == getpid() ? "us" : "somebody",
           info.last_pid == visitor ? "the visitor" : "somebody", (unsigned long long)info.attached_count,
           info.attached_count == 1 ? "" : "s");
    if (cove_region_close(region) < 0 || cove_region_unlink(name, 0) < 0)
        return cove_complain(name);

    /* A segment of Cove's knows its members by name, and only living ones. */
    if (cove_open(&segment, "example-books", &(struct cove_options){.lifetime = COVE_LAST_OUT}) < 0 ||
        cove_segment_members(segment, &member, 1) != 1)
        return cove_complain("members");
    printf("1 member: %s\n", member.pid == getpid() ? "this process" : member.command);
    return cove_close(segment) < 0;
}
