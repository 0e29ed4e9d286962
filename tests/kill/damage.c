/* damage.c - damages each field that matters of a sound segment, once, and sees that the check finds it.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The kill table believes cove_segment_check. So it must not pass what is broken: every field of header, roster, lanes, heap,
 * directory, stream, locks and meeting points on which something depends is changed to a wrong value in a copy of a segment that all have left, one
 * field at a time, and either opening the copy read-only is refused with a sentence, or the check reports a finding. The
 * undamaged copy must open and have none. Each look is taken by a child with a time limit: a crash or a hang over
 * damaged bytes is a failure as well.
 *
 * Looks inside (the *_shm.h headers), and is linked with the static library to find the parts of a segment as it does. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "scratch.h"

#include "channel/stream_shm.h"
#include "heap/heap_shm.h"
#include "object/directory_shm.h"
#include "segment/segment.h"
#include "sync/types.h"

#include <cove.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SIGHT_SECONDS = 5, FINDINGS_SHOWN = 1 };
enum { SEEN_SOUND = 0, SEEN_FINDING = 10, SEEN_REFUSED = 11 };

static const char segment_name[] = "damage";
static char path[300];
static unsigned char *image; /* sound */
static size_t image_bytes;
static int tried, missed;

struct item {
    cove_mutex lock;
    int64_t number;
};

static const struct cove_type item_type = {"item", 1, 0, sizeof(struct item)};

static void die(const char *what)
{
    fprintf(stderr, "damage: %s: %s\n", what, cove_last_error());
    _exit(2);
}

/* ---- a sound segment with something of everything ------------------------------------------------------------- */

static int do_nothing(void *context)
{
    (void)context;
    return 0;
}

static void fill_stream(cove_segment *segment)
{
    cove_stream *writer = NULL, *reader = NULL;
    char bytes[500] = "something";
    struct cove_stream_options options = {.capacity_bytes = 4096};
    if (cove_stream_open_in(&writer, segment, "pipe", COVE_WRITER, &options) < 0 ||
        cove_stream_open_in(&reader, segment, "pipe", COVE_READER, &options) < 0)
        die("opening a stream");
    for (int i = 0; i < 11; i++)
        if (cove_stream_write(writer, bytes, sizeof bytes, COVE_NOWAIT) != sizeof bytes ||
            (i < 9 && cove_stream_read(reader, bytes, sizeof bytes, COVE_NOWAIT) != sizeof bytes))
            die("using a stream");
    if (cove_stream_close(writer) < 0 || cove_stream_close(reader) < 0)
        die("closing a stream");
}

/* One of each, used. Nobody holds any of them in the end. */
static void fill_sync(cove_segment *segment)
{
    cove_mutex *mutex = NULL;
    cove_rwlock *rwlock = NULL;
    cove_semaphore *semaphore = NULL;
    cove_event *event = NULL;
    cove_condition *condition = NULL;
    cove_barrier *barrier = NULL;
    cove_once *once = NULL;
    cove_counter *counter = NULL;
    if (cove_mutex_open_in(&mutex, segment, "sync/mutex", &(struct cove_sync_options){.fair = 1}) < 0 ||
        cove_rwlock_open_in(&rwlock, segment, "sync/rwlock", NULL) < 0 ||
        cove_semaphore_open_in(&semaphore, segment, "sync/semaphore", &(struct cove_sync_options){.permits = 2}) < 0 ||
        cove_event_open_in(&event, segment, "sync/event", NULL) < 0 ||
        cove_condition_open_in(&condition, segment, "sync/condition", NULL) < 0 ||
        cove_barrier_open_in(&barrier, segment, "sync/barrier", NULL) < 0 ||
        cove_once_open_in(&once, segment, "sync/once", NULL) < 0 ||
        cove_counter_open_in(&counter, segment, "sync/counter", &(struct cove_sync_options){.lines = 2}) < 0)
        die("making locks and meeting points");
    if (cove_mutex_lock(segment, mutex, COVE_NOWAIT) < 0 || cove_mutex_unlock(segment, mutex) < 0 ||
        cove_rwlock_lock(segment, rwlock, COVE_NOWAIT) < 0 || cove_rwlock_unlock(segment, rwlock) < 0 ||
        cove_rwlock_lock_shared(segment, rwlock, COVE_NOWAIT) < 0 || cove_rwlock_unlock(segment, rwlock) < 0 ||
        cove_semaphore_acquire(segment, semaphore, COVE_NOWAIT) < 0 || cove_semaphore_release(segment, semaphore) < 0 ||
        cove_event_set(segment, event) < 0 || cove_condition_broadcast(segment, condition) < 0 ||
        cove_barrier_wait(segment, barrier, 2, 1) != -ETIMEDOUT || cove_barrier_leave(segment, barrier) < 0 ||
        cove_once_call(segment, once, do_nothing, NULL, COVE_NOWAIT) < 0 ||
        cove_counter_add(segment, counter, 3, NULL) < 0)
        die("using locks and meeting points");
}

static void make_segment(void)
{
    cove_segment *segment = NULL;
    void *object = NULL;
    cove_ref kept[4];
    struct cove_options options = {
        .flags = COVE_EXCLUSIVE, .size_bytes = 32 * 1024, .max_size_bytes = 1 << 20, .max_members = 8};
    if (cove_open(&segment, segment_name, &options) != COVE_CREATED)
        die("creating the segment");
    if (cove_object_open(&object, segment, "alice", &item_type, 0) < 0 ||
        cove_object_open(&object, segment, "group/bob", &item_type, 0) < 0)
        die("creating objects");
    for (size_t i = 0; i < 4; i++) {
        kept[i] = cove_alloc(segment, 100 + 200 * i);
        if (kept[i] == 0 || cove_keep(segment, kept[i]) < 0)
            die("taking memory");
    }
    if (cove_free(segment, kept[1]) < 0)
        die("freeing memory");
    fill_stream(segment);
    fill_sync(segment);
    if (cove_close(segment) < 0)
        die("closing the segment");
}

static int in_child(void (*work)(void))
{
    int status;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(SIGHT_SECONDS);
        work();
        _exit(0);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int read_image(void)
{
    struct stat facts;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &facts) < 0)
        return 0;
    image_bytes = (size_t)facts.st_size;
    /* Aligned as a mapping is, for the structures that are looked at in it. */
    image = aligned_alloc(4096, (image_bytes + 4095) & ~(size_t)4095);
    int good = image != NULL && read(fd, image, image_bytes) == (ssize_t)image_bytes;
    close(fd);
    return good;
}

/* ---- looking -------------------------------------------------------------------------------------------------- */

static char sight[400]; /* the first finding, for people */
static int sight_pipe[2];

static void note_finding(const char *sentence, void *context)
{
    int *count = context;
    if ((*count)++ < FINDINGS_SHOWN && write(sight_pipe[1], sentence, strlen(sentence)) < 0)
        _exit(2);
}

static void look(void)
{
    cove_segment *segment = NULL;
    int count = 0;
    struct cove_options options = {.flags = COVE_READONLY};
    if (cove_open(&segment, segment_name, &options) < 0) {
        note_finding(cove_last_error(), &count);
        _exit(cove_last_error()[0] != 0 ? SEEN_REFUSED : 2);
    }
    int64_t found = cove_segment_check(segment, note_finding, &count);
    if (found < 0)
        note_finding(cove_last_error(), &count);
    if (found > 0 && found != count)
        _exit(3); /* it counts what it does not report */
    _exit(found == 0 ? SEEN_SOUND : SEEN_FINDING);
}

/* Writes a copy with `bytes` changed at `offset`, and looks at it. */
static int sees(size_t offset, const void *bytes, size_t size_bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, image, image_bytes) != (ssize_t)image_bytes ||
        pwrite(fd, bytes, size_bytes, (off_t)offset) != (ssize_t)size_bytes || pipe(sight_pipe) < 0) {
        perror("damage");
        _exit(2);
    }
    close(fd);
    int status = in_child(look);
    close(sight_pipe[1]);
    ssize_t got = read(sight_pipe[0], sight, sizeof sight - 1);
    close(sight_pipe[0]);
    sight[got > 0 ? got : 0] = 0;
    return status;
}

/* `field` lies in the image and gets `value`. */
static void damage(const char *name, const void *field, size_t size_bytes, uint64_t value)
{
    size_t offset = (size_t)((const unsigned char *)field - image);
    tried++;
    if (memcmp(field, &value, size_bytes) == 0) {
        printf("FAIL %-34s is 0x%" PRIx64 " already: nothing was damaged\n", name, value);
        missed++;
        return;
    }
    int status = sees(offset, &value, size_bytes);
    int found = status == SEEN_FINDING || status == SEEN_REFUSED;
    missed += !found;
    printf("%s %-34s := 0x%-18" PRIx64 " %s%s%s\n", found ? "ok  " : "FAIL", name, value,
           status == SEEN_SOUND     ? "NOT FOUND"
           : status == SEEN_FINDING ? "found: "
           : status == SEEN_REFUSED ? "refused: "
           : status >= 128          ? "the look was ended by a signal"
                                    : "the look failed",
           found ? sight : "", "");
}

#define DAMAGE(field, value) damage(#field, &(field), sizeof(field), (uint64_t)(value))

/* ---- the fields ----------------------------------------------------------------------------------------------- */

static void damage_header(struct cove_segment *segment)
{
    struct covei_header_shm *header = segment->header;
    DAMAGE(header->magic, header->magic ^ 1);
    DAMAGE(header->layout, header->layout + 1);
    DAMAGE(header->signature, header->signature ^ 1);
    DAMAGE(header->features, header->features | UINT64_C(1) << 63);
    DAMAGE(header->size_bytes, image_bytes + (1 << 20));
    DAMAGE(header->size_bytes, 4096);
    DAMAGE(header->max_size_bytes, 4096);
    DAMAGE(header->max_members, 0);
    DAMAGE(header->max_members, UINT32_MAX);
    DAMAGE(header->max_lanes, header->max_lanes + 1);
    DAMAGE(header->lifetime, 99);
    DAMAGE(header->state, COVEI_SEGMENT_BUILDING);
    DAMAGE(header->state, 99);
    DAMAGE(header->rows_ready, header->max_members + 1);
    DAMAGE(header->lanes_ready, header->max_lanes + 1);
    DAMAGE(header->grow_lock, header->max_lanes + 5);
}

static void damage_roster(struct cove_segment *segment)
{
    _Atomic uint64_t *states = segment->states;
    _Atomic uint32_t *owners = segment->owners;
    struct covei_row_shm *rows = segment->rows;
    struct covei_lane_shm *lanes = segment->lanes;
    DAMAGE(states[0], COVEI_STATE_WORD(3, 99));
    DAMAGE(owners[0], segment->max_members + 1);
    DAMAGE(owners[1], 3); /* a row that has no member */
    DAMAGE(rows[0].pending, 24);
    DAMAGE(lanes[0].tails, COVEI_TAILS(0, 0, 3));
    DAMAGE(lanes[0].tails, COVEI_TAILS(5, 0, 0));
    DAMAGE(lanes[0].tails, COVEI_TAILS(0, COVEI_PHASE_COMMITTED, 0));
    DAMAGE(lanes[0].held[0], COVEI_HEAP_ROOT_AT);
    DAMAGE(lanes[0].held[COVEI_LANE_LOCKS - 1], COVEI_HEAP_ROOT_AT);
    DAMAGE(lanes[0].held[1], COVEI_HELD(COVEI_HELD_SHARED, segment->heap_at + 4096));
    DAMAGE(lanes[0].held[2], COVEI_HELD(7, segment->heap_at + 4096)); /* of a kind that is none */
    DAMAGE(lanes[0].marks, 1);
    DAMAGE(lanes[0].waits_for, COVEI_HELD(COVEI_WAITS_WORD, segment->heap_at + 4096));
    DAMAGE(lanes[0].journal_block, segment->heap_at + 4096);
    DAMAGE(lanes[0].journal_next, segment->heap_at + 4096);
    DAMAGE(lanes[0].journal_old, segment->heap_at + 4096);
}

static struct covei_block_shm *block_at(uint64_t offset)
{
    return (struct covei_block_shm *)(void *)(image + offset);
}

/* The first block that is (not) in use, behind the first two. */
static struct covei_block_shm *find_block(const struct covei_heap_shm *heap, int used)
{
    uint64_t at = heap->begin;
    for (int i = 0; at < heap->end && (block_at(at)->size_and_marks & COVEI_BLOCK_SIZE_MASK) != 0; i++) {
        int is_used = (block_at(at)->size_and_marks & COVEI_BLOCK_USED) != 0;
        if (i >= 2 && is_used == used)
            return block_at(at);
        at += block_at(at)->size_and_marks & COVEI_BLOCK_SIZE_MASK;
    }
    die("no such block in the image");
    return NULL;
}

static size_t first_filled(const uint64_t *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (words[i] != 0)
            return i;
    die("nothing in a table of the image");
    return 0;
}

static void damage_heap(void)
{
    struct covei_heap_shm *heap = (void *)(image + COVEI_HEAP_ROOT_AT);
    struct covei_block_shm *used = find_block(heap, 1), *unused = find_block(heap, 0);
    uint64_t *head = &heap->heads[first_filled(heap->heads, COVEI_HEAP_CLASSES * COVEI_HEAP_STEPS)];
    uint64_t *steps = &heap->steps[first_filled(heap->steps, COVEI_HEAP_CLASSES)];
    DAMAGE(heap->lock, 4000);
    DAMAGE(heap->begin, heap->begin + 16);
    DAMAGE(heap->begin, UINT64_MAX);
    DAMAGE(heap->end, heap->end + 16);
    DAMAGE(heap->end, 0);
    DAMAGE(heap->free_bytes, heap->free_bytes + 16);
    DAMAGE(heap->block_count, heap->block_count + 1);
    DAMAGE(heap->classes, 0);
    DAMAGE(heap->classes, heap->classes | UINT64_C(1) << 43);
    DAMAGE(*steps, 0);
    DAMAGE(*head, 0);
    DAMAGE(*head, *head + 16);
    DAMAGE(*head, UINT64_MAX - 15);
    DAMAGE(used->size_and_marks, used->size_and_marks + 16);
    DAMAGE(used->size_and_marks, used->size_and_marks & ~COVEI_BLOCK_USED);
    DAMAGE(used->size_and_marks, COVEI_BLOCK_USED);
    DAMAGE(used->size_and_marks, used->size_and_marks | COVEI_BLOCK_DOOMED);
    DAMAGE(used->size_and_marks, used->size_and_marks | UINT64_C(3) << COVEI_BLOCK_OWNER_SHIFT);
    DAMAGE(used->before, used->before + 16);
    DAMAGE(unused->size_and_marks, unused->size_and_marks | COVEI_BLOCK_USED);
    DAMAGE(unused->size_and_marks, unused->size_and_marks + 32);
    DAMAGE(unused->before, 0);
    DAMAGE(unused->next, heap->begin + 8);
    DAMAGE(unused->next, (uint64_t)((unsigned char *)unused - image)); /* a ring */
    DAMAGE(unused->previous, heap->begin + 16);
}

static struct covei_entry_shm *find_entry(const char *name)
{
    struct covei_directory_shm *directory = (void *)(image + COVEI_DIRECTORY_ROOT_AT);
    for (size_t i = 0; i < COVEI_DIRECTORY_CHAINS; i++)
        for (uint64_t at = directory->chains[i]; at != 0;) {
            struct covei_entry_shm *entry = (void *)(image + at);
            if (strcmp(entry->name, name) == 0)
                return entry;
            at = entry->next;
        }
    die("no such object in the image");
    return NULL;
}

static void damage_directory(void)
{
    struct covei_directory_shm *directory = (void *)(image + COVEI_DIRECTORY_ROOT_AT);
    struct covei_entry_shm *entry = find_entry("alice");
    uint64_t *chain = &directory->chains[first_filled(directory->chains, COVEI_DIRECTORY_CHAINS)];
    DAMAGE(directory->lock, 4000);
    DAMAGE(directory->object_count, directory->object_count + 1);
    DAMAGE(*chain, 0);
    DAMAGE(*chain, *chain + 16);
    DAMAGE(*chain, UINT64_MAX - 7);
    DAMAGE(entry->next, (uint64_t)((unsigned char *)entry - image)); /* a ring */
    DAMAGE(entry->next, entry->object);
    DAMAGE(entry->hash, entry->hash ^ UINT64_C(1) << 20);
    DAMAGE(entry->object, entry->object + 16);
    DAMAGE(entry->object, 0);
    DAMAGE(entry->size_bytes, entry->size_bytes + (1 << 20));
    DAMAGE(entry->type_id, 77);
    DAMAGE(entry->name_length, 0);
    DAMAGE(entry->name_length, sizeof entry->name);
    DAMAGE(entry->name[0], 'b');
    DAMAGE(entry->name[1], 0);
}

static void damage_stream(void)
{
    struct covei_entry_shm *entry = find_entry("pipe");
    struct covei_stream_shm *stream = (void *)(image + entry->object);
    struct covei_cursor_shm *cursor = &stream->cursor[stream->turn & 1];
    unsigned char *ring = (unsigned char *)stream + sizeof *stream;
    uint64_t *record = (uint64_t *)(void *)(ring + (cursor->position & (stream->capacity - 1)));
    DAMAGE(entry->size_bytes, entry->size_bytes - 64);
    DAMAGE(stream->capacity, 0);
    DAMAGE(stream->capacity, stream->capacity * 2);
    DAMAGE(stream->capacity, stream->capacity + 8);
    DAMAGE(stream->writer_claim, UINT64_C(1) << 32 | 1000);
    DAMAGE(stream->reader_claim, UINT64_C(1) << 32 | 1000);
    DAMAGE(stream->head, stream->head + 8);
    DAMAGE(stream->head, stream->head + (UINT64_C(1) << 40));
    DAMAGE(stream->turn, stream->turn ^ 1); /* the cursor of before */
    DAMAGE(cursor->position, cursor->position + 8);
    DAMAGE(cursor->position, cursor->position + 1);
    DAMAGE(cursor->position, UINT64_C(1) << 50);
    DAMAGE(cursor->skip, UINT64_C(1) << 20);
    DAMAGE(stream->tail, stream->tail + 8);
    DAMAGE(*record, *record | UINT64_C(99) << 32); /* of a kind that is none */
    DAMAGE(*record, (*record & ~UINT64_C(0xffffffff)) | 0x7fffffff); /* longer than the ring */
    DAMAGE(*record, 0);
}

/* Nobody has the segment: whatever says that somebody holds, waits or has come is wrong. */
static void damage_sync(void)
{
    struct covei_entry_shm *mutex_entry = find_entry("sync/mutex"), *counter_entry = find_entry("sync/counter");
    cove_mutex *mutex = (void *)(image + mutex_entry->object);
    cove_rwlock *rwlock = (void *)(image + find_entry("sync/rwlock")->object);
    cove_event *event = (void *)(image + find_entry("sync/event")->object);
    cove_barrier *barrier = (void *)(image + find_entry("sync/barrier")->object);
    cove_once *once = (void *)(image + find_entry("sync/once")->object);
    cove_counter *counter = (void *)(image + counter_entry->object);
    DAMAGE(mutex->word, mutex->word | 1);
    DAMAGE(mutex->word, mutex->word | 4000);
    DAMAGE(mutex_entry->size_bytes, mutex_entry->size_bytes + 64);
    DAMAGE(mutex_entry->type_id, COVEI_TYPE_RWLOCK);
    DAMAGE(rwlock->word, rwlock->word | 2);
    DAMAGE(rwlock->word, rwlock->word | COVEI_LOCK_FAIR);
    DAMAGE(rwlock->reserved, 1);
    DAMAGE(event->reserved, 1);
    DAMAGE(barrier->word, barrier->word + (UINT64_C(1) << 32)); /* one has come */
    DAMAGE(barrier->word, barrier->word + (UINT64_C(2) << 32));
    DAMAGE(barrier->parties, COVE_BARRIER_MAX + 1);
    DAMAGE(once->word, once->word | 1);
    DAMAGE(once->done, 2);
    DAMAGE(counter->lines, 1);
    DAMAGE(counter->lines, 65);
    DAMAGE(counter_entry->size_bytes, counter_entry->size_bytes - 64);
}

static int work(const char *directory)
{
    struct cove_segment parts = {0};
    snprintf(path, sizeof path, "%s/%s.cove", directory, segment_name);
    if (in_child(make_segment) != 0 || !read_image()) {
        printf("the sound segment could not be made\n");
        return 2;
    }
    int status = sees(0, image, 8);
    if (status != SEEN_SOUND) {
        printf("the undamaged segment is not found sound (%d): %s\n", status, sight);
        return 1;
    }
    parts.base = image;
    parts.header = (void *)image;
    parts.max_members = parts.header->max_members;
    parts.max_lanes = parts.header->max_lanes;
    covei_segment_locate(&parts);
    damage_header(&parts);
    damage_roster(&parts);
    damage_heap();
    damage_directory();
    damage_stream();
    damage_sync();
    printf("%d fields damaged, %d not found\n", tried, missed);
    free(image);
    return missed != 0;
}

int main(void)
{
    return scratch_run(work);
}
