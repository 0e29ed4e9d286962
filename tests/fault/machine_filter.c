/* machine_filter.c - a filter of system calls (seccomp), written by hand.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * ENOSYS is what an old kernel answers, EPERM what a sandbox does. Only the low half of an argument is looked at,
 * which holds flags and commands whole. */
#include "machine_setup.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#if defined(__x86_64__)
#define FILTER_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define FILTER_ARCH AUDIT_ARCH_AARCH64
#elif defined(__i386__)
#define FILTER_ARCH AUDIT_ARCH_I386
#else
#define FILTER_ARCH 0 /* no filters here */
#endif

void machine_skip_without_filters(void)
{
    if (FILTER_ARCH == 0 || prctl(PR_GET_SECCOMP, 0, 0, 0, 0) < 0)
        testing_skip("no system call filters on this machine");
    if (UNIT_SANITIZED)
        testing_skip("sanitizers make system calls of their own");
}

void machine_forbid(const struct machine_forbidden *what, int error)
{
    const bool any = what->argument == MACHINE_ANY;
    const uint32_t looked_at = any ? (uint32_t)offsetof(struct seccomp_data, nr)
                                   : (uint32_t)offsetof(struct seccomp_data, args) + 8 * (uint32_t)what->argument;
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, FILTER_ARCH, 0, 6),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)what->number, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, looked_at), /* little-endian, as all of Cove is */
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, any || what->exactly ? UINT32_MAX : what->bits),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, any ? (uint32_t)what->number : what->bits, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {.len = sizeof program / sizeof *program, .filter = program};
    assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
}
