/* machine_setup.h - a machine that is short of something: small file systems, limits, forbidden system calls, places
 * that refuse.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Mounts are made in a mount namespace of the test's own, limits and filters in a process of the test's own, so
 * nothing of them can be left. What the machine does not allow ends the test as skipped, with the reason. */
#ifndef MACHINE_SETUP_H
#define MACHINE_SETUP_H

#include "unit.h"

#include <sys/syscall.h>

#define MACHINE_PAGE UINT64_C(4096)
#define MACHINE_KIB ((size_t)1 << 10)
#define MACHINE_MIB ((size_t)1 << 20)

/* ---- machine_setup.c: places */

/* From here on this process and its children have mounts of their own. In the test's first process, which is skipped
 * where that is forbidden; an ordinary user gets it by a user namespace, where he may have those. */
void machine_own_mounts(void);

/* A tmpfs of that many bytes over COVE_DIR; `more` are further mount options ("" for none, ",ro" ...). */
void machine_mount(size_t size_bytes, const char *more);
void machine_unmount(void); /* what was mounted last; its files go with it */

uint64_t machine_free_pages(void); /* of the file system at COVE_DIR */
void machine_expect_pages(uint64_t free_pages); /* so many are free, at once or in a moment */
/* Fill it (a file named `filler`), so that exactly so many pages are free; more are free than that now. */
void machine_leave_pages(uint64_t free_pages);
void machine_make_room(void); /* the filler goes */
int machine_files(void); /* how many there are in COVE_DIR, the filler apart */

/* The last error is that of a full file system: says how many bytes are needed and how many are free, which is less.
 */
void machine_expect_full(const char *what);

/* ---- machine_setup.c: the command */

bool machine_has_command(void); /* COVE_COMMAND says where it is */
/* Run `cove` with the words of `line`, in this process's environment. Its output, both kinds, is appended to
 * `output`. Returns its exit status; dying of a signal fails the test. */
int machine_command(const char *line, char *output, size_t output_bytes);

/* ---- machine_each.c: an operation with nothing free, with one page or descriptor free, with two ... */

#define MACHINE_ROOM_BYTES (8 * MACHINE_MIB)

struct machine_operation {
    const char *name;
    void (*prepare)(void); /* with room */
    int64_t (*run)(void); /* with exactly so many pages free; what it gets it writes to */
    void (*settle)(int64_t result); /* right after it, still without room: what stands, and what does not */
    void (*clear)(void); /* with room: what prepare and run made */
    bool gives_all_back; /* on failure the file system is as it was before */
    unsigned least, most; /* it refuses with 0 .. n - 1 pages free, and n lies between these */
};

/* In a tmpfs of this test's own. A refusal is -ENOSPC with its figures and leaves nothing; with room the operation
 * works; and it works with every number of pages that is larger than one that was enough. */
void machine_at_each_page(const struct machine_operation *operation);

struct machine_call {
    const char *name;
    void (*prepare)(void);
    int64_t (*run)(void);
    void (*clear)(void); /* looks at what prepare and run made, and takes it away */
    int least, most; /* descriptors that it needs */
};

/* With no descriptor left, one, two ... A refusal is -EMFILE, says "ulimit -n" and leaves none open. */
void machine_with_each_number(const struct machine_call *call);

/* Set a soft limit of this process; UINT64_MAX: as high as it may be. */
void machine_limit(int which, uint64_t value);

/* ---- machine_filter.c: system calls that a sandbox forbids */

/* A call, or one use of it: where `argument` is not MACHINE_ANY, only where that argument has all the bits `bits`;
 * where `exactly`, only where it has that value. */
#define MACHINE_ANY (-1)
struct machine_forbidden {
    const char *name;
    long number;
    int argument;
    uint32_t bits;
    bool exactly;
    const char *sentence; /* part of what is said to that; NULL: everything goes on */
};

#ifdef SYS_fcntl64 /* 32 bit */
#define MACHINE_FCNTL SYS_fcntl64
#else
#define MACHINE_FCNTL SYS_fcntl
#endif

/* Skip the test where there are no filters. */
void machine_skip_without_filters(void);
/* From now on the kernel answers that call of this process, and of its children, with `error`. */
void machine_forbid(const struct machine_forbidden *what, int error);

/* ---- machine_work.c: everyday work, in one sentence each time it goes wrong */

/* What several processes do together: create, open, lock, wait for a lock, write and read a stream, grow, be killed
 * while holding a lock, be recovered, look, clear up, remove. All must be good: a failed assertion says what was
 * not. */
void machine_work(void);

/* The same without other processes and without waiting for any. */
void machine_work_alone(void);

#endif
