/* ops_region.c - the kill table's scenarios of raw regions, of nameless memory, and of clearing up debris.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A region's state is a name and what it leads to, so every instruction is a point, those around system calls first.
 * Verdicts: the name leads to nothing or to a whole region; a replaced one holds all of the old bytes or all of the
 * new ones; nothing else is in the directory once cove_gc, or the next to replace, was there; of System V memory
 * nothing stays behind. What was acknowledged is so. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "stage.h"

#include "stepper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REGION_BYTES = 20000, OLD_SEED = 1, NEW_SEED = 2, ASKED_MODE = 0640, REGION_KEY = 1 };

#define NEXT_OPENER_NS INT64_C(100000000) /* within this the next opener must have it */

static unsigned char old_bytes[REGION_BYTES], new_bytes[REGION_BYTES];

/* In the harness, before it forks anybody: not to be stepped. */
__attribute__((constructor)) static void make_bytes(void)
{
    fill_pattern(old_bytes, sizeof old_bytes, OLD_SEED);
    fill_pattern(new_bytes, sizeof new_bytes, NEW_SEED);
}

static void region_path(char *path, size_t size_bytes)
{
    snprintf(path, size_bytes, "%s/bytes", cove_directory());
}

static const char *region_name(const struct stage *stage)
{
    static char name[300];
    char path[256];
    region_path(path, sizeof path);
    if (stage->scenario->backend == ON_SYSV)
        snprintf(name, sizeof name, "sysv:0x%x", place_key(REGION_KEY));
    else if (stage->scenario->backend == ON_FILE)
        snprintf(name, sizeof name, "file:%s", path);
    else
        snprintf(name, sizeof name, "posix:/bytes");
    return name;
}

static cove_region *region_of(struct stage *stage)
{
    return stage->extra;
}

static void close_region(struct stage *stage)
{
    (void)cove_region_close(region_of(stage));
    stage->extra = NULL;
}

/* 1: it is there; 0: not. Anything else is a finding. */
static int look(struct stage *stage, struct cove_region_info *info)
{
    int got = cove_region_look(region_name(stage), info);
    must(stage, got == 0 || got == -ENOENT, "looking at the region");
    return got == 0;
}

static void remove_region(struct stage *stage)
{
    struct cove_region_info info;
    must(stage, cove_region_unlink(region_name(stage), 0) == 0, "removing the region");
    if (look(stage, &info))
        finding(stage, VERDICT_LEAKED, "the region is there after it was removed");
}

/* Which of the two is all of it: OLD_SEED, NEW_SEED; 0: all zero bytes; -1: a mixture. */
static int contents(const void *memory)
{
    static const unsigned char zeros[REGION_BYTES];
    if (memcmp(memory, zeros, sizeof zeros) == 0)
        return 0;
    if (memcmp(memory, old_bytes, sizeof old_bytes) == 0)
        return OLD_SEED;
    return memcmp(memory, new_bytes, sizeof new_bytes) == 0 ? NEW_SEED : -1;
}

/* Opens what is there, to look at its bytes. -2: nothing is there. */
static int read_region(struct stage *stage)
{
    cove_region *region = NULL;
    struct cove_region_options options = {.flags = COVE_READONLY};
    int64_t began_ns = stepper_now_ns();
    int got = cove_region_open(&region, region_name(stage), &options);
    if (got == -ENOENT || !must(stage, got == 0, "opening the region"))
        return -2;
    if (stage->role == ROLE_PROBE && stepper_now_ns() - began_ns > NEXT_OPENER_NS)
        finding(stage, VERDICT_HANG, "opening the region took too long");
    int found = -1;
    if (cove_region_size(region) != REGION_BYTES)
        finding(stage, VERDICT_CORRUPT, "a region of %llu bytes, not of %d",
                (unsigned long long)cove_region_size(region), REGION_BYTES);
    else if ((found = contents(cove_region_data(region))) < 0)
        finding(stage, VERDICT_CORRUPT, "its bytes are neither all the old ones nor all the new ones");
    (void)cove_region_close(region);
    return found;
}

/* ---- making --------------------------------------------------------------------------------------------------- */

static int open_or_make(struct stage *stage, const char *name, uint32_t flags)
{
    cove_region *region = NULL;
    struct cove_region_options options = {.flags = flags, .size_bytes = REGION_BYTES, .mode = ASKED_MODE};
    int got = cove_region_open(&region, name, &options);
    stage->extra = region;
    return got;
}

static void operate_make(struct stage *stage)
{
    must(stage, open_or_make(stage, region_name(stage), COVE_EXCLUSIVE) == COVE_CREATED, "making a region");
    acknowledge(stage, 1);
}

static void sleep_make(struct stage *stage)
{
    int got = open_or_make(stage, region_name(stage), 0);
    stage->ledger->result[ROLE_SLEEPER] = got;
    if (must(stage, got >= 0, "opening or making it") && contents(cove_region_data(region_of(stage))) != 0)
        finding(stage, VERDICT_CORRUPT, "a new region's bytes are not zero");
}

static void sleep_make_after(struct stage *stage)
{
    if (stage->ledger->acknowledged && stage->ledger->result[ROLE_SLEEPER] == COVE_CREATED)
        finding(stage, VERDICT_LOST, "the region whose making was acknowledged had to be made again");
    close_region(stage);
}

static void verify_made(struct stage *stage)
{
    struct cove_region_info info;
    int there = look(stage, &info);
    if (!there && (stage->ledger->acknowledged || stage->scenario->sleep != NULL))
        finding(stage, VERDICT_LOST, "a region that was made is gone");
    if (there && info.mode != ASKED_MODE)
        finding(stage, VERDICT_CORRUPT, "its rights are 0%o, not 0%o", info.mode, ASKED_MODE);
    if (there && read_region(stage) != 0)
        finding(stage, VERDICT_CORRUPT, "a new region's bytes are not zero");
    if (there)
        remove_region(stage);
}

/* ---- one name for huge pages and normal ones ------------------------------------------------------------------ */

#define CHOICE_NAME "hugetry:choice"

static void operate_choose(struct stage *stage)
{
    must(stage, open_or_make(stage, CHOICE_NAME, 0) == COVE_CREATED, "making a region in what pages there are");
    acknowledge(stage, 1);
}

static void sleep_choose(struct stage *stage)
{
    int64_t began_ns = stepper_now_ns();
    must(stage, open_or_make(stage, CHOICE_NAME, 0) >= 0, "opening or making it");
    if (stepper_now_ns() - began_ns > PATIENCE_NS)
        finding(stage, VERDICT_HANG, "who chooses next waits for a dead one");
}

static void close_choice(struct stage *stage)
{
    close_region(stage);
}

/* What one of them chose is what everybody gets; the lock of the choice is debris at most. */
static void verify_choice(struct stage *stage)
{
    int64_t began_ns = stepper_now_ns();
    int got = open_or_make(stage, CHOICE_NAME, 0);
    must(stage, got >= 0, "opening or making it");
    if (got == COVE_CREATED)
        finding(stage, VERDICT_LOST, "a region that was made is gone");
    if (stepper_now_ns() - began_ns > NEXT_OPENER_NS)
        finding(stage, VERDICT_HANG, "who chooses next waits for a dead one");
    close_region(stage);
    must(stage, cove_region_unlink(CHOICE_NAME, 0) == 0, "removing it");
    must(stage, cove_gc(0, NULL, NULL) >= 0, "cove_gc");
}

/* ---- replacing ------------------------------------------------------------------------------------------------ */

static void prepare_old(struct stage *stage)
{
    struct cove_region_options options = {.mode = ASKED_MODE};
    must(stage, cove_region_replace(region_name(stage), old_bytes, sizeof old_bytes, &options) == COVE_CREATED,
         "preparing the old bytes");
}

static void operate_replace(struct stage *stage)
{
    must(stage, cove_region_replace(region_name(stage), new_bytes, sizeof new_bytes, NULL) >= 0, "replacing");
    acknowledge(stage, 1);
}

static void sleep_read(struct stage *stage)
{
    (void)read_region(stage);
}

/* Who replaces next clears the debris; in the directory of names cove_gc does too, and either must do alone. */
static void verify_replaced(struct stage *stage)
{
    struct cove_region_info info = {0};
    int had_old = stage->scenario->prepare != NULL, there = look(stage, &info);
    int found = there ? read_region(stage) : -2;
    if (stage->ledger->acknowledged && found != NEW_SEED)
        finding(stage, VERDICT_LOST, "the acknowledged bytes are not there");
    if (found == 0 || (had_old && !there))
        finding(stage, VERDICT_LOST, "the old bytes are gone, and the new ones not there");
    if (had_old && there && info.mode != ASKED_MODE)
        finding(stage, VERDICT_CORRUPT, "its rights are 0%o, not those of what it replaced", info.mode);
    if (stage->scenario->backend == ON_FILE)
        must(stage, cove_region_replace(region_name(stage), old_bytes, sizeof old_bytes, NULL) >= 0, "replacing again");
    else
        must(stage, cove_gc(0, NULL, NULL) >= 0, "cove_gc");
    if (look(stage, &info))
        remove_region(stage);
}

/* ---- removing, rights ----------------------------------------------------------------------------------------- */

static void prepare_made(struct stage *stage)
{
    must(stage, open_or_make(stage, region_name(stage), COVE_EXCLUSIVE) == COVE_CREATED, "preparing a region");
    memcpy(cove_region_data(region_of(stage)), old_bytes, sizeof old_bytes);
    close_region(stage);
}

static void operate_remove(struct stage *stage)
{
    must(stage, cove_region_unlink(region_name(stage), 0) == 0, "removing");
    acknowledge(stage, 1);
}

static void verify_removed(struct stage *stage)
{
    struct cove_region_info info;
    int there = look(stage, &info);
    if (there && stage->ledger->acknowledged)
        finding(stage, VERDICT_CORRUPT, "a removed region is there");
    if (there && read_region(stage) != OLD_SEED)
        finding(stage, VERDICT_CORRUPT, "a region that is half removed does not hold its bytes");
    if (there)
        remove_region(stage);
}

enum { OTHER_MODE = 0604 };

static void operate_rights(struct stage *stage)
{
    must(stage, cove_region_set_rights(region_name(stage), OTHER_MODE, NULL) == 0, "changing its rights");
    acknowledge(stage, 1);
}

static void verify_rights(struct stage *stage)
{
    struct cove_region_info info = {0};
    if (!look(stage, &info))
        finding(stage, VERDICT_LOST, "the region is gone");
    if (info.mode != OTHER_MODE && (info.mode != ASKED_MODE || stage->ledger->acknowledged))
        finding(stage, VERDICT_CORRUPT, "its rights are 0%o", info.mode);
    remove_region(stage);
}

/* Of a System V segment they stand in two places: the memory, and the side file, which has its members' locks. */
static void operate_segment_rights(struct stage *stage)
{
    must(stage, cove_region_set_rights(stage_name(stage), OTHER_MODE, NULL) == 0, "changing the segment's rights");
    acknowledge(stage, 1);
}

static void verify_segment_rights(struct stage *stage)
{
    char path[300];
    struct stat side = {0};
    struct cove_region_info info = {0};
    place_path(ON_SYSV, cove_directory(), path, sizeof path);
    must(stage, cove_region_look(stage_name(stage), &info) == 0 && stat(path, &side) == 0, "looking at both");
    int good = (side.st_mode & 0777) == OTHER_MODE && info.mode == OTHER_MODE;
    if (stage->ledger->acknowledged && !good)
        finding(stage, VERDICT_LOST, "the memory has rights 0%o, its side file 0%o", info.mode, side.st_mode & 0777);
    must(stage, cove_region_set_rights(stage_name(stage), 0600, NULL) == 0, "changing them again");
}

/* ---- nameless memory ------------------------------------------------------------------------------------------ */

static void operate_nameless_region(struct stage *stage)
{
    must(stage, open_or_make(stage, "memfd:", 0) == COVE_CREATED, "making nameless memory");
    int fd = cove_region_fd(region_of(stage));
    must(stage, fd >= 0, "its descriptor");
    close(fd);
    acknowledge(stage, 1);
}

static void operate_nameless_segment(struct stage *stage)
{
    static const struct cove_options small = {.size_bytes = 16 * 1024, .max_size_bytes = 1 << 20, .max_members = 8};
    must(stage, cove_open(&stage->segment, "memfd:", &small) == COVE_CREATED, "making a nameless segment");
    int fd = cove_segment_fd(stage->segment);
    must(stage, fd >= 0, "its descriptor");
    close(fd);
    acknowledge(stage, 1);
}

/* It has gone with its maker: there is nothing that could lead to it. */
static void verify_nothing(struct stage *stage)
{
    const char *debris = debris_left(stage);
    if (debris != NULL)
        finding(stage, VERDICT_LEAKED, "nameless memory left %s", debris);
}

/* The segment of everybody, by a descriptor that was opened beforehand. */
static int inherited;

static void prepare_descriptor(struct stage *stage)
{
    char path[300];
    place_path(ON_POSIX, cove_directory(), path, sizeof path);
    inherited = open(path, O_RDWR | O_CLOEXEC);
    must(stage, inherited >= 0, "opening the file");
}

static void operate_attach(struct stage *stage)
{
    char name[32];
    snprintf(name, sizeof name, "fd:%d", inherited);
    must(stage, cove_open(&stage->segment, name, NULL) == 0, "attaching to a descriptor");
    must(stage, cove_alloc(stage->segment, 300) != 0, "alloc");
    acknowledge(stage, 1);
}

static void close_descriptor(struct stage *stage)
{
    (void)stage;
    close(inherited);
}

/* ---- clearing up ---------------------------------------------------------------------------------------------- */

enum { ORPHAN_KEY = 2, LAST_OUT_KEY = 3 };

static void leave_file(struct stage *stage, const char *name)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", cove_directory(), name);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    must(stage, fd >= 0, "leaving a file");
    close(fd);
}

/* A process that makes a segment and ends without closing it. */
static void die_as_member(struct stage *stage, const char *name, enum cove_lifetime lifetime)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct stage child = {.scenario = stage->scenario, .ledger = stage->ledger, .role = ROLE_VICTIM};
        struct cove_options options = {.size_bytes = 16 * 1024, .max_members = 8, .lifetime = (uint32_t)lifetime};
        must(&child, cove_open(&child.segment, name, &options) == COVE_CREATED, "preparing a dead member");
        _exit(0);
    }
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
}

static const char *key_name(unsigned which)
{
    static char name[32];
    snprintf(name, sizeof name, "sysv:0x%x", place_key(which));
    return name;
}

/* Files of builders that died, and a segment that went with its last member. */
static void prepare_debris(struct stage *stage)
{
    leave_file(stage, ".cove-new-1-1-0");
    leave_file(stage, ".cove-new-choice-x");
    die_as_member(stage, "gone", COVE_LAST_OUT);
}

static void operate_clear(struct stage *stage)
{
    must(stage, cove_gc(0, NULL, NULL) >= 3, "cove_gc");
    acknowledge(stage, 1);
}

/* A side file whose memory somebody removed by hand. */
static void prepare_orphan(struct stage *stage)
{
    die_as_member(stage, key_name(ORPHAN_KEY), COVE_KEEP);
    shmctl(shmget((key_t)place_key(ORPHAN_KEY), 0, 0), IPC_RMID, NULL);
}

static void prepare_last_out(struct stage *stage)
{
    die_as_member(stage, key_name(LAST_OUT_KEY), COVE_LAST_OUT);
}

static void operate_clear_one(struct stage *stage)
{
    must(stage, cove_gc(0, NULL, NULL) >= 1, "cove_gc");
    acknowledge(stage, 1);
}

static void verify_cleared(struct stage *stage)
{
    const char *debris = debris_left(stage);
    if (stage->ledger->acknowledged && debris != NULL)
        finding(stage, VERDICT_LEAKED, "cove_gc left %s", debris);
    must(stage, cove_gc(0, NULL, NULL) >= 0, "cove_gc again");
    if ((debris = debris_left(stage)) != NULL)
        finding(stage, VERDICT_LEAKED, "a second cove_gc left %s", debris);
}

/* ---- the table ------------------------------------------------------------------------------------------------ */

#define BYTES .traits = EVERY_POINT | BY_CALLS | NO_IMAGE | ALONE | PROBE_OPENS
#define MADE BYTES, .operate = operate_make, .after = close_region, .verify = verify_made
#define MADE_RACING MADE, .sleep = sleep_make, .sleep_after = sleep_make_after
#define REPLACED BYTES, .operate = operate_replace, .sleep = sleep_read, .verify = verify_replaced
#define REMOVED BYTES, .prepare = prepare_made, .operate = operate_remove, .sleep = sleep_read, .verify = verify_removed
#define RIGHTS BYTES, .prepare = prepare_made, .operate = operate_rights, .verify = verify_rights

const struct scenario ops_region[] = {
    {.name = "region made, nobody else", MADE, .least = 4900, .most = 37000},
    {.name = "region made, another opens", MADE_RACING, .least = 4900, .most = 37000},
    {.name = "file: region made, another opens", .backend = ON_FILE, MADE_RACING, .least = 5400, .most = 40000},
    {.name = "sysv: region made, nobody else", .backend = ON_SYSV, MADE, .least = 4000, .most = 92000},
    {.name = "sysv: region made, another opens", .backend = ON_SYSV, MADE_RACING, .least = 4000, .most = 92000},
    {.name = "hugetry: region made, another chooses",
     BYTES,
     .least = 14000,
     .most = 100000,
     .operate = operate_choose,
     .after = close_choice,
     .sleep = sleep_choose,
     .sleep_after = close_choice,
     .verify = verify_choice},
    {.name = "region made by replacing nothing", REPLACED, .least = 5100, .most = 38000},
    {.name = "region replaced", REPLACED, .prepare = prepare_old, .least = 5200, .most = 39000},
    {.name = "file: region replaced",
     .backend = ON_FILE,
     REPLACED,
     .prepare = prepare_old,
     .least = 5900,
     .most = 44000},
    {.name = "region removed", REMOVED, .least = 1800, .most = 13000},
    {.name = "sysv: region removed", .backend = ON_SYSV, REMOVED, .least = 1300, .most = 29000},
    {.name = "region's rights changed", RIGHTS, .least = 1700, .most = 13000},
    {.name = "sysv: region's rights changed", .backend = ON_SYSV, RIGHTS, .least = 1300, .most = 29000},
    {.name = "sysv: segment's rights changed",
     .backend = ON_SYSV,
     .traits = EVERY_POINT | BY_CALLS,
     .least = 2000,
     .most = 46000,
     .operate = operate_segment_rights,
     .verify = verify_segment_rights},
    {.name = "memfd: region made",
     BYTES,
     .least = 3300,
     .most = 25000,
     .operate = operate_nameless_region,
     .after = close_region,
     .verify = verify_nothing},
    {.name = "memfd: segment made",
     BYTES,
     .least = 9800,
     .most = 74000,
     .operate = operate_nameless_segment,
     .verify = verify_nothing},
    {.name = "fd: attached to",
     .traits = EVERY_POINT | BY_CALLS | VICTIM_OPENS,
     .least = 11000,
     .most = 86000,
     .prepare = prepare_descriptor,
     .operate = operate_attach,
     .after = close_descriptor},
    {.name = "gc over debris",
     BYTES,
     .least = 20000,
     .most = 200000,
     .prepare = prepare_debris,
     .operate = operate_clear,
     .verify = verify_cleared},
    {.name = "gc over a side file without memory",
     BYTES,
     .least = 5000,
     .most = 200000,
     .prepare = prepare_orphan,
     .operate = operate_clear_one,
     .verify = verify_cleared},
    {.name = "gc over a dead LAST_OUT of System V",
     BYTES,
     .least = 5000,
     .most = 200000,
     .prepare = prepare_last_out,
     .operate = operate_clear_one,
     .verify = verify_cleared},
    {0},
};
