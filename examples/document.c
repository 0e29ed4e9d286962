/* document.c - one copy, seen by all at once, and never half of it: four readers go on while somebody writes. Two ways:
 * under an rwlock, or with no lock at all, by a revision. (A cell, which holds whole values only, is to come.)
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORDS 64
#define VERSIONS 2000

struct document {
    cove_rwlock lock;
    cove_revision revision;
    cove_counter readers;
    uint32_t words[WORDS]; /* whole when all are the same: the version */
};
static const struct cove_type document_type = {.name = "document", .version = 1, .size_bytes = sizeof(struct document)};

static struct document *document_open(cove_segment **segment)
{
    void *document = NULL;
    if (cove_open(segment, "example-document", &(struct cove_options){.lifetime = COVE_LAST_OUT}) < 0 ||
        cove_object_open(&document, *segment, "letter", &document_type, 0) < 0)
        (void)cove_complain("document");
    return document;
}

static int is_torn(const uint32_t *words)
{
    return memcmp(words, words + 1, (WORDS - 1) * sizeof *words) != 0;
}

/* Under the lock: the place itself may be read, for as long as it takes. */
static int64_t read_locked(cove_segment *segment, struct document *document, uint32_t *last)
{
    if (cove_rwlock_lock_shared(segment, &document->lock, COVE_FOREVER) < 0)
        return 1;
    int torn = is_torn(document->words);
    *last = document->words[0];
    return (cove_rwlock_unlock(segment, &document->lock) < 0) + torn;
}

/* Without: copy, and ask afterwards whether it was of one moment. Readers write nothing, so they hold nobody up. */
static int64_t read_free(cove_segment *segment, struct document *document, uint32_t *last)
{
    uint32_t words[WORDS];
    uint64_t seen;
    do {
        seen = cove_revision_read(segment, &document->revision);
        for (int i = 0; i < WORDS; i++)
            words[i] = __atomic_load_n(&document->words[i], __ATOMIC_RELAXED);
    } while (!cove_revision_same(&document->revision, seen));
    *last = words[0];
    return is_torn(words);
}

static int read_all(int locked)
{
    cove_segment *segment;
    struct document *document = document_open(&segment);
    if (!document)
        return 1;
    int64_t torn = 0;
    (void)cove_counter_add(segment, &document->readers, 1, NULL);
    for (uint32_t last = 0; last < VERSIONS;)
        torn += locked ? read_locked(segment, document, &last) : read_free(segment, document, &last);
    return torn != 0 || cove_close(segment) < 0;
}

/* Killed anywhere in here: the words go back, and the readers are told by the revision. */
static int write_version(cove_segment *segment, struct document *document, uint32_t version)
{
    if (cove_begin(segment) < 0 || cove_rwlock_lock(segment, &document->lock, COVE_FOREVER) < 0 ||
        cove_revision_change(segment, &document->revision) < 0 ||
        cove_save(segment, document->words, sizeof document->words) < 0)
        return cove_complain("write");
    for (int i = 0; i < WORDS; i++)
        __atomic_store_n(&document->words[i], version, __ATOMIC_RELAXED);
    return cove_commit(segment);
}

int main(void)
{
    cove_segment *segment;
    struct document *document = document_open(&segment);
    if (!document)
        return 1;
    for (int i = 0; i < 4; i++)
        if (fork() == 0)
            return read_all(i % 2);
    if (cove_counter_wait(segment, &document->readers, 4, NULL, COVE_FOREVER) < 0)
        return cove_complain("readers");
    for (uint32_t version = 1; version <= VERSIONS; version++)
        if (write_version(segment, document, version) < 0)
            return 1;
    int failed = 0, status;
    while (wait(&status) > 0)
        failed |= status;
    printf("%d versions, 4 readers: %s\n", VERSIONS, failed ? "somebody saw half of one" : "nobody saw half of one");
    return failed || cove_close(segment) < 0;
}
