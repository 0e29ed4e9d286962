# foreign.py - shared memory that is none of Cove's, made by libc's calls: for tests of ls, rm and stat.
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# Imported by tests; run by them as `python3 foreign.py STEP...` it is a process that holds something: it takes the
# steps, prints "ready", and sleeps until its standard input ends.

import ctypes
import mmap
import os
import socket
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
libc.sem_open.restype = ctypes.c_void_p

IPC_CREAT, IPC_EXCL, IPC_RMID = 0o1000, 0o2000, 0


def good(result):
    if result in (-1, None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def make_file(path, size_bytes, mode=0o600):
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
    os.ftruncate(file, size_bytes)
    os.close(file)


def shm_make(key, size_bytes, mode=0o600):
    return good(libc.shmget(ctypes.c_int(key), ctypes.c_size_t(size_bytes), IPC_CREAT | IPC_EXCL | mode))


def shm_remove(identifier):
    libc.shmctl(identifier, IPC_RMID, None)


def msg_make(key, mode=0o600):
    return good(libc.msgget(ctypes.c_int(key), IPC_CREAT | IPC_EXCL | mode))


def msg_send(identifier, text):
    message = ctypes.create_string_buffer((1).to_bytes(ctypes.sizeof(ctypes.c_long), sys.byteorder) + text)
    good(libc.msgsnd(identifier, message, ctypes.c_size_t(len(text)), 0))


def msg_remove(identifier):
    libc.msgctl(identifier, IPC_RMID, None)


def sem_make(key, count, mode=0o600):
    return good(libc.semget(ctypes.c_int(key), count, IPC_CREAT | IPC_EXCL | mode))


def sem_add(identifier, number, value):
    operation = (ctypes.c_short * 3)(number, value, 0)
    good(libc.semop(identifier, operation, ctypes.c_size_t(1)))


def sem_remove(identifier):
    libc.semctl(identifier, 0, IPC_RMID, 0)


def named_semaphore(name, value):
    return good(libc.sem_open(name.encode(), os.O_CREAT | os.O_EXCL, 0o600, value))


def queue_make(name):
    """Returns a descriptor of a new POSIX queue."""
    return good(libc.mq_open(name.encode(), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600, None))


def queue_send(queue, text):
    good(libc.mq_send(queue, text, ctypes.c_size_t(len(text)), 1))


def queue_remove(name):
    libc.mq_unlink(name.encode())


# ---- what a holder can do: "step=argument" ----

def hold_map(path):
    file = os.open(path, os.O_RDWR)
    kept.append(mmap.mmap(file, 0))
    os.close(file)


def hold_map_readonly(path):
    file = os.open(path, os.O_RDONLY)
    kept.append(mmap.mmap(file, 0, prot=mmap.PROT_READ))
    os.close(file)


def hold_open(path):
    kept.append(os.open(path, os.O_RDONLY))


def hold_in_flight(path):
    """Nowhere but in a message of a socket."""
    ends = socket.socketpair(socket.AF_UNIX)
    kept.append(ends)
    file = os.open(path, os.O_RDONLY)
    socket.send_fds(ends[0], [b"x"], [file])
    os.close(file)


def hold_memfd(name):
    file = os.memfd_create(name)
    os.ftruncate(file, 8192)
    kept.append(mmap.mmap(file, 0))
    kept.append(file)


def hold_shm(identifier):
    good(libc.shmat(int(identifier), None, 0))


def hold_send(identifier):
    msg_send(int(identifier), b"seventeen letters")


def hold_wait(identifier):
    if os.fork() == 0:
        try:
            sem_add(int(identifier), 0, -1)
        except OSError:
            pass  # it was removed
        os._exit(0)


def hold_queue(name):
    kept.append(good(libc.mq_open(name.encode(), os.O_RDWR)))


def hold_semaphore(name):
    good(libc.sem_open(name.encode(), 0))


def hold_segment(name):
    """A member of one of Cove's segments; the library is the one beside the command."""
    directory = os.path.dirname(os.path.realpath(os.environ["COVE_COMMAND"]))
    cove = ctypes.CDLL(os.path.join(directory, "libcove.so"))
    segment = ctypes.c_void_p()
    result = cove.cove_open(ctypes.byref(segment), name.encode(), None)
    if result < 0:
        raise OSError(-result, name)


def hold_thread_only(path):
    """The first thread ends, another one keeps the mapping."""
    import threading
    hold_map(path)

    def stay():
        print("ready", flush=True)
        time.sleep(1000)
    threading.Thread(target=stay).start()
    libc.pthread_exit(None)


kept = []

if __name__ == "__main__":
    for step in sys.argv[1:]:
        what, _, argument = step.partition("=")
        globals()["hold_" + what](argument)
    print("ready", flush=True)
    sys.stdin.read()
