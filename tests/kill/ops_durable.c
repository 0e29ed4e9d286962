/* ops_durable.c - the kill table's scenarios of segments that outlive the machine: copy, gate, clean mark.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Who copies a segment holds a gate at which all others wait, and waits himself until nobody is in the middle of
 * anything. So there are three kinds of scenarios: the copier dies, and who waits at the gate must go on; somebody
 * dies in the middle, and the copier must go on; somebody dies at the gate. After each of them the copy beside the
 * file is opened as a segment of its own: it must be sound, of one moment, and hold what was acknowledged before.
 *
 * A power cut is played by changing the file that a trial begins with: its header names another run of the system,
 * and is marked clean or not. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "stage.h"

#include "segment/segment_shm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { AMOUNT = 100, PIECE = 300, PART = 200, BLOCK_BYTES = 200, WORDS_BYTES = 600 };

static const struct cove_type late_type = {"late", 1, 0, 64};

/* ---- the copy ------------------------------------------------------------------------------------------------- */

static int copy_file(const char *from, const char *to)
{
    unsigned char bytes[65536];
    ssize_t got = 0;
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int good = in >= 0 && out >= 0;
    while (good && (got = read(in, bytes, sizeof bytes)) > 0)
        good = write(out, bytes, (size_t)got) == got;
    good = good && got == 0;
    close(in);
    close(out);
    return good;
}

/* Opens a copy of the copy as a segment of its own, which nobody is in, and checks it. Returns alice's cents. */
static int64_t look_at_copy(struct stage *stage)
{
    char path[320], name[330];
    struct stage copy = {.scenario = stage->scenario, .ledger = stage->ledger, .role = stage->role};
    struct cove_segment_info info;
    snprintf(path, sizeof path, "%s.looked-at", copy_path());
    snprintf(name, sizeof name, "file:%s", path);
    if (!must(stage, copy_file(copy_path(), path), "copying the copy"))
        return -1;
    stage_open_at(&copy, name);
    must(stage, cove_recover(copy.segment) >= 0, "recovering in the copy");
    if (must(stage, cove_segment_stat(copy.segment, &info) == 0, "stat") &&
        (info.members_dead != 0 || info.members_alive != 1))
        finding(stage, VERDICT_CORRUPT, "the copy has %u living and %u dead members", info.members_alive,
                info.members_dead);
    stage_check(&copy);
    int64_t alice = copy.alice->cents, sum = alice + copy.bob->cents;
    if (sum != 2 * START_CENTS)
        finding(stage, VERDICT_CORRUPT, "alice and bob have %lld cents together in the copy", (long long)sum);
    must(stage, cove_mutex_lock(copy.segment, &copy.alice->lock, COVE_NOWAIT) >= 0, "a lock in the copy");
    must(stage, cove_mutex_unlock(copy.segment, &copy.alice->lock) == 0, "its unlock");
    stage_close(&copy);
    must(stage, cove_unlink(name, 0) == 0, "removing the copy's copy");
    return alice;
}

static void build_copy(struct stage *stage)
{
    must(stage, cove_sync(stage->segment, PATIENCE_NS) == 0, "building: a copy");
}

/* ---- what is done inside -------------------------------------------------------------------------------------- */

static void transfer(struct stage *stage, int64_t amount)
{
    int good = cove_begin(stage->segment) == 0 &&
               cove_mutex_lock(stage->segment, &stage->alice->lock, PATIENCE_NS) >= 0 &&
               cove_mutex_lock(stage->segment, &stage->bob->lock, PATIENCE_NS) >= 0 &&
               cove_save(stage->segment, &stage->alice->cents, sizeof amount) == 0 &&
               cove_save(stage->segment, &stage->bob->cents, sizeof amount) == 0;
    if (!must(stage, good, "a transfer"))
        return;
    stage->alice->cents -= amount;
    stage->bob->cents += amount;
    must(stage, cove_commit(stage->segment) == 0, "its commit");
}

static void make_even(struct stage *stage)
{
    transfer(stage, stage->alice->cents - START_CENTS);
}

static void operate_transfer(struct stage *stage)
{
    transfer(stage, AMOUNT);
    acknowledge(stage, 1);
}

static void verify_transfer(struct stage *stage)
{
    int64_t alice = stage->alice->cents;
    if (alice != START_CENTS - AMOUNT && (alice != START_CENTS || stage->ledger->acknowledged))
        finding(stage, VERDICT_LOST, "alice has %lld cents", (long long)alice);
    make_even(stage);
}

static void operate_lock(struct stage *stage)
{
    must(stage, cove_mutex_lock(stage->segment, &stage->alice->lock, PATIENCE_NS) >= 0, "lock");
    acknowledge(stage, 1);
}

static void after_lock(struct stage *stage)
{
    must(stage, cove_mutex_unlock(stage->segment, &stage->alice->lock) == 0, "unlock");
}

static void operate_alloc_into(struct stage *stage)
{
    must(stage, cove_alloc_into(stage->segment, &stage->root->slot[0], BLOCK_BYTES) == 0, "alloc_into");
    acknowledge(stage, 1);
}

static void verify_alloc_into(struct stage *stage)
{
    cove_ref *slot = &stage->root->slot[0];
    if (*slot == 0 && stage->ledger->acknowledged)
        finding(stage, VERDICT_LOST, "the linked block is gone");
    if (*slot != 0)
        must(stage, cove_free_from(stage->segment, slot) == 0, "freeing it");
}

/* Its frees are done after the commit, when no lock of the user's is held any more. */
static void operate_exchange(struct stage *stage)
{
    int good = cove_begin(stage->segment) == 0 &&
               cove_mutex_lock(stage->segment, &stage->root->lock, PATIENCE_NS) >= 0 &&
               cove_free_from(stage->segment, &stage->root->slot[1]) == 0 &&
               cove_alloc_into(stage->segment, &stage->root->slot[1], WORDS_BYTES) == 0;
    must(stage, good && cove_commit(stage->segment) == 0, "exchanging a block");
    acknowledge(stage, 1);
}

static void build_block(struct stage *stage)
{
    must(stage, cove_alloc_into(stage->segment, &stage->root->slot[1], BLOCK_BYTES) == 0, "building: a block");
}

static void verify_exchange(struct stage *stage)
{
    cove_ref *slot = &stage->root->slot[1];
    size_t usable = cove_usable_size(stage->segment, *slot);
    if (usable < (stage->ledger->acknowledged ? WORDS_BYTES : BLOCK_BYTES))
        finding(stage, VERDICT_LOST, "the block has %zu bytes", usable);
    must(stage, cove_free_from(stage->segment, slot) == 0, "freeing it");
    build_block(stage);
}

static void operate_create(struct stage *stage)
{
    void *memory = NULL;
    must(stage, cove_object_open(&memory, stage->segment, "late", &late_type, 0) == COVE_CREATED, "making an object");
    acknowledge(stage, 1);
}

static void verify_create(struct stage *stage)
{
    int got = cove_object_remove(stage->segment, "late");
    must(stage, got == 0 || (got == -ENOENT && !stage->ledger->acknowledged), "removing the object");
}

/* ---- streams -------------------------------------------------------------------------------------------------- */

static cove_stream *other_end;
static unsigned char piece[PIECE];

/* In the harness, before it forks anybody. */
__attribute__((constructor)) static void make_piece(void)
{
    fill_pattern(piece, sizeof piece, 9);
}

static void prepare_stream(struct stage *stage, enum cove_end end)
{
    struct cove_stream_options options = {.flags = COVE_EXISTING | COVE_STREAM_NOSPIN};
    must(stage, cove_stream_open_in(&stage->stream, stage->segment, STREAM_NAME, end, &options) >= 0, "opening an end");
}

static void prepare_writer(struct stage *stage)
{
    prepare_stream(stage, COVE_WRITER);
}

static void prepare_reader(struct stage *stage)
{
    prepare_stream(stage, COVE_WRITER);
    other_end = stage->stream;
    must(stage, cove_stream_write(other_end, piece, sizeof piece, PATIENCE_NS) == PIECE, "writing beforehand");
    prepare_stream(stage, COVE_READER);
}

static void close_ends(struct stage *stage)
{
    must(stage, cove_stream_close(stage->stream) == 0, "closing the stream");
    if (other_end != NULL)
        must(stage, cove_stream_close(other_end) == 0, "closing its other end");
    stage->stream = other_end = NULL;
}

static void operate_write(struct stage *stage)
{
    must(stage, cove_stream_write(stage->stream, piece, sizeof piece, PATIENCE_NS) == PIECE, "write");
    acknowledge(stage, 1);
}

static void operate_reserve(struct stage *stage)
{
    void *room = NULL;
    if (must(stage, cove_stream_reserve(stage->stream, &room, PIECE, PATIENCE_NS) == 0, "reserve"))
        memcpy(room, piece, sizeof piece);
    must(stage, cove_stream_commit(stage->stream, PIECE) == 0, "commit");
    acknowledge(stage, 1);
}

static void operate_read(struct stage *stage)
{
    unsigned char bytes[PART];
    must(stage, cove_stream_read(stage->stream, bytes, sizeof bytes, PATIENCE_NS) == PART, "read");
    acknowledge(stage, 1);
}

/* How many bytes are left to be read; they must be the last of the piece. */
static int64_t read_rest(struct stage *stage)
{
    unsigned char bytes[2 * PIECE];
    int64_t count = 0, got = 0;
    prepare_stream(stage, COVE_READER);
    do {
        got = cove_stream_read(stage->stream, bytes + count, sizeof bytes - (size_t)count, COVE_NOWAIT);
        count += got > 0 ? got : 0;
    } while (got > 0 || got == COVE_EPEER);
    if (count > PIECE || memcmp(bytes, piece + PIECE - count, (size_t)count) != 0)
        finding(stage, VERDICT_CORRUPT, "%lld bytes came that are not the last ones sent", (long long)count);
    must(stage, cove_stream_close(stage->stream) == 0, "closing the stream");
    return count;
}

static void verify_written(struct stage *stage)
{
    int64_t count = read_rest(stage);
    if (count != PIECE && (count != 0 || stage->ledger->acknowledged))
        finding(stage, VERDICT_LOST, "%lld of %d bytes came", (long long)count, PIECE);
}

static void verify_read(struct stage *stage)
{
    int64_t count = read_rest(stage);
    if (count != PIECE - PART && (count != PIECE || stage->ledger->acknowledged))
        finding(stage, VERDICT_LOST, "%lld bytes are left to be read, of %d that were sent", (long long)count, PIECE);
}

/* ---- somebody copies meanwhile -------------------------------------------------------------------------------- */

static void sleep_sync(struct stage *stage)
{
    must(stage, cove_sync(stage->segment, PATIENCE_NS) == 0, "cove_sync beside somebody who dies");
}

/* What the victim was told before is in a copy that was made after its death. */
static void sleep_sync_after(struct stage *stage)
{
    (void)look_at_copy(stage);
}

static void sleep_sync_after_transfer(struct stage *stage)
{
    int64_t alice = look_at_copy(stage);
    if (alice != START_CENTS - AMOUNT)
        finding(stage, VERDICT_LOST, "alice has %lld cents in the copy that was acknowledged", (long long)alice);
}

/* ---- the copier dies ------------------------------------------------------------------------------------------ */

static void prepare_transfer(struct stage *stage)
{
    transfer(stage, AMOUNT);
}

static void operate_sync(struct stage *stage)
{
    must(stage, cove_sync(stage->segment, PATIENCE_NS) == 0, "cove_sync");
    acknowledge(stage, 1);
}

/* Waits at the gate, or finds it open. */
static void sleep_transfer(struct stage *stage)
{
    int good = cove_begin(stage->segment) == 0 &&
               cove_mutex_lock(stage->segment, &stage->carol->lock, PATIENCE_NS) >= 0 &&
               cove_save(stage->segment, &stage->carol->cents, sizeof stage->carol->cents) == 0;
    stage->carol->cents += 1;
    stage->carol->cents -= 1;
    must(stage, good && cove_commit(stage->segment) == 0, "a transaction beside a copy");
}

static void verify_copy(struct stage *stage)
{
    int64_t alice = look_at_copy(stage);
    if (alice != START_CENTS - AMOUNT && (alice != START_CENTS || stage->ledger->acknowledged))
        finding(stage, VERDICT_LOST, "alice has %lld cents in the copy", (long long)alice);
    make_even(stage);
}

/* ---- somebody dies at the gate -------------------------------------------------------------------------------- */

static void operate_lock_shut(struct stage *stage)
{
    must(stage, cove_mutex_lock(stage->segment, &stage->alice->lock, COVE_NOWAIT) < 0, "a lock behind the shut gate");
    acknowledge(stage, 1);
}

static void operate_wait_shut(struct stage *stage)
{
    int got = cove_mutex_lock(stage->segment, &stage->alice->lock, 3000000);
    must(stage, got == -ETIMEDOUT, "waiting at the shut gate");
    acknowledge(stage, 1);
}

/* Closing would wait for the one in the middle, who waits until we are gone. */
static void leave_as_the_dead(struct stage *stage)
{
    stage->segment = NULL;
}

/* ---- power cuts ----------------------------------------------------------------------------------------------- */

static void be_of_another_run(unsigned char *image, uint32_t clean)
{
    image[offsetof(struct covei_header_shm, boot_id)] ^= 0xff;
    memcpy(image + offsetof(struct covei_header_shm, clean), &clean, sizeof clean);
}

static void alter_unclean(unsigned char *image)
{
    be_of_another_run(image, 0);
}

static void alter_clean(unsigned char *image)
{
    be_of_another_run(image, 1);
}

/* What came after the copy was made goes with the machine. */
static void build_copy_and_more(struct stage *stage)
{
    build_copy(stage);
    transfer(stage, AMOUNT);
}

static void operate_put_back(struct stage *stage)
{
    int got = cove_open(&stage->segment, stage_name(stage), NULL);
    must(stage, got == COVE_RECOVERED, "opening what must be put back");
    acknowledge(stage, 1);
}

/* By the victim, or now. */
static void sleep_put_back(struct stage *stage)
{
    int got = cove_open(&stage->segment, stage_name(stage), NULL);
    if (!must(stage, got == 0 || got == COVE_RECOVERED, "opening what must be put back"))
        return;
    cove_segment *first = stage->segment;
    stage_open(stage); /* once more, for the objects in it */
    if (stage->alice->cents != START_CENTS)
        finding(stage, VERDICT_CORRUPT, "alice has %lld cents: that is not the copy", (long long)stage->alice->cents);
    must(stage, cove_close(first) == 0, "closing once");
}

static void verify_put_back(struct stage *stage)
{
    if (stage->alice->cents != START_CENTS)
        finding(stage, VERDICT_CORRUPT, "alice has %lld cents: that is not the copy", (long long)stage->alice->cents);
    if (look_at_copy(stage) != START_CENTS)
        finding(stage, VERDICT_CORRUPT, "the copy changed while it was put back");
}

static void operate_open(struct stage *stage)
{
    struct cove_options options = {.flags = COVE_EXISTING};
    must(stage, cove_open(&stage->segment, stage_name(stage), &options) == 0, "opening as the first of a run");
    acknowledge(stage, 1);
}

static void operate_close(struct stage *stage)
{
    must(stage, cove_close(stage->segment) == 0, "closing as the last");
    stage->segment = NULL;
    acknowledge(stage, 1);
}

static void use_and_free(struct stage *stage)
{
    transfer(stage, AMOUNT);
    make_even(stage);
}

/* The machine stops after the last member has gone or died: a file that says it is clean must be whole. */
static void verify_clean(struct stage *stage)
{
    char path[300];
    struct covei_header_shm header;
    place_path(ON_FILE, cove_directory(), path, sizeof path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    must(stage, pread(fd, &header, sizeof header, 0) == sizeof header, "reading the header");
    header.boot_id[0] ^= 0xff;
    must(stage, pwrite(fd, &header, sizeof header, 0) == sizeof header, "writing the header");
    close(fd);
    int clean = (int)atomic_load(&header.clean), got = cove_open(&stage->segment, stage_name(stage), NULL);
    if (stage->ledger->acknowledged && !clean)
        finding(stage, VERDICT_LOST, "closed by its last member, it is not clean");
    if (got != (clean ? 0 : COVE_EUNCLEAN))
        finding(stage, VERDICT_CORRUPT, "in the next run it is %s, and opening it gave %d",
                clean ? "clean" : "not clean", got);
    if (got == 0) {
        must(stage, cove_recover(stage->segment) >= 0, "cove_recover");
        stage_check(stage);
        stage_close(stage);
    }
    must(stage, cove_unlink(stage_name(stage), 1) == 0, "removing it");
}

/* ---- the table ------------------------------------------------------------------------------------------------ */

#define DURABLE .backend = ON_FILE, .traits = NO_MIDDLE
#define A_SYNC_WAITS DURABLE, .sleep = sleep_sync, .sleep_after = sleep_sync_after
#define AT_THE_GATE                                                                                            \
    .backend = ON_FILE, .traits = SLEEP_FIRST | MIDDLE_HOLDS, .after = leave_as_the_dead, .sleep = sleep_sync, \
    .sleep_after = sleep_sync_after

const struct scenario ops_durable[] = {
    {.name = "sync, another waits at the gate",
     DURABLE,
     .least = 5700,
     .most = 43000,
     .build = build_copy,
     .prepare = prepare_transfer,
     .operate = operate_sync,
     .sleep = sleep_transfer,
     .verify = verify_copy},
    {.name = "sync, another syncs too",
     DURABLE,
     .least = 5800,
     .most = 43000,
     .build = build_copy,
     .prepare = prepare_transfer,
     .operate = operate_sync,
     .sleep = sleep_sync,
     .sleep_after = sleep_sync_after_transfer,
     .verify = verify_copy},
    {.name = "file: transfer, a sync waits",
     A_SYNC_WAITS,
     .least = 1000,
     .most = 7700,
     .operate = operate_transfer,
     .verify = verify_transfer},
    {.name = "file: mutex lock, a sync waits",
     A_SYNC_WAITS,
     .least = 320,
     .most = 2400,
     .operate = operate_lock,
     .after = after_lock},
    {.name = "file: alloc_into, a sync waits",
     A_SYNC_WAITS,
     .least = 600,
     .most = 4500,
     .operate = operate_alloc_into,
     .verify = verify_alloc_into},
    {.name = "file: blocks exchanged, a sync waits",
     A_SYNC_WAITS,
     .least = 2000,
     .most = 15000,
     .build = build_block,
     .operate = operate_exchange,
     .verify = verify_exchange},
    {.name = "file: object created, a sync waits",
     A_SYNC_WAITS,
     .least = 2100,
     .most = 15000,
     .operate = operate_create,
     .verify = verify_create},
    {.name = "file: stream write, a sync waits",
     A_SYNC_WAITS,
     .least = 200,
     .most = 1500,
     .prepare = prepare_writer,
     .operate = operate_write,
     .after = close_ends,
     .verify = verify_written},
    {.name = "file: stream reserve, a sync waits",
     A_SYNC_WAITS,
     .least = 130,
     .most = 1000,
     .prepare = prepare_writer,
     .operate = operate_reserve,
     .after = close_ends,
     .verify = verify_written},
    {.name = "file: stream read, a sync waits",
     A_SYNC_WAITS,
     .least = 130,
     .most = 970,
     .prepare = prepare_reader,
     .operate = operate_read,
     .after = close_ends,
     .verify = verify_read},
    {.name = "file: mutex lock at the shut gate",
     AT_THE_GATE,
     .least = 1400,
     .most = 10000,
     .operate = operate_lock_shut},
    {.name = "file: mutex lock waits at the shut gate",
     AT_THE_GATE,
     .least = 2100,
     .most = 15000,
     .operate = operate_wait_shut},
    {.name = "file: put back after a power cut",
     .backend = ON_FILE,
     .traits = EVERY_POINT | ALONE | VICTIM_OPENS | SLEEPER_OPENS,
     .least = 24000,
     .most = 180000,
     .build = build_copy_and_more,
     .alter = alter_unclean,
     .operate = operate_put_back,
     .sleep = sleep_put_back,
     .verify = verify_put_back},
    {.name = "file: opened as the first of a run",
     .backend = ON_FILE,
     .traits = EVERY_POINT | ALONE | VICTIM_OPENS,
     .least = 11000,
     .most = 86000,
     .alter = alter_clean,
     .operate = operate_open},
    {.name = "file: closed as the last",
     .backend = ON_FILE,
     .traits = EVERY_POINT | ALONE | PROBE_OPENS,
     .least = 1600,
     .most = 12000,
     .prepare = use_and_free,
     .operate = operate_close,
     .verify = verify_clean},
    {0},
};
