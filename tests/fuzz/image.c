/* image.c - the valid segment that the fuzzers damage, and the ground that they stand on. Contract: image.h.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "image.h"

#include "os/os.h"

#include <cove.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define GUARD_BYTES (UINT64_C(1) << 20)
#define MOST_SLEEPS 20000 /* of 10 ms at most: who sleeps so often waits for nobody */
#define HEADER_BYTES 4u
#define MOST_RESERVES 1000
#define LARGEST_FILE (UINT64_C(4) << 20)

struct image pristine;
static char directory[200], path[240];

/* ---- the system's calls */

static struct covei_os table;
static int64_t slept_ns;
static uint64_t sleeps, reserves;

uint64_t image_sleeps(void)
{
    return sleeps;
}

static int64_t now(void)
{
    return covei_os_native.now() + slept_ns;
}

static int sleep_at_once(int64_t duration_ns)
{
    if (++sleeps > MOST_SLEEPS) {
        (void)fprintf(stderr, "waits for ever\n");
        abort();
    }
    slept_ns += duration_ns;
    return -ETIMEDOUT;
}

static int park(void *word, uint32_t expected, int64_t timeout_ns)
{
    /* Look at the word as the kernel would: an address that cannot be read shows. */
    return *(volatile uint32_t *)word != expected ? -EAGAIN : sleep_at_once(timeout_ns);
}

static int park2(void *word, uint32_t expected, void *word2, uint32_t expected2, int64_t timeout_ns)
{
    (void)expected2;
    (void)*(volatile uint32_t *)word2;
    return park(word, expected, timeout_ns);
}

static void nap(int64_t duration_ns)
{
    (void)sleep_at_once(duration_ns);
}

/* Growth ends soon, so that a runaway one shows as an error that is asked for again and again, not as a full machine. */
static int file_reserve(int file, uint64_t offset, uint64_t size_bytes)
{
    if (++reserves > MOST_RESERVES) {
        (void)fprintf(stderr, "grows without end\n");
        abort();
    }
    return offset + size_bytes > LARGEST_FILE ? -ENOSPC : covei_os_native.file_reserve(file, offset, size_bytes);
}

/* Unreadable pages before and behind: a step beside the mapping is a crash. */
static int map(void **address, int file, uint64_t offset, uint64_t size_bytes, enum covei_access access,
               bool unreserved)
{
    (void)unreserved;
    void *inner = NULL;
    if (size_bytes > UINT64_MAX / 2)
        return -ENOMEM;
    size_t whole = (size_t)(size_bytes + 2 * GUARD_BYTES);
    unsigned char *outer = mmap(NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (outer == MAP_FAILED)
        return -ENOMEM;
    inner = mmap(outer + GUARD_BYTES, (size_t)size_bytes,
                 access == COVEI_ACCESS_WRITE ? PROT_READ | PROT_WRITE : PROT_READ,
                 MAP_SHARED | MAP_FIXED | MAP_NORESERVE, file, (off_t)offset);
    if (inner == MAP_FAILED) {
        int error = errno;
        (void)munmap(outer, whole);
        return -error;
    }
    *address = inner;
    return 0;
}

static void unmap(void *address, uint64_t size_bytes)
{
    (void)munmap((unsigned char *)address - GUARD_BYTES, (size_t)(size_bytes + 2 * GUARD_BYTES));
}

static void replace_calls(void)
{
    table = covei_os_native;
    table.file_reserve = file_reserve;
    table.map = map;
    table.unmap = unmap;
    table.now = now;
    table.nap = nap;
    table.park = park;
    table.park2 = park2;
    covei_os = &table;
}

/* ---- the image */

static void demand(int64_t result, const char *what)
{
    if (result >= 0)
        return;
    (void)cove_complain(what);
    exit(1);
}

static void fill_stream(cove_segment *segment)
{
    struct cove_stream_options options = {.capacity_bytes = 4096};
    cove_stream *writer = NULL, *reader = NULL;
    unsigned char bytes[300];
    memset(bytes, 'x', sizeof bytes);
    demand(cove_stream_open_in(&writer, segment, IMAGE_STREAM, COVE_WRITER, &options), "writer");
    demand(cove_stream_open_in(&reader, segment, IMAGE_STREAM, COVE_READER, &options), "reader");
    for (size_t size = 1; size < sizeof bytes; size += 60)
        demand(cove_stream_write(writer, bytes, size, COVE_NOWAIT), "write");
    demand(cove_stream_read(reader, bytes, 100, COVE_NOWAIT), "read");
    demand(cove_stream_close(writer), "close");
    demand(cove_stream_close(reader), "close");
}

/* Objects, blocks in use and free, a pending block, a lane inside a transaction: something of everything. */
static void fill(cove_segment *segment)
{
    struct cove_type type = {.name = "struct", .version = 1, .size_bytes = 200};
    void *object = NULL;
    fill_stream(segment);
    demand(cove_object_open(&object, segment, IMAGE_STRUCT, &type, 0), "object");
    cove_ref first = cove_alloc(segment, 100), second = cove_alloc(segment, 500);
    demand(cove_keep(segment, second), "keep");
    demand(cove_free(segment, first), "free");
    demand(cove_alloc(segment, 40) ? 0 : -1, "alloc");
    demand(cove_begin(segment), "begin");
    demand(cove_mutex_lock(segment, object, COVE_NOWAIT), "lock");
    demand(cove_save(segment, (char *)object + 8, 64), "save");
    demand(cove_free(segment, second), "free in a transaction");
    demand(cove_alloc(segment, 24) ? 0 : -1, "alloc in a transaction");
}

/* As it is while its member is alive and in the middle of something; nobody holds its row's byte in the copies. */
static void take_image(cove_segment *segment)
{
    struct stat stat;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &stat) < 0 || (uint64_t)stat.st_size > IMAGE_LARGEST ||
        pread(file, pristine.bytes, IMAGE_LARGEST, 0) != stat.st_size) {
        perror("image");
        exit(1);
    }
    (void)close(file);
    pristine.size = (uint32_t)stat.st_size;
    for (uint32_t at = 0; at + 8 <= pristine.size; at += 8)
        if (memcmp(pristine.bytes + at, "\0\0\0\0\0\0\0", 8) != 0)
            pristine.words[pristine.word_count++] = at;
    demand(cove_abort(segment), "abort");
}

static void remove_directory(void)
{
    image_remove();
    (void)rmdir(directory);
}

void image_begin(void)
{
    struct cove_options options = {.size_bytes = 16384, .max_size_bytes = 65536, .max_members = 2};
    cove_segment *segment = NULL;
    const char *parent = getenv("FUZZ_DIR"); /* whoever set it removes what a crash leaves there */
    if (!parent)
        parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    (void)snprintf(directory, sizeof directory, "%s/fuzz-XXXXXX", parent);
    if (!mkdtemp(directory) || setenv("COVE_DIR", directory, 1) != 0) {
        perror("directory");
        exit(1);
    }
    (void)snprintf(path, sizeof path, "%s/" IMAGE_SEGMENT ".cove", directory);
    (void)atexit(remove_directory);
    replace_calls();
    demand(cove_open(&segment, IMAGE_SEGMENT, &options), "create");
    fill(segment);
    take_image(segment);
    demand(cove_close(segment), "close");
}

void image_remove(void)
{
    (void)unlink(path);
}

/* ---- damage */

static uint32_t place_of(const uint8_t *patch)
{
    return (uint32_t)patch[0] | (uint32_t)patch[1] << 8 | (uint32_t)patch[2] << 16;
}

/* Returns the file's length. */
static uint32_t damage(unsigned char *bytes, const uint8_t *data, size_t size)
{
    uint32_t length = pristine.size;
    while (size >= HEADER_BYTES) {
        uint32_t place = place_of(data), count = data[3] % 33u;
        data += HEADER_BYTES, size -= HEADER_BYTES;
        if (count == 0)
            length = place & 1 ? pristine.size + (place & 0xffff) : place % pristine.size;
        if (count > size)
            count = (uint32_t)size;
        place %= pristine.size;
        if (count > pristine.size - place)
            count = pristine.size - place;
        memcpy(bytes + place, data, count);
        data += count, size -= count;
    }
    return length;
}

void image_put(const uint8_t *data, size_t size)
{
    static unsigned char bytes[IMAGE_LARGEST];
    memcpy(bytes, pristine.bytes, pristine.size);
    uint32_t length = damage(bytes, data, size);
    sleeps = reserves = 0;
    image_remove();
    int file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    uint32_t written = length < pristine.size ? length : pristine.size;
    if (file < 0 || pwrite(file, bytes, written, 0) != (ssize_t)written || ftruncate(file, length) < 0) {
        perror("file");
        exit(1);
    }
    (void)close(file);
}

/* ---- seeds and mutations */

static size_t write_patch(uint8_t *to, uint32_t place, uint64_t word)
{
    to[0] = (uint8_t)place, to[1] = (uint8_t)(place >> 8), to[2] = (uint8_t)(place >> 16);
    to[3] = 8;
    memcpy(to + HEADER_BYTES, &word, 8);
    return HEADER_BYTES + 8;
}

static uint64_t word_at(uint32_t place)
{
    uint64_t word;
    memcpy(&word, pristine.bytes + place, 8);
    return word;
}

uint32_t image_write_seeds(const char *to)
{
    for (uint32_t i = 0; i < pristine.word_count; i++) {
        char name[300];
        uint8_t patch[HEADER_BYTES + 8];
        size_t size = write_patch(patch, pristine.words[i], word_at(pristine.words[i]));
        (void)snprintf(name, sizeof name, "%s/word-%05x", to, pristine.words[i]);
        FILE *file = fopen(name, "w");
        if (!file || fwrite(patch, 1, size, file) != size || fclose(file) != 0) {
            perror(name);
            exit(1);
        }
    }
    return pristine.word_count;
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    return z ^ (z >> 27);
}

static uint32_t any_word(uint64_t *random)
{
    return pristine.words[next_random(random) % pristine.word_count];
}

/* What might pass a check, and lead astray behind it. */
static uint64_t plausible(uint64_t word, uint64_t *random)
{
    uint64_t choice = next_random(random);
    switch (choice >> 8 & 7) {
    case 0:
        return word + (choice >> 16 & 0x3f) - 32;
    case 1:
        return word ^ UINT64_C(1) << (choice >> 16 & 63);
    case 2:
        return word_at(any_word(random));
    case 3:
        return (choice >> 16) % pristine.size & ~UINT64_C(15);
    case 4:
        return pristine.size - (choice >> 16 & 0xff);
    case 5:
        return choice & 1 ? UINT64_MAX - (choice >> 16 & 0xff) : choice >> 16 & 0xff;
    case 6:
        return (word & 0xffffffff) | (choice >> 16) << 32;
    default:
        return (word & ~UINT64_C(0xffffffff)) | (choice >> 32);
    }
}

/* Half of the time one more plausible word, at a word that means something or beside one; else what libFuzzer likes. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    uint64_t random = seed;
    if (next_random(&random) & 1 || size + HEADER_BYTES + 8 > most)
        return LLVMFuzzerMutate(data, size, most);
    uint32_t place = any_word(&random);
    if (next_random(&random) % 4 == 0)
        place = (uint32_t)(place + 8 * (next_random(&random) % 8)) % (pristine.size - 8);
    return size + write_patch(data + size, place, plausible(word_at(place), &random));
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    image_begin();
    if (*argc == 3 && strcmp((*argv)[1], "--seeds") == 0) {
        printf("%u inputs\n", image_write_seeds((*argv)[2]));
        exit(0);
    }
    return 0;
}
