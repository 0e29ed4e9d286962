/* machine.h - all shared memory of this machine, whoever made it: what is there, who uses it, and removing it.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * What the kernel keeps is gathered into one list of objects, each under the name by which the command knows it:
 *
 *     robot  posix:/cam  file:/var/app.cove  memfd:cove  huge:robot       memory (file: and memfd: while mapped)
 *     sysv:0x5eed  sysv:id=12                                             System V memory; by id where the key is 0
 *     sem:/door  sysvsem:0x7  sysvsem:id=3                                semaphores, and sets of them
 *     mq:/jobs   sysvmsg:0x7  sysvmsg:id=3                                queues of messages
 *
 * "posix:/x" is a file of the directory of names ($COVE_DIR, or /dev/shm), as the library has it. Where that is not
 * /dev/shm, what lies there is listed as "file:/dev/shm/x".
 *
 * In a name that is printed, bytes that a terminal must not get, and '\', stand as \xHH; names that are given are
 * read likewise. Everything may come and go while it is looked at: what has gone is left out. */
#ifndef COVE_TOOLS_MACHINE_H
#define COVE_TOOLS_MACHINE_H

#include "cli.h"

#define MACHINE_SHM "/dev/shm" /* where libc has the files of shm_open and sem_open, whatever $COVE_DIR says */
#define MACHINE_SYSV_DEVICE UINT64_MAX /* stands for the device of System V memory, whose inodes are ids */

enum machine_kind {
    MACHINE_SEGMENT, /* Cove's */
    MACHINE_REGION, /* bytes without a structure of ours */
    MACHINE_SEMAPHORE, /* of sem_open */
    MACHINE_SEMAPHORES, /* a set, of semget */
    MACHINE_QUEUE, /* of mq_open or msgget */
};

enum machine_backend {
    MACHINE_POSIX,
    MACHINE_FILE,
    MACHINE_MEMFD,
    MACHINE_HUGE,
    MACHINE_SYSV_SHM,
    MACHINE_SYSV_SEM,
    MACHINE_SYSV_MSG,
    MACHINE_MQUEUE,
};

/* Does a living process use it? UNUSED has a proof. What nobody can prove is UNKNOWN, with the reason in `why`. */
enum machine_use { MACHINE_UNKNOWN, MACHINE_UNUSED, MACHINE_USED };

/* A process that has it mapped or open, or (System V queues and semaphore sets) was the last to use it and lives. */
struct machine_user {
    int32_t pid;
    uint32_t uid;
    char state; /* as in /proc/PID/stat; 'T': stopped */
    char command[32]; /* as it calls itself: any bytes */
};

/* What only some kinds have; the others' are 0. */
struct machine_figures {
    bool known; /* they could be read */
    uint64_t messages, message_bytes; /* queues: waiting in it */
    uint64_t most_messages, most_bytes; /* what it holds at most; POSIX: bytes of one message, System V: of all */
    uint64_t value, waiting, count; /* semaphores: value, processes that wait, number in the set */
    uint64_t attached; /* System V memory: attachments, not processes */
    int32_t creator_pid, last_pid; /* System V memory */
    int32_t sender_pid, receiver_pid; /* System V queues: the last ones */
    uint64_t attached_s, detached_s, operated_s, sent_s, received_s, changed_s; /* wall clock; 0: never */
    uint32_t creator_uid, creator_gid; /* System V */
};

struct machine_object {
    enum machine_kind kind;
    enum machine_backend backend;
    enum machine_use use;
    char *name;
    char *path; /* of its file; NULL: none */
    char *reach; /* /proc/PID/... by which nameless memory can be opened; NULL */
    uint64_t device, inode; /* of its file; 0: it has none. System V memory: as above */
    int32_t system_id; /* System V; else -1 */
    uint32_t key;
    uint64_t size_bytes, resident_bytes;
    uint32_t mode, owner_uid, owner_gid;
    bool is_removed; /* its name is gone, it goes with its users */
    bool is_candidate; /* found as a mapping of some process: is it Cove's? */
    int broken; /* why a segment cannot be looked at: COVE_E..., -EACCES; 0 */
    struct cove_segment_info *segment; /* of Cove's; NULL where it is broken */
    struct machine_figures figures;
    struct machine_user *users;
    size_t user_count;
    char why[120];
};

/* How much of the machine's processes this one can see. */
struct machine_sight {
    bool hidden; /* there may be processes that /proc does not list */
    unsigned denied; /* processes that /proc lists and does not let us look at */
    char sentence[120]; /* what limits our sight; "" where nothing does */
};

struct machine_list {
    struct machine_object *objects;
    size_t count, room;
    struct machine_sight sight;
    int queues; /* descriptor of the directory of POSIX queues; -1 */
    char queues_unseen[200]; /* POSIX queues cannot be listed: why, and what to do; "" */
};

/* flags */
#define MACHINE_ASK 0x1u /* ask the kernel with a lease where /proc proves nothing (machine_use.c) */
#define MACHINE_FILES 0x2u /* also files and nameless memory that processes share and that are none of Cove's */

/* ---- machine.c ---- */

/* All there is, in order of kinds and names. Returns 0 or an error. Free the list in any case. */
int machine_list(struct machine_list *list, unsigned flags);

/* What has that name (nameless memory may be several). Returns 0, -ENOENT or another error. */
int machine_look(struct machine_list *list, const char *name, unsigned flags);
void machine_free(struct machine_list *list);

/* Say why machine_look failed, and ask about a name that is nearly the same. Returns the exit status. */
int machine_failed(const char *name, const struct machine_list *list, int result);

/* A new object at the end of the list, `name` escaped and copied. NULL: no memory. */
struct machine_object *machine_add(struct machine_list *list, enum machine_kind kind, enum machine_backend backend,
                                   const char *name);
void machine_drop(struct machine_list *list, struct machine_object *object); /* take it out again */
int machine_add_user(struct machine_object *object, const struct machine_user *user); /* unless it is there */
const char *machine_kind_name(enum machine_kind kind); /* "segment" */
const char *machine_backend_name(enum machine_backend backend); /* "posix" */

/* ---- machine_name.c ---- */

char *machine_escape(const char *raw); /* to be freed; NULL: no memory */
void machine_unescape(char *name); /* in place */
bool machine_is_plain(const char *name); /* letters, digits, '.', '_', '-', as a segment's plain name holds */

/* Is it a name that only this command knows, of what the library cannot open ("sem:/x")? */
bool machine_is_foreign(const char *name);

/* "sysv:", "sysvsem:", "sysvmsg:" followed by a key, PATH:ID or id=N. Returns false where it is none of these. */
bool machine_name_sysv(const char *name, enum machine_backend *backend, bool *by_id, uint32_t *number);

/* ---- machine_file.c: what has a file. Each returns 0 or an error, which it has said ---- */

int machine_add_plain(struct machine_list *list); /* segments and regions of plain names */
int machine_add_posix(struct machine_list *list); /* other files beside them, and of /dev/shm: posix:/x, sem:/x */
int machine_add_huge(struct machine_list *list); /* of file systems of huge pages */

/* One file under a name that is given. Returns 0, -ENOENT, or COVE_ENOTCOVE: a directory, a link ..., no memory. */
int machine_add_file(struct machine_list *list, enum machine_kind kind, enum machine_backend backend, const char *name,
                     const char *path);

/* It claims to be Cove's: look at it by the name `raw`. */
void machine_inspect_segment(struct machine_object *object, const char *raw);

/* Which of the mapped things are Cove's? The others go, unless flags say otherwise. */
void machine_inspect_candidates(struct machine_list *list, unsigned flags);

/* ---- machine_sysv.c ---- */

int machine_add_sysv(struct machine_list *list);
int machine_remove_sysv(const struct machine_object *object); /* 0 or a negated errno */

/* ---- machine_mqueue.c ---- */

int machine_add_mqueue(struct machine_list *list);

/* ---- machine_proc.c: who uses it ---- */

/* Look through all processes. Notes the users of the listed objects; adds as candidates what processes share of other
 * files, and of nameless memory. Returns 0 or an error. */
int machine_find_users(struct machine_list *list);

/* Does process `pid` live, and did it before `before_s` (wall clock, 0: whenever)? Fills in `user`. */
bool machine_process_lives(int32_t pid, uint64_t before_s, struct machine_user *user);

/* ---- machine_use.c ---- */

void machine_decide_use(struct machine_list *list, unsigned flags);

/* "python3 (812) and 2 more": who uses it, for a sentence. */
char *machine_users_text(char text[200], const struct machine_object *object);

/* ---- machine_show.c ---- */

void machine_row(struct cli_table *table, const struct machine_object *object, bool exact_sizes);
void machine_print(const struct machine_object *object); /* all that is known, for people */
void machine_print_json(const struct machine_object *object); /* one line */

#endif
