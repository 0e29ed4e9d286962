/* symbols.c - the name of the function at an address of this process, statics included.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * dladdr knows exported names alone, and most of the library is static or hidden. So the file behind the address is
 * found in /proc/self/maps, and its .symtab (or .dynsym, where it was stripped) searched for the last function that begins
 * before it. Children are forks, so their addresses are ours. Slow, and used only to print a failure. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "symbols.h"

#include <elf.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct place {
    char path[512];
    uint64_t file_offset; /* of the address */
};

static int find_place(uint64_t address, struct place *place)
{
    char line[1024];
    int found = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    if (maps == NULL)
        return 0;
    while (!found && fgets(line, sizeof line, maps) != NULL) {
        uint64_t begin, end, offset;
        place->path[0] = 0;
        int fields = sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64 " %*s %*s %511s", &begin, &end, &offset,
                            place->path);
        found = fields >= 3 && address >= begin && address < end;
        place->file_offset = found ? address - begin + offset : 0;
    }
    fclose(maps);
    return found;
}

/* The link-time address of an offset in the file. */
static uint64_t linked_address(const unsigned char *bytes, uint64_t file_offset)
{
    const Elf64_Ehdr *header = (const void *)bytes;
    const Elf64_Phdr *segments = (const void *)(bytes + header->e_phoff);
    for (unsigned i = 0; i < header->e_phnum; i++)
        if (segments[i].p_type == PT_LOAD && file_offset >= segments[i].p_offset &&
            file_offset - segments[i].p_offset < segments[i].p_filesz)
            return file_offset - segments[i].p_offset + segments[i].p_vaddr;
    return file_offset;
}

/* The nearest function at or below `at` in one symbol table. */
static const char *nearest(const unsigned char *bytes, const Elf64_Shdr *sections, const Elf64_Shdr *table, uint64_t at,
                           uint64_t *begin)
{
    const Elf64_Sym *symbols = (const void *)(bytes + table->sh_offset);
    const char *names = (const char *)(bytes + sections[table->sh_link].sh_offset);
    const char *best = NULL;
    for (size_t i = 0; i < table->sh_size / sizeof *symbols; i++) {
        const Elf64_Sym *symbol = &symbols[i];
        if (ELF64_ST_TYPE(symbol->st_info) != STT_FUNC || symbol->st_value == 0 || symbol->st_value > at)
            continue;
        if (best == NULL || symbol->st_value > *begin) {
            best = names + symbol->st_name;
            *begin = symbol->st_value;
        }
    }
    return best;
}

static const char *search(const unsigned char *bytes, uint64_t at, uint64_t *begin)
{
    const Elf64_Ehdr *header = (const void *)bytes;
    const Elf64_Shdr *sections = (const void *)(bytes + header->e_shoff);
    const char *best = NULL;
    for (unsigned wanted = SHT_SYMTAB; best == NULL && wanted != 0; wanted = wanted == SHT_SYMTAB ? SHT_DYNSYM : 0)
        for (unsigned i = 0; i < header->e_shnum; i++)
            if (sections[i].sh_type == wanted)
                best = nearest(bytes, sections, &sections[i], at, begin);
    return best;
}

static int is_elf64(const unsigned char *bytes, size_t size_bytes)
{
    return size_bytes > sizeof(Elf64_Ehdr) && memcmp(bytes, ELFMAG, SELFMAG) == 0 && bytes[EI_CLASS] == ELFCLASS64;
}

void symbol_name(uint64_t address, char *text, size_t size_bytes)
{
    struct place place;
    struct stat facts;
    if (!find_place(address, &place)) {
        snprintf(text, size_bytes, "0x%" PRIx64, address);
        return;
    }
    const char *file = strrchr(place.path, '/');
    file = file != NULL ? file + 1 : place.path;
    snprintf(text, size_bytes, "%s+0x%" PRIx64, file, place.file_offset);
    int fd = open(place.path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &facts) < 0)
        return;
    unsigned char *bytes = mmap(NULL, (size_t)facts.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (bytes == MAP_FAILED)
        return;
    if (is_elf64(bytes, (size_t)facts.st_size)) {
        uint64_t begin = 0, at = linked_address(bytes, place.file_offset);
        const char *name = search(bytes, at, &begin);
        if (name != NULL)
            snprintf(text, size_bytes, "%s+0x%" PRIx64 " (%s)", name, at - begin, file);
    }
    munmap(bytes, (size_t)facts.st_size);
}
