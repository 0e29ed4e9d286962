/* name.h - what names may look like, and where they lead.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef COVEI_REGION_NAME_H
#define COVEI_REGION_NAME_H

#include <stdbool.h>
#include <stddef.h>

#define COVEI_NAME_MAX 200 /* bytes, without the terminating zero */
#define COVEI_PATH_MAX 4096
#define COVEI_SUFFIX ".cove"
#define COVEI_SUFFIX_LENGTH 5

/* 0, or COVE_ENAME with a sentence. Names of objects may hold '/' to group. */
int covei_name_check_segment(const char *name);
int covei_name_check_object(const char *name);

/* The path of a segment's file. 0, COVE_ENAME, or -ENAMETOOLONG for the directory. */
int covei_name_path(char path[COVEI_PATH_MAX], const char *name);

/* Split "SEGMENT/OBJECT". `segment` gets the first part; returns where the object's name begins, or NULL with a
 * sentence. */
const char *covei_name_split(char segment[COVEI_NAME_MAX + 1], const char *full_name);

/* Is the file name FILE that of a segment? `name` gets it without its suffix. */
bool covei_name_of_file(char name[COVEI_NAME_MAX + 1], const char *file);

#endif
