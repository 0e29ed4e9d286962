/* os_linux.h - the parts of the Linux port, which stand in several files.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef COVEI_OS_OS_LINUX_H
#define COVEI_OS_OS_LINUX_H

#include "os/os.h"

/* os_linux_file.c */
int covei_linux_file_open(const char *path, enum covei_open how);
int covei_linux_file_make_nameless(const char *directory);
int covei_linux_file_make(const char *path);
int covei_linux_file_reopen(int file, enum covei_open how);
int covei_linux_file_publish(int file, const char *path);
int covei_linux_file_rename_new(const char *from, const char *to);
int covei_linux_file_stat(int file, struct covei_file_stat *stat);
int covei_linux_path_stat(const char *path, struct covei_file_stat *stat);
int covei_linux_file_set_mode(int file, uint32_t mode);
int covei_linux_file_set_group(int file, uint32_t gid);
int covei_linux_file_reserve(int file, uint64_t offset, uint64_t size_bytes);
int64_t covei_linux_file_read_at(int file, void *data, size_t size_bytes, uint64_t offset);
int64_t covei_linux_file_write_at(int file, const void *data, size_t size_bytes, uint64_t offset);
void covei_linux_file_close(int file);
int covei_linux_path_remove(const char *path);
int covei_linux_file_space(int file, uint64_t *free_bytes, uint64_t *total_bytes);
int covei_linux_directory_each(const char *path, int (*visit)(const char *name, void *context), void *context);
int covei_linux_group_find(const char *name, uint32_t *gid);
int covei_linux_lock_try(int file, uint64_t byte, bool exclusive);
int covei_linux_lock_drop(int file, uint64_t byte);
int covei_linux_lock_held(int file, uint64_t byte);

/* os_linux_process.c */
void covei_linux_process_self(struct covei_process *process);
int covei_linux_process_ended(const struct covei_process *process);
void covei_linux_boot_id(uint8_t id[16]);

#endif
