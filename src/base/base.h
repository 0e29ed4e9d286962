/* base.h - small things that every layer uses: branches, rounding, the compiler's fence, hashing.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef COVEI_BASE_BASE_H
#define COVEI_BASE_BASE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define COVEI_LIKELY(x) __builtin_expect(!!(x), 1)
#define COVEI_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define COVEI_COLD __attribute__((cold, noinline))
/* The shortest paths begin a cache line: what they cost would hang on where they happen to lie, by a cycle or two. */
#define COVEI_HOT __attribute__((aligned(64)))
/* What it reads others write, on purpose: a race detector is not to look at it. (clang's no_sanitize still looks at
 * atomics, and inlined it would be looked at with its caller.) */
#if defined(__SANITIZE_THREAD__)
#define COVEI_UNSYNCHRONISED __attribute__((no_sanitize("thread"), noinline))
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define COVEI_UNSYNCHRONISED __attribute__((disable_sanitizer_instrumentation, noinline))
#endif
#endif
#ifndef COVEI_UNSYNCHRONISED
#define COVEI_UNSYNCHRONISED
#endif

#define COVEI_CACHE_LINE 64
#define COVEI_PAGE 4096u

/* Keep the compiler from moving stores to shared memory across this line. That is all that order needs towards a
 * survivor: it reads what a dead process stored only after the kernel's word that it is dead, and by then all stores
 * that the dead one executed are in memory. */
static inline void covei_order(void)
{
    atomic_signal_fence(memory_order_seq_cst);
}

/* A hint to the processor that this is a spin loop. */
static inline void covei_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* `value` rounded up to a multiple of `unit`, a power of two. The caller has checked that it does not overflow. */
static inline uint64_t covei_round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) & ~(unit - 1);
}

static inline uint64_t covei_min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t covei_max(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* memcpy; short ones in line, in pieces whose places do not depend on the size: the loads need not wait until the
 * size is known. */
static inline void covei_copy(void *to, const void *from, uint64_t size_bytes)
{
    unsigned char *out = to;
    const unsigned char *in = from;
    if (size_bytes > 256) {
        memcpy(to, from, (size_t)size_bytes);
        return;
    }
    for (; size_bytes >= 16; size_bytes -= 16, out += 16, in += 16)
        memcpy(out, in, 16);
    if (size_bytes & 8) {
        memcpy(out, in, 8);
        out += 8, in += 8;
    }
    if (size_bytes & 4) {
        memcpy(out, in, 4);
        out += 4, in += 4;
    }
    for (size_bytes &= 3; size_bytes > 0; size_bytes--)
        *out++ = *in++;
}

/* FNV-1a, 64 bits (Fowler, Noll, Vo): the same on every machine. For names, which are short. */
static inline uint64_t covei_hash(const char *bytes, size_t size)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * UINT64_C(0x100000001b3);
    return hash;
}

#endif
