/* os_linux_map.c - mappings on Linux, and what becomes of an access to mapped bytes that are not there.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * SIGBUS comes from a store or load beyond the end of a mapped file, which another process may have truncated. The
 * handler is set when somebody asks for it. It asks `ours` about the address; what is not ours goes to the handler
 * that the process had, just as if we were not there: called with the same arguments, and a default action is put
 * back and met by the same access again. A handler that the process sets later takes ours away; whoever asks again
 * (fault_guard is cheap to repeat) puts ours before it. Should that one then call ours, as what was there before it,
 * the circle is seen and ends in the default action: what we pass on is marked in the siginfo itself, which the
 * system makes anew for each signal. (A mark anywhere else would outlive a handler that leaves by siglongjmp.) */
#include "os/os_linux.h"

#include <errno.h>
#include <sched.h>
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

#define PASSED_ON 0x436f7665 /* in si_errno, which the system leaves 0 for this signal */

static _Atomic int32_t writer; /* the process that writes what follows; 0: none. A child inherits its parent's */
static struct sigaction before[2]; /* two, so that a handler that runs never sees one half written */
static _Atomic bool spent[2]; /* it was for once (SA_RESETHAND), and it was called */
static _Atomic int before_now; /* which of them counts; release and acquire: it is whole */
static bool (*_Atomic asked)(void *address);

static void default_action(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_DFL;
    (void)sigaction(SIGBUS, &action, NULL); /* the access is made again, or the signal was sent: see below */
}

static void pass_on(int number, siginfo_t *info, void *context)
{
    int now = atomic_load_explicit(&before_now, memory_order_acquire);
    struct sigaction *next = &before[now];
    bool is_default = !(next->sa_flags & SA_SIGINFO) && next->sa_handler == SIG_DFL;
    bool is_ignored = !(next->sa_flags & SA_SIGINFO) && next->sa_handler == SIG_IGN;
    bool sent = info->si_code <= 0; /* by kill or sigqueue: no access will bring it again */
    if (is_ignored && sent)
        return;
    /* The system does not let a fault be ignored either. relaxed: one of two threads gets it, whichever. */
    if (is_default || is_ignored || info->si_errno == PASSED_ON ||
        ((unsigned)next->sa_flags & SA_RESETHAND &&
         atomic_exchange_explicit(&spent[now], true, memory_order_relaxed))) {
        default_action();
        if (sent)
            (void)raise(number);
        return;
    }
    info->si_errno = PASSED_ON;
    if (next->sa_flags & SA_SIGINFO)
        next->sa_sigaction(number, info, context);
    else
        next->sa_handler(number);
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    int saved = errno;
    bool (*ours)(void *address) = atomic_load_explicit(&asked, memory_order_acquire);
    if (info->si_code <= 0 || !ours(info->si_addr))
        pass_on(number, info, context);
    errno = saved;
}

static bool is_ours(const struct sigaction *action)
{
    return action->sa_flags & SA_SIGINFO && action->sa_sigaction == on_fault;
}

static int put_before(const struct sigaction *current)
{
    int next = !atomic_load_explicit(&before_now, memory_order_relaxed);
    before[next] = *current;
    atomic_store_explicit(&spent[next], false, memory_order_relaxed);
    atomic_store_explicit(&before_now, next, memory_order_release);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    /* What the process's own handler would have had: its mask, its stack. */
    action.sa_mask = current->sa_mask;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | (current->sa_flags & (SA_NODEFER | SA_RESTART));
    return sigaction(SIGBUS, &action, NULL) < 0 ? -errno : 0;
}

/* Not a mutex: a child that was forked while a thread of its parent had it would wait for ever. */
static void become_writer(void)
{
    int32_t self = (int32_t)getpid(), other = 0;
    while (!atomic_compare_exchange_weak_explicit(&writer, &other, self, memory_order_acquire, memory_order_relaxed)) {
        if (other == self) {
            (void)sched_yield();
            other = 0;
        }
    }
}

int covei_linux_fault_guard(bool (*ours)(void *address))
{
    struct sigaction current;
    int result = 0;
    if (sigaction(SIGBUS, NULL, &current) < 0)
        return -errno;
    if (is_ours(&current) && atomic_load_explicit(&asked, memory_order_acquire) == ours)
        return 0;
    become_writer();
    atomic_store_explicit(&asked, ours, memory_order_release);
    if (sigaction(SIGBUS, NULL, &current) < 0)
        result = -errno;
    else if (!is_ours(&current))
        result = put_before(&current);
    atomic_store_explicit(&writer, 0, memory_order_release);
    return result;
}
