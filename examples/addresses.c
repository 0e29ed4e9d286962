/* addresses.c - two processes have the same memory at different addresses. Refs mean the same to both, pointers do
 * not.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct note {
    COVE_REF(char) text; /* 8 bytes: how far from the segment's beginning */
    uint64_t address; /* what a pointer would have been */
};
static const struct cove_type note_type = {.name = "note", .version = 1, .size_bytes = sizeof(struct note)};

static struct note *open_note(cove_segment **segment)
{
    void *note = NULL;
    if (cove_open(segment, "example-addresses", &(struct cove_options){.lifetime = COVE_LAST_OUT}) < 0 ||
        cove_object_open(&note, *segment, "note", &note_type, 0) < 0)
        (void)cove_complain("open");
    return note;
}

static int read_note(void)
{
    cove_segment *segment; /* the parent's mapping is inherited, so this one lies elsewhere */
    struct note *note = open_note(&segment);
    const char *text = note ? cove_at(segment, note->text.ref, 6) : NULL;
    if (!text)
        return cove_complain("read");
    printf("%s; the same address: %s\n", text, (uint64_t)(uintptr_t)text == note->address ? "yes" : "no");
    return cove_close(segment) < 0 || fflush(stdout) != 0;
}

int main(void)
{
    int status = 1;
    cove_segment *segment;
    struct note *note = open_note(&segment);
    if (!note || cove_alloc_into(segment, &note->text.ref, 6) < 0)
        return cove_complain("write");
    note->address = (uintptr_t)memcpy(COVE_AT(segment, note->text), "hello", 6);
    pid_t reader = fork();
    if (reader == 0)
        return read_note();
    (void)waitpid(reader, &status, 0);
    return cove_close(segment) < 0 || status != 0;
}
