/* os_linux.c - the Linux port: parking, ordering, time; and the table itself.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Parking uses shared futexes: the kernel keys them by inode and offset, so each process may map the word anywhere.
 * */
#include "os/os_linux.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449 /* the same number on every architecture */
#endif

/* A port for headers older than Linux 5.16, which know nothing of futex_waitv. */
struct waitv_entry {
    uint64_t value;
    uint64_t address;
    uint32_t flags;
    uint32_t reserved;
};
#define WAITV_SIZE_U32 2u

static void *linux_wiped_page(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return NULL;
    if (madvise(page, 4096, MADV_WIPEONFORK) < 0) {
        (void)munmap(page, 4096);
        return NULL;
    }
    return page;
}

static struct timespec span(int64_t duration_ns)
{
    return (struct timespec){.tv_sec = (time_t)(duration_ns / 1000000000), .tv_nsec = (long)(duration_ns % 1000000000)};
}

/* Where the old futex call takes 32-bit times, whatever libc's time is now, the new one is used. */
#if defined(SYS_futex_time64) && __SIZEOF_LONG__ == 4
#define FUTEX_CALL SYS_futex_time64
struct kernel_time {
    int64_t seconds, nanoseconds;
};
#else
#define FUTEX_CALL SYS_futex
struct kernel_time {
    long seconds, nanoseconds;
};
#endif

static int linux_park(void *word, uint32_t expected, int64_t timeout_ns)
{
    struct timespec timeout = span(timeout_ns);
    struct kernel_time time = {timeout.tv_sec, timeout.tv_nsec};
    long result = syscall(FUTEX_CALL, word, FUTEX_WAIT, expected, &time, NULL, 0);
    return result < 0 ? -errno : 0;
}

static int64_t linux_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int linux_park_any(const struct covei_park *parks, uint32_t count, int64_t timeout_ns)
{
    struct waitv_entry waiters[COVEI_PARKS_MAX];
    for (uint32_t i = 0; i < count; i++)
        waiters[i] = (struct waitv_entry){
            .value = parks[i].expected, .address = (uintptr_t)parks[i].word, .flags = WAITV_SIZE_U32};
    int64_t until = linux_now() + timeout_ns;
    /* The kernel's type for 64-bit time, whatever libc's is. */
    struct {
        int64_t seconds, nanoseconds;
    } deadline = {until / 1000000000, until % 1000000000};
    long result = syscall(SYS_futex_waitv, waiters, count, 0u, &deadline, CLOCK_MONOTONIC);
    return result < 0 ? -errno : 0;
}

static int linux_wake(void *word, int32_t count)
{
    long result = syscall(FUTEX_CALL, word, FUTEX_WAKE, count, NULL, NULL, 0);
    return result < 0 ? -errno : (int)result;
}

static int linux_fence_register(void)
{
    return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) < 0 ? -errno : 0;
}

static int linux_fence_all(void)
{
    return syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) < 0 ? -errno : 0;
}

static uint64_t linux_wall(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void linux_nap(int64_t duration_ns)
{
    struct timespec duration = span(duration_ns);
    int before = covei_linux_hold();
    (void)nanosleep(&duration, NULL);
    covei_linux_restore(before);
}

static int linux_cpu_count(void)
{
    static _Atomic int known; /* relaxed throughout: every thread finds the same, and a hint is all that it is */
    int count = atomic_load_explicit(&known, memory_order_relaxed);
    if (count == 0) {
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        count = online > 0 ? (int)online : 1;
        atomic_store_explicit(&known, count, memory_order_relaxed);
    }
    return count;
}

static int32_t linux_thread_id(void)
{
    return (int32_t)syscall(
        SYS_gettid); /* musl's gettid says what it remembers, which is the parent's after a raw clone */
}

static void *linux_robust_list_find(void)
{
    struct robust_list_head *head = NULL;
    size_t size = 0;
    return syscall(SYS_get_robust_list, 0, &head, &size) < 0 ? NULL : head;
}

/* An entry that points to the head is the end, to libc and to the kernel. The kernel forgot the registration at the
 * fork. */
static void linux_robust_list_reset(void *list)
{
    struct robust_list_head *head = list;
    head->list.next = &head->list;
    (void)syscall(SYS_set_robust_list, head, sizeof *head);
}

static uint32_t linux_user_id(void)
{
    return geteuid();
}

const struct covei_os covei_os_native = {
    .file_open = covei_linux_file_open,
    .file_make_nameless = covei_linux_file_make_nameless,
    .file_make = covei_linux_file_make,
    .file_make_memory = covei_linux_file_make_memory,
    .file_seal = covei_linux_file_seal,
    .file_sealed = covei_linux_file_sealed,
    .file_copy = covei_linux_file_copy,
    .file_inherit = covei_linux_file_inherit,
    .file_reopen = covei_linux_file_reopen,
    .file_publish = covei_linux_file_publish,
    .file_rename_new = covei_linux_file_rename_new,
    .file_rename = covei_linux_file_rename,
    .file_stat = covei_linux_file_stat,
    .path_stat = covei_linux_path_stat,
    .path_follow = covei_linux_path_follow,
    .file_set_mode = covei_linux_file_set_mode,
    .file_set_group = covei_linux_file_set_group,
    .file_set_owner = covei_linux_file_set_owner,
    .file_reserve = covei_linux_file_reserve,
    .file_read_at = covei_linux_file_read_at,
    .file_write_at = covei_linux_file_write_at,
    .file_sync = covei_linux_file_sync,
    .directory_sync = covei_linux_directory_sync,
    .file_close = covei_linux_file_close,
    .path_remove = covei_linux_path_remove,
    .file_system = covei_linux_file_system,
    .huge_directory = covei_linux_huge_directory,
    .working_directory = covei_linux_working_directory,
    .directory_each = covei_linux_directory_each,
    .group_find = covei_linux_group_find,
    .lock_try = covei_linux_lock_try,
    .lock_drop = covei_linux_lock_drop,
    .lock_held = covei_linux_lock_held,
    .map = covei_linux_map,
    .unmap = covei_linux_unmap,
    .map_protect = covei_linux_map_protect,
    .map_sync = covei_linux_map_sync,
    .map_keep_from_dumps = covei_linux_map_keep_from_dumps,
    .map_zeros = covei_linux_map_zeros,
    .page_bytes = covei_linux_page_bytes,
    .fault_guard = covei_linux_fault_guard,
    .shm_find = covei_linux_shm_find,
    .shm_make = covei_linux_shm_make,
    .shm_stat = covei_linux_shm_stat,
    .shm_resident = covei_linux_shm_resident,
    .shm_set_rights = covei_linux_shm_set_rights,
    .shm_map = covei_linux_shm_map,
    .shm_unmap = covei_linux_shm_unmap,
    .shm_remove = covei_linux_shm_remove,
    .fd_send = covei_linux_fd_send,
    .fd_receive = covei_linux_fd_receive,
    .wiped_page = linux_wiped_page,
    .park = linux_park,
    .park_any = linux_park_any,
    .wake = linux_wake,
    .fence_register = linux_fence_register,
    .fence_all = linux_fence_all,
    .now = linux_now,
    .wall = linux_wall,
    .nap = linux_nap,
    .cpu = sched_getcpu,
    .cpu_count = linux_cpu_count,
    .process_self = covei_linux_process_self,
    .process_ended = covei_linux_process_ended,
    .thread_id = linux_thread_id,
    .robust_list_find = linux_robust_list_find,
    .robust_list_reset = linux_robust_list_reset,
    .user_id = linux_user_id,
    .boot_id = covei_linux_boot_id,
};

const struct covei_os *covei_os = &covei_os_native;
