/* demo_file.c - the file that the demo sends, and the copy that it becomes: nameless, so that nothing can stay behind.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "demo.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <zlib.h>

#define FILE_BYTES (UINT64_C(200) << 20)
#define STEP_BYTES (UINT64_C(1) << 20)
#define SPARE_BYTES (UINT64_C(64) << 20)

/* A file without a name in a directory with room enough for two of ours. Where the file system has no O_TMPFILE, the
 * name is taken away at once. */
static int nameless(const char *directory)
{
    char path[4096];
    int descriptor = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (descriptor >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
        return descriptor;
    (void)snprintf(path, sizeof path, "%s/cove-demo-XXXXXX", directory);
    descriptor = mkostemp(path, O_CLOEXEC);
    if (descriptor >= 0)
        (void)unlink(path);
    return descriptor;
}

static bool has_room(const char *directory)
{
    struct statvfs room;
    return statvfs(directory, &room) == 0 && (uint64_t)room.f_bavail * room.f_frsize > 2 * FILE_BYTES + SPARE_BYTES;
}

static const char *open_both(struct demo *demo)
{
    const char *const places[] = {getenv("TMPDIR"), "/tmp", "/var/tmp", cove_directory()};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        if (!places[i] || !*places[i] || !has_room(places[i]))
            continue;
        demo->source = nameless(places[i]);
        demo->copy = demo->source < 0 ? -1 : nameless(places[i]);
        if (demo->copy >= 0)
            return places[i];
        if (demo->source >= 0)
            (void)close(demo->source);
        demo->source = -1;
    }
    return NULL;
}

/* nftw(3) knows no context. */
static struct {
    struct demo *demo;
    unsigned char *buffer;
    unsigned count;
} gathering;

static bool append(struct demo *demo, const unsigned char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t count = pwrite(demo->source, bytes, length, (off_t)demo->size_bytes);
        if (count < 0 && errno == EINTR && !cli_stopped())
            continue;
        if (count <= 0)
            return false;
        demo->crc = (uint32_t)crc32(demo->crc, bytes, (uInt)count);
        demo->size_bytes += (uint64_t)count;
        bytes += count;
        length -= (size_t)count;
    }
    return true;
}

static int gather_one(const char *path, const struct stat *status, int kind, struct FTW *where)
{
    (void)where;
    if (kind != FTW_F || !S_ISREG(status->st_mode) || status->st_size == 0)
        return cli_stopped();
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0)
        return 0;
    gathering.count++;
    int done = 0;
    while (!done) {
        uint64_t wanted = FILE_BYTES - gathering.demo->size_bytes;
        ssize_t count = read(descriptor, gathering.buffer, wanted < STEP_BYTES ? wanted : STEP_BYTES);
        if (count <= 0)
            break;
        done = !append(gathering.demo, gathering.buffer, (size_t)count) || gathering.demo->size_bytes == FILE_BYTES ||
               cli_stopped();
    }
    (void)close(descriptor);
    return done;
}

/* What the machine's own files do not fill is made: xorshift64, which no compression or deduplication shortens. */
static void fill_up(struct demo *demo)
{
    uint64_t state = 0x9e3779b97f4a7c15;
    while (demo->size_bytes < FILE_BYTES && !cli_stopped()) {
        uint64_t *words = (uint64_t *)(void *)gathering.buffer;
        for (size_t i = 0; i < STEP_BYTES / sizeof *words; i++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            words[i] = state;
        }
        uint64_t wanted = FILE_BYTES - demo->size_bytes;
        if (!append(demo, gathering.buffer, wanted < STEP_BYTES ? wanted : STEP_BYTES))
            return;
    }
}

bool demo_make_files(struct demo *demo)
{
    char size[16], gathered_size[16];
    const char *place = open_both(demo);
    if (!place)
        return demo_broken(
            "no room for two files of 200 MiB in $TMPDIR, /tmp, /var/tmp or %s; make room, or set TMPDIR",
            cove_directory());
    demo->crc = (uint32_t)crc32(0, NULL, 0);
    gathering.demo = demo;
    gathering.buffer = malloc(STEP_BYTES);
    if (!gathering.buffer)
        return demo_broken("no memory");
    (void)nftw("/usr/lib", gather_one, 16, FTW_PHYS | FTW_MOUNT);
    uint64_t gathered = demo->size_bytes;
    fill_up(demo);
    free(gathering.buffer);
    if (demo->size_bytes != FILE_BYTES)
        return demo_broken("cannot write %s: %s", place, strerror(errno));
    demo_tell("The file: %s, checksum %08x; %s of it from %u files of /usr/lib.\n\n",
              cli_show_size(size, demo->size_bytes), demo->crc, cli_show_size(gathered_size, gathered),
              gathering.count);
    return true;
}

bool demo_clear_copy(struct demo *demo)
{
    void *copy = MAP_FAILED;
    /* Its blocks are there beforehand, or the figures would be those of a file system that finds free blocks. */
    int result = posix_fallocate(demo->copy, 0, (off_t)demo->size_bytes);
    if (result == 0)
        copy = mmap(NULL, demo->size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, demo->copy, 0);
    if (copy == MAP_FAILED)
        return demo_broken("cannot empty the copy: %s", strerror(result ? result : errno));
    memset(copy, 0, demo->size_bytes);
    (void)munmap(copy, demo->size_bytes);
    return true;
}

bool demo_compare(struct demo *demo, uint32_t *crc)
{
    struct stat status;
    if (fstat(demo->copy, &status) != 0 || (uint64_t)status.st_size != demo->size_bytes)
        return demo_broken("the copy has %lld bytes, the file has %llu", (long long)status.st_size,
                           (unsigned long long)demo->size_bytes);
    void *source = mmap(NULL, demo->size_bytes, PROT_READ, MAP_SHARED, demo->source, 0);
    void *copy = mmap(NULL, demo->size_bytes, PROT_READ, MAP_SHARED, demo->copy, 0);
    bool same = source != MAP_FAILED && copy != MAP_FAILED && memcmp(source, copy, demo->size_bytes) == 0;
    if (copy != MAP_FAILED) {
        *crc = (uint32_t)crc32(crc32(0, NULL, 0), copy, (uInt)demo->size_bytes);
        (void)munmap(copy, demo->size_bytes);
    }
    if (source != MAP_FAILED)
        (void)munmap(source, demo->size_bytes);
    return (same && *crc == demo->crc) || demo_broken("the copy differs from the file");
}
