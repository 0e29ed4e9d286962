/* os_linux_map.c - mappings on Linux, and what becomes of an access to mapped bytes that are not there.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * SIGBUS comes from a store or load beyond the end of a mapped file, which another process may have truncated. The
 * handler is set when somebody asks for it. It asks `ours` about the address; what is not ours goes to the handler
 * that the process had, just as if we were not there: called with the same arguments, and a default action is put
 * back and met by the same access again. A handler that the process sets later takes ours away; whoever asks again
 * (fault_guard is cheap to repeat) puts ours before it. Should that one then call ours, as what was there before it,
 * the circle is seen (`passing_at`) and ends in the default action. A handler may also leave by siglongjmp: so what
 * is remembered is where on the stack we passed on, which is stale as soon as the stack is shorter again. */
#include "os/os_linux.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int protection_of(enum covei_access access)
{
    return access == COVEI_ACCESS_NONE ? PROT_NONE : access == COVEI_ACCESS_READ ? PROT_READ : PROT_READ | PROT_WRITE;
}

int covei_linux_map(void **address, int file, uint64_t offset, uint64_t size_bytes, enum covei_access access,
                    bool unreserved)
{
    if (size_bytes != (size_t)size_bytes)
        return -ENOMEM;
    void *mapped = mmap(NULL, (size_t)size_bytes, protection_of(access), MAP_SHARED | (unreserved ? MAP_NORESERVE : 0),
                        file, (off_t)offset);
    if (mapped == MAP_FAILED)
        return -errno;
    *address = mapped;
    return 0;
}

void covei_linux_unmap(void *address, uint64_t size_bytes)
{
    (void)munmap(address, (size_t)size_bytes);
}

int covei_linux_map_protect(void *address, uint64_t size_bytes, enum covei_access access)
{
    return mprotect(address, (size_t)size_bytes, protection_of(access)) < 0 ? -errno : 0;
}

int covei_linux_map_sync(void *address, uint64_t size_bytes)
{
    int before = covei_linux_hold();
    int result = msync(address, (size_t)size_bytes, MS_SYNC) < 0 ? -errno : 0;
    covei_linux_restore(before);
    return result;
}

int covei_linux_map_keep_from_dumps(void *address, uint64_t size_bytes)
{
    return madvise(address, (size_t)size_bytes, MADV_DONTDUMP) < 0 ? -errno : 0;
}

int covei_linux_map_zeros(void *address, uint64_t size_bytes)
{
    void *mapped = mmap(address, (size_t)size_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    return mapped == MAP_FAILED ? -errno : 0;
}

uint64_t covei_linux_page_bytes(void)
{
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

/* ---- SIGBUS */

#define CIRCLE_BYTES 65536u /* of stack between two passings of one circle, at most */

static pthread_mutex_t guard_mutex = PTHREAD_MUTEX_INITIALIZER; /* guards the writing of what follows */
static struct sigaction before[2]; /* two, so that a handler that runs never sees one half written */
static _Atomic int before_now; /* which of them counts; release and acquire: it is whole */
static bool (*_Atomic asked)(void *address);
static _Thread_local uintptr_t passing_at __attribute__((tls_model("initial-exec"))); /* 0: nowhere */

static void default_action(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_DFL;
    (void)sigaction(SIGBUS, &action, NULL); /* the access is made again, or the signal was sent: see below */
}

static void pass_on(int number, siginfo_t *info, void *context)
{
    struct sigaction *next = &before[atomic_load_explicit(&before_now, memory_order_acquire)];
    bool is_default = !(next->sa_flags & SA_SIGINFO) && next->sa_handler == SIG_DFL;
    bool is_ignored = !(next->sa_flags & SA_SIGINFO) && next->sa_handler == SIG_IGN;
    bool sent = info->si_code <= 0; /* by kill or sigqueue: no access will bring it again */
    if (is_ignored && sent)
        return;
    uintptr_t outer = passing_at, here = (uintptr_t)&outer; /* stacks grow downwards */
    if (is_default || is_ignored ||
        (outer != 0 && here < outer &&
         outer - here < CIRCLE_BYTES)) { /* the system does not let a fault be ignored either */
        default_action();
        if (sent)
            (void)raise(number);
        return;
    }
    passing_at = here;
    if (next->sa_flags & SA_SIGINFO)
        next->sa_sigaction(number, info, context);
    else
        next->sa_handler(number);
    passing_at = outer;
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    int saved = errno;
    bool (*ours)(void *address) = atomic_load_explicit(&asked, memory_order_acquire);
    if (info->si_code <= 0 || !ours(info->si_addr))
        pass_on(number, info, context);
    errno = saved;
}

static int put_before(const struct sigaction *current)
{
    int next = !atomic_load_explicit(&before_now, memory_order_relaxed);
    before[next] = *current;
    atomic_store_explicit(&before_now, next, memory_order_release);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    /* What the process's own handler would have had: its mask, its stack. */
    action.sa_mask = current->sa_mask;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | (current->sa_flags & (SA_NODEFER | SA_RESTART));
    return sigaction(SIGBUS, &action, NULL) < 0 ? -errno : 0;
}

int covei_linux_fault_guard(bool (*ours)(void *address))
{
    struct sigaction current;
    int result = 0;
    (void)pthread_mutex_lock(&guard_mutex);
    atomic_store_explicit(&asked, ours, memory_order_release);
    if (sigaction(SIGBUS, NULL, &current) < 0)
        result = -errno;
    else if (!(current.sa_flags & SA_SIGINFO) || current.sa_sigaction != on_fault)
        result = put_before(&current);
    (void)pthread_mutex_unlock(&guard_mutex);
    return result;
}
