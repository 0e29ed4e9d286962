/* os_linux.h - the parts of the Linux port, which stand in several files.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef COVEI_OS_OS_LINUX_H
#define COVEI_OS_OS_LINUX_H

#include "os/os.h"

/* os_linux_file.c */
int covei_linux_hold(void);
void covei_linux_restore(int before);
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
int covei_linux_file_set_owner(int file, uint32_t uid);
int covei_linux_file_reserve(int file, uint64_t offset, uint64_t size_bytes);
int64_t covei_linux_file_read_at(int file, void *data, size_t size_bytes, uint64_t offset);
int64_t covei_linux_file_write_at(int file, const void *data, size_t size_bytes, uint64_t offset);
void covei_linux_file_close(int file);
int covei_linux_path_remove(const char *path);
int covei_linux_file_seal(int file, bool fixed);
int covei_linux_file_sealed(int file);
int covei_linux_file_copy(int file);
int covei_linux_file_inherit(int file);
int covei_linux_file_make_memory(bool huge);
int covei_linux_file_rename(const char *from, const char *to);
int covei_linux_path_follow(const char *path, struct covei_file_stat *stat);
int covei_linux_file_sync(int file);
int covei_linux_directory_sync(const char *path);
int covei_linux_file_system(int file, struct covei_file_system *system);
int covei_linux_huge_directory(char *path, size_t path_bytes);
int covei_linux_working_directory(char *path, size_t path_bytes);
int covei_linux_directory_each(const char *path, int (*visit)(const char *name, void *context), void *context);
int covei_linux_group_find(const char *name, uint32_t *gid);
int covei_linux_lock_try(int file, uint64_t byte, bool exclusive);
int covei_linux_lock_drop(int file, uint64_t byte);
int covei_linux_lock_held(int file, uint64_t byte);

/* os_linux_map.c */
int covei_linux_map(void **address, int file, uint64_t offset, uint64_t size_bytes, enum covei_access access,
                    bool unreserved);
void covei_linux_unmap(void *address, uint64_t size_bytes);
int covei_linux_map_protect(void *address, uint64_t size_bytes, enum covei_access access);
int covei_linux_map_sync(void *address, uint64_t size_bytes);
int covei_linux_map_keep_from_dumps(void *address, uint64_t size_bytes);
int covei_linux_map_zeros(void *address, uint64_t size_bytes);
uint64_t covei_linux_page_bytes(void);
int covei_linux_fault_guard(bool (*ours)(void *address));

/* os_linux_shm.c */
int covei_linux_shm_find(uint32_t key, int *id);
int covei_linux_shm_make(uint32_t key, uint64_t size_bytes, uint32_t mode, int *id);
int covei_linux_shm_stat(int id, struct covei_shm_stat *stat);
uint64_t covei_linux_shm_resident(int id);
int covei_linux_shm_set_rights(int id, uint32_t mode, const uint32_t *gid);
int covei_linux_shm_map(void **address, int id, bool writable);
int covei_linux_shm_unmap(void *address);
int covei_linux_shm_remove(int id);

/* os_linux_memory.c */
int covei_linux_fd_send(int socket, int file);
int covei_linux_fd_receive(int socket);

/* os_linux_process.c */
void covei_linux_process_self(struct covei_process *process);
int covei_linux_process_ended(const struct covei_process *process);
void covei_linux_boot_id(uint8_t id[16]);

#endif
