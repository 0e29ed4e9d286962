/* name.h - what names may look like, and where they lead.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef COVEI_REGION_NAME_H
#define COVEI_REGION_NAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COVEI_NAME_MAX 200 /* bytes of a plain name, and of an object's, without the terminating zero */
#define COVEI_FULL_NAME_MAX 1023 /* bytes of a segment's or region's name with its prefix */
#define COVEI_PATH_MAX 4096
#define COVEI_SUFFIX ".cove"
#define COVEI_SUFFIX_LENGTH 5
#define COVEI_SIDE_PREFIX ".cove-sysv-" /* then the key in 8 hexadecimal digits: locks of a System V segment */

enum covei_backend_id {
    COVEI_POSIX, /* a file of the directory of POSIX shared memory */
    COVEI_FILE, /* a file anywhere */
    COVEI_SYSV,
    COVEI_MEMFD,
    COVEI_FD,
    COVEI_HUGE,
    COVEI_HUGETRY, /* becomes HUGE or POSIX when it is opened: covei_place_of */
    COVEI_BACKENDS
};

/* What a name says, and where it leads. */
struct covei_place {
    enum covei_backend_id backend;
    bool raw; /* a region: its bytes are not Cove's */
    int fd; /* FD */
    uint32_t key; /* SYSV */
    bool from_path; /* SYSV: the key was made of a path and an id */
    int64_t deadline; /* for locks that finding and making it wait for (sysv.c); 0: a default from then on */
    size_t plain; /* where in `name` the part behind the prefix begins */
    size_t directory_length; /* of `path` */
    char name[COVEI_FULL_NAME_MAX + 1]; /* as it was given */
    char path[COVEI_PATH_MAX]; /* of the file; SYSV: of the file whose bytes are locked; "" where there is none */
};

/* Understand a name. 0; COVE_ENAME, -ENAMETOOLONG, -ENOENT (the path of sysv:PATH:ID), with a sentence. */
int covei_place_parse(struct covei_place *place, const char *name, bool raw);

/* Turn a HUGETRY place into that of its huge or of its normal form. */
int covei_place_of(struct covei_place *place, const struct covei_place *hugetry, enum covei_backend_id backend);

/* The directory of place->path. */
void covei_place_directory(const struct covei_place *place, char directory[COVEI_PATH_MAX]);

/* 0, or COVE_ENAME with a sentence. Names of objects may hold '/' to group. */
int covei_name_check_object(const char *name);

/* Split "SEGMENT/OBJECT", or "SEGMENT//OBJECT" where the segment's part holds slashes. `segment` gets the first part;
 * returns where the object's name begins, or NULL with a sentence. */
const char *covei_name_split(char segment[COVEI_FULL_NAME_MAX + 1], const char *full_name);

/* Is the file name FILE that of a segment? `name` gets it without its suffix. */
bool covei_name_of_file(char name[COVEI_NAME_MAX + 1], const char *file);

/* Is it that of a System V segment's locks? */
bool covei_name_of_side_file(uint32_t *key, const char *file);

#endif
