/* directory.c - the directory of named objects.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Layout: directory_shm.h. Everything happens under the directory's lock. Making an object is a transaction: its two
 * blocks are taken, its memory filled, its entry linked; a kill at any point undoes all of it or nothing. So is
 * removing.
 *
 * I1  An entry is in the chain of its hash, once; its name and hash agree; its object is a block of at least its
 *     size.
 * I2  object_count is the number of entries.
 * I3  The feature bit of a type is set in the header before the first object of it can be found.
 *
 * Order of locks: users' locks | directory | heap. Objects are not made inside users' transactions: the directory
 * would stay locked until their end. */
#include "object/directory.h"

#include "region/name.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static uint64_t *chain_of(const struct cove_segment *segment, uint64_t hash)
{
    return &covei_directory(segment)->chains[hash % COVEI_DIRECTORY_CHAINS];
}

static struct covei_entry_shm *entry_at(const struct cove_segment *segment, uint64_t at)
{
    if (at % 16 != 0 || at < segment->heap_at || !covei_inside(segment, at, sizeof(struct covei_entry_shm)))
        return NULL;
    return covei_address(segment, at);
}

/* More than fit into what the segment has: the bound of every walk, which does not come out of the segment's own
 * counts. */
static uint64_t most_entries(const struct cove_segment *segment)
{
    uint64_t heap_end = covei_heap(segment)->end; /* looks again where the segment has grown */
    (void)covei_inside(segment, segment->heap_at, heap_end > segment->heap_at ? heap_end - segment->heap_at : 0);
    return atomic_load_explicit(&segment->known_size, memory_order_relaxed) / sizeof(struct covei_entry_shm);
}

/* The field that names the entry of that name, or the end of its chain (*field == 0). NULL: the chain is broken. */
static uint64_t *find_link(const struct cove_segment *segment, const char *name, uint64_t hash)
{
    uint64_t *link = chain_of(segment, hash);
    uint64_t most = most_entries(segment);
    size_t length = strlen(name);
    for (uint64_t i = 0; *link != 0; i++) {
        struct covei_entry_shm *entry = entry_at(segment, *link);
        if (!entry || i > most)
            return NULL;
        if (entry->hash == hash && entry->name_length == length && length < sizeof entry->name &&
            memcmp(entry->name, name, length) == 0)
            return link;
        link = &entry->next;
    }
    return link;
}

static int broken(const struct cove_segment *segment)
{
    return covei_error(COVE_ECORRUPT, "%s: its directory contradicts itself; cove doctor %s tells more", segment->name,
                       segment->name);
}

/* ---- opening */

static int wrong_type(const struct cove_segment *segment, const struct covei_object_wish *wish,
                      const struct covei_entry_shm *entry)
{
    const struct covei_type *type = covei_type_find(entry->type_id);
    bool user = entry->type_id == COVEI_TYPE_USER;
    return covei_error(COVE_ETYPE,
                       "%s/%s: it is a %.31s (version %" PRIu32 ", %" PRIu64 " bytes), not a %s (version %" PRIu32
                       ", %" PRIu64 " bytes); open it as what it is, or choose another name",
                       segment->name, wish->name,
                       user   ? entry->type_name
                       : type ? type->name
                              : "thing of unknown type",
                       entry->version, entry->size_bytes, *wish->type_name ? wish->type_name : wish->type->name,
                       wish->version, wish->size_bytes);
}

/* The entry is there: is it what was asked for, and believable? */
static int open_entry(const struct cove_segment *segment, const struct covei_object_wish *wish,
                      const struct covei_entry_shm *entry, struct covei_object *object)
{
    if (wish->flags & COVE_EXCLUSIVE)
        return covei_error(-EEXIST, "%s/%s: it exists already", segment->name, wish->name);
    uint64_t at = entry->object, size = entry->size_bytes;
    bool same = entry->type_id == wish->type->id && entry->version == wish->version;
    if (same && entry->type_id == COVEI_TYPE_USER)
        same = size == wish->size_bytes && strncmp(entry->type_name, wish->type_name, sizeof entry->type_name) == 0;
    if (!same)
        return wrong_type(segment, wish, entry);
    if (at % wish->type->alignment != 0 || at < segment->heap_at || !covei_inside(segment, at, size) ||
        (wish->type->sound && !wish->type->sound(segment, covei_address(segment, at), size)))
        return covei_error(COVE_ECORRUPT, "%s/%s: its memory contradicts itself; cove doctor %s tells more",
                           segment->name, wish->name, segment->name);
    object->memory = covei_address(segment, at);
    object->size_bytes = size;
    return 0;
}

static void fill_entry(struct covei_entry_shm *entry, const struct covei_object_wish *wish, uint64_t hash,
                       uint64_t object, uint64_t next)
{
    memset(entry, 0, sizeof *entry);
    entry->next = next;
    entry->hash = hash;
    entry->object = object;
    entry->size_bytes = wish->size_bytes;
    entry->type_id = wish->type->id;
    entry->version = wish->version;
    entry->name_length = (uint32_t)strlen(wish->name);
    memcpy(entry->type_name, wish->type_name, strnlen(wish->type_name, sizeof entry->type_name - 1));
    memcpy(entry->name, wish->name, strnlen(wish->name, sizeof entry->name - 1));
}

/* Inside a transaction that holds the directory's lock. */
static int make_entry(struct covei_lane *lane, const struct covei_object_wish *wish, uint64_t *link, uint64_t hash,
                      struct covei_object *object)
{
    struct cove_segment *segment = lane->segment;
    struct covei_directory_shm *directory = covei_directory(segment);
    uint64_t entry_offset = 0, memory = 0;
    int result = covei_alloc(lane, COVEI_ALLOC_PLAIN, sizeof(struct covei_entry_shm), 16, NULL, &entry_offset);
    if (result == 0)
        result = covei_alloc(lane, COVEI_ALLOC_PLAIN, wish->size_bytes, wish->type->alignment, NULL, &memory);
    if (result == 0)
        result = covei_save(lane, link, sizeof *link);
    if (result == 0)
        result = covei_save(lane, &directory->object_count, sizeof directory->object_count);
    if (result < 0)
        return result;
    memset(covei_address(segment, memory), 0, (size_t)wish->size_bytes);
    if (wish->type->format)
        wish->type->format(segment, covei_address(segment, memory), wish->size_bytes, wish->parameters);
    fill_entry(covei_address(segment, entry_offset), wish, hash, memory, 0);
    /* release, I3: who finds the object finds the bit set. */
    atomic_fetch_or_explicit(&segment->header->features, UINT64_C(1) << wish->type->id, memory_order_release);
    *link = entry_offset;
    directory->object_count++;
    object->memory = covei_address(segment, memory);
    object->size_bytes = wish->size_bytes;
    return COVE_CREATED;
}

static int make_or_open(struct covei_lane *lane, const struct covei_object_wish *wish, struct covei_object *object)
{
    struct cove_segment *segment = lane->segment;
    uint64_t hash = covei_hash(wish->name, strlen(wish->name));
    uint64_t *link = find_link(segment, wish->name, hash);
    if (!link)
        return broken(segment);
    if (*link != 0)
        return open_entry(segment, wish, covei_address(segment, *link), object);
    if (wish->flags & COVE_EXISTING)
        return covei_error(-ENOENT, "%s/%s: there is no such object", segment->name, wish->name);
    if (lane->depth > 1)
        return covei_error(-EBUSY, "%s/%s: an object cannot be made inside a transaction; open it before cove_begin",
                           segment->name, wish->name);
    return make_entry(lane, wish, link, hash, object);
}

/* Where the user has no transaction, the work is one; where there is one, only what exists can be opened, which
 * changes nothing. */
int covei_object_open(struct covei_lane *lane, const struct covei_object_wish *wish, struct covei_object *object)
{
    struct covei_directory_shm *directory = covei_directory(lane->segment);
    int result = covei_name_check_object(wish->name);
    if (result < 0)
        return result;
    result = covei_begin(lane);
    if (result < 0)
        return result;
    result = covei_lock_take(lane, &directory->lock, COVE_FOREVER);
    if (result >= 0) {
        result = make_or_open(lane, wish, object);
        int taken = result >= 0 && wish->take ? wish->take(object, wish->context) : 0;
        result = taken < 0 ? taken : result;
        if (lane->depth > 1)
            covei_lock_drop(lane, &directory->lock); /* nothing was changed under it */
    }
    if (result >= 0)
        (void)covei_commit(lane); /* done, whether or not all could be settled: the next to begin does the rest */
    else if (lane->depth > 1)
        (void)covei_commit(lane); /* one level up; the user's transaction goes on */
    else
        (void)covei_abort(lane);
    return result;
}

int cove_object_open(void **out, cove_segment *segment, const char *name, const struct cove_type *type, uint32_t flags)
{
    struct covei_lane *lane = NULL;
    int result = covei_lane_get(&lane, segment);
    if (result < 0)
        return result;
    if (!out || !type || !type->name || !*type->name || strlen(type->name) > 31 || type->size_bytes == 0 ||
        (flags & ~(COVE_EXISTING | COVE_EXCLUSIVE)) != 0)
        return covei_error(
            -EINVAL, "%s: a type wants a name of 1 to 31 bytes and a size; flags are COVE_EXISTING or COVE_EXCLUSIVE",
            segment->name);
    struct covei_object_wish wish = {.name = name,
                                     .type = &covei_type_user,
                                     .type_name = type->name,
                                     .version = type->version,
                                     .size_bytes = type->size_bytes,
                                     .flags = flags};
    struct covei_object object;
    result = covei_object_open(lane, &wish, &object);
    if (result >= 0)
        *out = object.memory;
    covei_recover_debts(lane);
    return result;
}

/* ---- removing */

/* Whoever opens an object takes his part of it under the directory's lock, so that what is unused here stays unused
 * until it is gone. */
static int refuse_in_use(struct cove_segment *segment, const char *name, const struct covei_entry_shm *entry)
{
    const struct covei_type *type = covei_type_find(entry->type_id);
    struct cove_member_info member;
    if (!type || !type->in_use || entry->object % type->alignment != 0 || entry->object < segment->heap_at ||
        !covei_inside(segment, entry->object, entry->size_bytes) ||
        (type->sound && !type->sound(segment, covei_address(segment, entry->object), entry->size_bytes)) ||
        !type->in_use(segment, covei_address(segment, entry->object), entry->size_bytes, &member))
        return 0;
    return covei_error(-EBUSY, "%s/%s: %s (pid %" PRId32 ") uses it; have it let go there first", segment->name, name,
                       member.command, member.pid);
}

/* Inside a transaction that holds the directory's lock. */
static int remove_entry(struct covei_lane *lane, const char *name)
{
    struct cove_segment *segment = lane->segment;
    struct covei_directory_shm *directory = covei_directory(segment);
    uint64_t *link = find_link(segment, name, covei_hash(name, strlen(name)));
    if (!link)
        return broken(segment);
    if (*link == 0)
        return covei_error(-ENOENT, "%s/%s: there is no such object", segment->name, name);
    uint64_t entry_offset = *link;
    const struct covei_entry_shm *entry = covei_address(segment, entry_offset);
    uint64_t memory = entry->object;
    int result = refuse_in_use(segment, name, entry);
    if (result == 0)
        result = covei_save(lane, link, sizeof *link);
    if (result == 0)
        result = covei_save(lane, &directory->object_count, sizeof directory->object_count);
    if (result == 0)
        result = covei_free(lane, memory, NULL);
    if (result == 0)
        result = covei_free(lane, entry_offset, NULL);
    if (result < 0)
        return result;
    *link = entry->next;
    directory->object_count--;
    return 0;
}

int cove_object_remove(cove_segment *segment, const char *name)
{
    struct covei_lane *lane = NULL;
    int result = covei_lane_get(&lane, segment);
    if (result == 0)
        result = covei_name_check_object(name);
    if (result < 0)
        return result;
    if (lane->depth > 0)
        return covei_error(-EBUSY, "%s/%s: an object cannot be removed inside a transaction; commit first",
                           segment->name, name);
    result = covei_begin(lane);
    if (result < 0)
        return result;
    result = covei_lock_take(lane, &covei_directory(segment)->lock, COVE_FOREVER);
    if (result >= 0)
        result = remove_entry(lane, name);
    int ended = result < 0 ? covei_abort(lane) : covei_commit(lane);
    covei_recover_debts(lane);
    return result < 0 ? result : ended;
}

/* ---- looking at all */

bool covei_directory_each(const struct cove_segment *segment, covei_object_visit *visit, void *context)
{
    const struct covei_directory_shm *directory = covei_directory(segment);
    uint64_t most = most_entries(segment), count = 0;
    for (uint32_t chain = 0; chain < COVEI_DIRECTORY_CHAINS; chain++)
        for (uint64_t at = directory->chains[chain]; at != 0; count++) {
            const struct covei_entry_shm *shared = entry_at(segment, at);
            if (!shared || count > most)
                return false;
            struct covei_entry_shm entry = *shared;
            if (entry.hash % COVEI_DIRECTORY_CHAINS != chain)
                return false;
            entry.name[sizeof entry.name - 1] = entry.type_name[sizeof entry.type_name - 1] = '\0';
            const struct covei_type *type = covei_type_find(entry.type_id);
            bool inside = entry.object >= segment->heap_at && (!type || entry.object % type->alignment == 0) &&
                          covei_inside(segment, entry.object, entry.size_bytes);
            visit(&entry, inside ? covei_address(segment, entry.object) : NULL, context);
            at = entry.next;
        }
    return true;
}

struct settle {
    struct cove_segment *segment;
    uint32_t row, generation;
};

static void settle_one(const struct covei_entry_shm *entry, void *memory, void *context)
{
    const struct settle *settle = context;
    const struct covei_type *type = covei_type_find(entry->type_id);
    if (memory && type && type->recover && (!type->sound || type->sound(settle->segment, memory, entry->size_bytes)))
        type->recover(settle->segment, memory, entry->size_bytes, settle->row, settle->generation);
}

/* A worker that is making an object, and recovers somebody because memory is short, has the lock already; the chains
 * are whole then, as links change after the last allocation. */
int covei_settle_objects(struct covei_lane *worker, uint32_t row, uint32_t generation)
{
    struct settle settle = {worker->segment, row, generation};
    struct covei_directory_shm *directory = covei_directory(worker->segment);
    bool has_lock = covei_lock_place(worker->shm, covei_offset(worker->segment, &directory->lock)) < COVEI_LANE_LOCKS;
    int result = has_lock ? 0 : covei_lock_take(worker, &directory->lock, worker->patience_ns);
    if (result < 0)
        return result;
    (void)covei_directory_each(worker->segment, settle_one, &settle);
    if (!has_lock)
        covei_lock_drop(worker, &directory->lock);
    return 0;
}

/* ---- the gate of durable segments */

struct quiet {
    const struct cove_segment *segment;
    bool busy;
};

static void look_at_one(const struct covei_entry_shm *entry, void *memory, void *context)
{
    struct quiet *quiet = context;
    const struct covei_type *type = covei_type_find(entry->type_id);
    if (memory && type && type->busy && (!type->sound || type->sound(quiet->segment, memory, entry->size_bytes)))
        quiet->busy = quiet->busy || type->busy(quiet->segment, memory);
}

int covei_objects_quiet(struct covei_lane *worker, int64_t patience_ns)
{
    struct quiet quiet = {worker->segment, false};
    struct covei_directory_shm *directory = covei_directory(worker->segment);
    int result = covei_lock_take(worker, &directory->lock, patience_ns);
    if (result < 0)
        return result;
    (void)covei_directory_each(worker->segment, look_at_one, &quiet);
    covei_lock_drop(worker, &directory->lock);
    return !quiet.busy;
}

/* ---- check */

struct check {
    const struct cove_segment *segment;
    struct covei_findings *findings;
    uint64_t count;
};

static void check_one(const struct covei_entry_shm *entry, void *memory, void *context)
{
    struct check *check = context;
    const struct covei_type *type = covei_type_find(entry->type_id);
    check->count++;
    if (entry->name_length >= sizeof entry->name || strlen(entry->name) != entry->name_length ||
        covei_hash(entry->name, strlen(entry->name)) != entry->hash)
        covei_found(check->findings, "directory: an entry's name and hash do not agree");
    else if (!type)
        covei_found(check->findings, "directory: %s is of the unknown type %" PRIu32, entry->name, entry->type_id);
    else if (!memory || covei_block_size(check->segment, entry->object, NULL) < entry->size_bytes ||
             entry->size_bytes == 0)
        covei_found(check->findings, "directory: %s has no memory of its own", entry->name);
    else if (!(atomic_load_explicit(&check->segment->header->features, memory_order_acquire) >> entry->type_id & 1))
        covei_found(check->findings, "directory: %s is a %s, but the header does not say that there are any",
                    entry->name, type->name);
    else if (type->sound && !type->sound(check->segment, memory, entry->size_bytes))
        covei_found(check->findings, "%s: its fixed fields are impossible", entry->name);
    else if (type->check)
        type->check(check->segment, entry->name, memory, entry->size_bytes, check->findings);
}

void covei_directory_check(const struct cove_segment *segment, struct covei_findings *findings)
{
    struct check check = {segment, findings, 0};
    if (!covei_directory_each(segment, check_one, &check))
        covei_found(findings, "directory: a chain leads astray or runs in a circle");
    else if (check.count != covei_directory(segment)->object_count)
        covei_found(findings, "directory: it says %" PRIu64 " objects, there are %" PRIu64,
                    covei_directory(segment)->object_count, check.count);
}
