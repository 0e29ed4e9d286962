/* unlink.c - removing segments, and clearing up after the dead.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Removing: under the life-cycle byte (exclusive), mark the header REMOVED, then take the name away, if it still
 * leads to the file that was looked at. Crash between the two: whoever opens the name next finishes (open.c).
 *
 * cove_gc touches only files of its own user, takes their names from the directory and never from shared bytes, and
 * removes only what has nobody: LAST_OUT segments without living members, and files that a builder died over. */
#include "segment/build.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Refuse what living members use. Looks through a read-only handle of its own. */
static int check_unused(const char *name)
{
    struct cove_segment *segment = NULL;
    int result = cove_open(&segment, name, &(struct cove_options){.flags = COVE_READONLY | COVE_ANY_OWNER});
    if (result < 0)
        return result;
    struct cove_member_info member = {0};
    uint32_t others = covei_roster_others(segment);
    for (uint32_t row = 0; others > 0 && row < segment->max_members && !member.alive; row++)
        if (covei_row_used(atomic_load_explicit(&segment->states[row], memory_order_acquire)))
            covei_row_describe(segment, row, &member);
    (void)cove_close(segment);
    if (others > 0)
        return covei_error(-EBUSY,
                           "%s: in use by %" PRIu32 " living member%s (%s, pid %" PRId32
                           "); close it there, or remove it "
                           "by force: they keep what they have",
                           name, others, others > 1 ? "s" : "", member.command, member.pid);
    return 0;
}

/* Under the life-cycle byte, exclusively. */
static int unlink_locked(const struct covei_region *region, const struct covei_place *place, int force)
{
    struct covei_header_shm header;
    if (!region->backend->leads_to(region, place))
        return covei_error(-ENOENT, "%s: somebody else removed it", place->name);
    int result = covei_header_read(region, place->name, &header);
    if (result < 0 && !force)
        return result;
    if (result < 0) { /* a broken segment that the user wants gone: nothing in it is believed, or written */
        covei_durable_forget(place);
        return region->backend->remove(region, place);
    }
    result = force ? 0 : check_unused(place->name);
    return result < 0 ? result : covei_remove_name(region, place);
}

static int unlink_place(void *force, const struct covei_place *place)
{
    struct covei_region region;
    int result = covei_region_find(&region, place, *(int *)force ? COVE_ANY_OWNER : 0);
    if (result == COVE_ENOTCOVE && *(int *)force && covei_can(covei_backend_of(place), COVE_CAN_HIDE)) {
        region = (struct covei_region){.backend = covei_backend_of(place), .file = -1, .system_id = -1};
        /* something in the file's place, or a file of the wrong kind */
        return region.backend->remove(&region, place);
    }
    if (result < 0)
        return result;
    result = covei_life_cycle_lock(region.file, place->name, true, covei_wait_begin(COVEI_LIFE_CYCLE_NS));
    if (result == 0)
        result = unlink_locked(&region, place, *(int *)force);
    covei_life_cycle_unlock(region.file); /* a child forked meanwhile may have a copy of the descriptor */
    covei_region_close(&region);
    return result;
}

int cove_unlink(const char *name, int force)
{
    struct covei_place place;
    int result = covei_place_parse(&place, name, false);
    if (result == 0)
        result = covei_process_prepare();
    if (result < 0)
        return result;
    if (place.backend == COVEI_HUGETRY)
        return covei_choose(&place, covei_wait_begin(COVEI_LIFE_CYCLE_NS), unlink_place, &force, false);
    if (!covei_can(covei_backend_of(&place), COVE_CAN_NAME))
        return covei_error(-EOPNOTSUPP,
                           "%s: nameless memory has no name to remove; it goes with its last descriptor and "
                           "mapping",
                           name);
    return unlink_place(&force, &place);
}

/* ---- all segments of the directory */

struct each {
    int (*visit)(const char *name, void *context);
    void *context;
};

static int visit_file(const char *file, void *context)
{
    const struct each *each = context;
    char name[COVEI_NAME_MAX + 1];
    uint32_t key = 0;
    if (covei_name_of_side_file(&key, file)) {
        (void)snprintf(name, sizeof name, "sysv:0x%08" PRIx32, key);
        return each->visit(name, each->context);
    }
    return covei_name_of_file(name, file) ? each->visit(name, each->context) : 0;
}

static int visit_huge(const char *file, void *context)
{
    const struct each *each = context;
    char name[COVEI_NAME_MAX + 1], full[COVEI_NAME_MAX + 6];
    if (!covei_name_of_file(name, file))
        return 0;
    (void)snprintf(full, sizeof full, "huge:%s", name);
    return each->visit(full, each->context);
}

/* Each file of the directory; -errno with a sentence where it cannot be read. */
static int each_file(int (*visit)(const char *file, void *context), void *context)
{
    int result = covei_os->directory_each(cove_directory(), visit, context);
    if (result == -EMFILE || result == -ENFILE)
        return covei_error(result, "%s: no descriptor left to read the directory; raise ulimit -n", cove_directory());
    if (result < 0 && result > -4096)
        return covei_error(result, "%s: the directory of segments cannot be read: %s; mend its rights, or set COVE_DIR",
                           cove_directory(), cove_strerror(result));
    return result;
}

int cove_segments(int (*visit)(const char *name, void *context), void *context)
{
    if (!visit)
        return covei_error(-EINVAL, "there is nothing to call with each name");
    struct each each = {visit, context};
    char huge[COVEI_PATH_MAX];
    int result = each_file(visit_file, &each);
    if (result != 0)
        return result;
    if (covei_os->huge_directory(huge, sizeof huge) == 0)
        result = covei_os->directory_each(huge, visit_huge, &each);
    return result < 0 && result > -4096 ? 0 : result; /* a mount that we may not list has nothing of ours */
}

/* ---- gc */

struct gc {
    int dry_run;
    cove_gc_report *report;
    void *context;
    int64_t count;
};

static void tell(struct gc *gc, const char *name, const char *sentence)
{
    gc->count++;
    if (gc->report)
        gc->report(name, sentence, gc->context);
}

static uint32_t count_dead(const struct cove_segment *segment)
{
    uint32_t dead = 0;
    for (uint32_t row = 0; row < segment->max_members; row++)
        dead += covei_row_dead(segment, row);
    return dead;
}

static void recover_segment(struct gc *gc, const char *name, uint32_t dead, bool going)
{
    char sentence[160];
    struct cove_segment *segment = NULL;
    if (!gc->dry_run) {
        int result = cove_open(&segment, name, &(struct cove_options){.flags = COVE_EXISTING});
        if (result < 0 && !(result == -ENOENT && going)) /* opening it removed it */
            return;
        if (result >= 0)
            (void)covei_recover_all(segment, COVEI_PATIENCE_NS);
        (void)cove_close(segment);
    }
    if (dead > 0) {
        (void)snprintf(sentence, sizeof sentence, "%s %" PRIu32 " dead member%s",
                       gc->dry_run ? "would recover" : "recovered", dead, dead > 1 ? "s" : "");
        tell(gc, name, sentence);
    }
    if (going)
        tell(gc, name,
             gc->dry_run ? "would remove it: last-out, and no member is left"
                         : "removed: last-out, and no member was left");
}

static int gc_segment(const char *name, void *context)
{
    struct gc *gc = context;
    struct cove_segment *segment = NULL;
    int result = cove_open(&segment, name, &(struct cove_options){.flags = COVE_READONLY});
    if (result == -EMFILE || result == -ENFILE || result == -ENOMEM)
        return result; /* it is we who cannot look */
    if (result < 0)
        return 0; /* another's, or no segment: not ours to clear up */
    uint32_t dead = count_dead(segment);
    uint32_t state = atomic_load_explicit(&segment->header->state, memory_order_acquire);
    bool going = segment->header->lifetime == COVE_LAST_OUT && covei_roster_others(segment) == 0;
    (void)cove_close(segment);
    struct covei_place place;
    if (state == COVEI_SEGMENT_REMOVED && covei_place_parse(&place, name, false) == 0) {
        if (gc->dry_run || covei_finish_removal(&place, covei_wait_begin(COVEI_LIFE_CYCLE_NS)) == 0)
            tell(gc, name, gc->dry_run ? "would finish its removal" : "finished its removal");
    } else if (dead > 0 || going)
        recover_segment(gc, name, dead, going);
    return 0;
}

static int gc_debris(const char *file_name, void *context)
{
    struct gc *gc = context;
    if (covei_debris_clear_one(cove_directory(), file_name, gc->dry_run))
        tell(gc, file_name, gc->dry_run ? "would remove it: its creator died" : "removed: its creator died");
    else if (covei_sysv_clear_side(file_name, gc->dry_run))
        tell(gc, file_name,
             gc->dry_run ? "would remove it: its System V segment is gone" : "removed: its System V segment is gone");
    return 0;
}

int64_t cove_gc(int dry_run, cove_gc_report *report, void *context)
{
    int result = covei_process_prepare();
    if (result < 0)
        return result;
    struct gc gc = {.dry_run = dry_run, .report = report, .context = context};
    result = cove_segments(gc_segment, &gc);
    if (result == 0)
        result = each_file(gc_debris, &gc);
    return result < 0 ? result : gc.count;
}
