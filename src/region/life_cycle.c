/* life_cycle.c - the locks under which names and what they lead to agree.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Locks on bytes far beyond the end of a file, which the kernel drops when their holder dies. The life-cycle byte is
 * taken shared by who opens, exclusively by who removes (and, where a name cannot appear whole, by who makes); after
 * taking it one looks whether the name still leads to the file. */
#include "region/region.h"

#include "base/base.h"
#include "base/error.h"

#include <errno.h>
#include <stdio.h>

#define NAP_NS INT64_C(100000)

int64_t covei_wait_begin(int64_t timeout_ns)
{
    int64_t now = covei_os->now();
    return timeout_ns >= INT64_MAX - now ? INT64_MAX : now + timeout_ns;
}

int covei_life_cycle_lock(int file, const char *name, bool exclusive, int64_t deadline)
{
    int result;
    while ((result = covei_os->lock_try(file, COVEI_LIFE_CYCLE_BYTE, exclusive)) == -EAGAIN) {
        if (covei_wait_left(deadline) == 0)
            return covei_error(-ETIMEDOUT,
                               "%s: another process is opening or removing it and does not get on; look whether it is "
                               "stopped, or wait longer",
                               name);
        covei_os->nap(NAP_NS);
    }
    return result < 0
               ? covei_error(result, "%s: locking its file (F_OFD_SETLK) failed: %s%s", name, cove_strerror(result),
                             result == -ENOSYS || result == -EPERM ? "; a sandbox (seccomp) forbids it" : "")
               : 0;
}

void covei_life_cycle_unlock(int file)
{
    (void)covei_os->lock_drop(file, COVEI_LIFE_CYCLE_BYTE);
}

/* The lock file is debris like any other when its holder dies: cove_gc knows it by its name and its free byte. */
int covei_choice_lock(const struct covei_place *hugetry, char path[COVEI_PATH_MAX], int64_t deadline)
{
    int length = snprintf(path, COVEI_PATH_MAX, "%s/" COVEI_DEBRIS_PREFIX "choice-%s", cove_directory(),
                          hugetry->name + hugetry->plain);
    if (length < 0 || length >= COVEI_PATH_MAX)
        return covei_error(-ENAMETOOLONG, "%s: COVE_DIR is too long a path", hugetry->name);
    for (;;) {
        int file = covei_os->file_make(path);
        if (file >= 0)
            (void)covei_os->file_set_mode(file, 0600); /* the umask may have taken even that */
        if (file == -EEXIST)
            file = covei_os->file_open(path, COVEI_OPEN_WRITE);
        if (file < 0 && file != -ENOENT && file != -EACCES) /* its maker has not set its mode yet */
            return covei_error(file, "%s: its lock file %s cannot be opened: %s", hugetry->name, path,
                               cove_strerror(file));
        struct covei_file_stat ours, named;
        if (file >= 0 && covei_os->lock_try(file, COVEI_DEBRIS_BYTE, true) == 0 &&
            covei_os->file_stat(file, &ours) == 0 && covei_os->path_stat(path, &named) == 0 &&
            ours.inode == named.inode)
            return file;
        if (file >= 0)
            covei_os->file_close(file);
        if (covei_wait_left(deadline) == 0)
            return covei_error(-ETIMEDOUT, "%s: another process is making it and does not get on", hugetry->name);
        covei_os->nap(NAP_NS);
    }
}

void covei_choice_unlock(int file, const char *path)
{
    (void)covei_os->path_remove(path);
    covei_os->file_close(file);
}
