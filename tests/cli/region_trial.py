# region_trial.py - what the tests of raw bytes share: places, contents that tell whether they are whole, other users.
# SPDX-License-Identifier: Apache-2.0 OR MIT

import ctypes
import fcntl
import hashlib
import mmap
import os
import random

from trial import DONE, Trial

PAGE = mmap.PAGESIZE
MIB = 1 << 20
SIZES = [1, 255, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE + 17, MIB]
NOBODY = 65534
libc = ctypes.CDLL(None, use_errno=True)


def version(number, size_bytes):
    """Contents that tell a mixture of two from a whole: a checksum at the head of bytes that no other version has."""
    body = random.Random(number).randbytes(size_bytes - 32)
    return hashlib.sha256(body).digest() + body


def is_whole(contents):
    return hashlib.sha256(contents[32:]).digest() == contents[:32]


class Bytes(Trial):
    def setUp(self):
        super().setUp()
        self.random = random.Random(self.id())

    def place(self, name):
        """The file behind posix:/NAME, which the directory may hold."""
        self.foreign_files.add(name)
        return os.path.join(self.directory, name)

    def put(self, name, contents):
        with open(self.place(name), "wb") as file:
            file.write(contents)
        return "posix:/" + name

    def contents(self, name):
        """All bytes, by the command."""
        return self.expect_bytes(self.cove("cat", name, text=False)).stdout

    def expect_bytes(self, process, status=DONE):
        self.assertEqual(process.returncode, status, process.stderr)
        if status == DONE:
            self.assertEqual(process.stderr, b"")
        return process

    def as_nobody(self, *words, **options):
        """Run the command as an ordinary user, from root."""
        if os.geteuid() != 0:
            self.skipTest("only root can become another user")
        options.update(user=NOBODY, group=NOBODY, extra_groups=[])
        if self.cove("version", **options).returncode != DONE:
            self.skipTest("another user cannot run this command")
        return self.cove(*words, **options)

    def system_v(self, size_bytes):
        """A System V segment that Cove has not made, with a key of its own. Returns its name and number."""
        for key in range(0x0b000000 + os.getpid() % 0x10000, 0x0c000000, 0x10000):
            number = libc.shmget(key, ctypes.c_size_t(size_bytes), 0o3600)  # IPC_CREAT | IPC_EXCL
            if number >= 0:
                self.addCleanup(libc.shmctl, number, 0, None)  # IPC_RMID
                return f"sysv:{key:#x}", number
            if ctypes.get_errno() != 17:  # EEXIST
                self.skipTest("no System V memory here")
        raise AssertionError("no key is free")

    def fill_system_v(self, number, contents):
        libc.shmat.restype = ctypes.c_void_p
        address = libc.shmat(number, None, 0)
        ctypes.memmove(address, contents, len(contents))
        libc.shmdt(ctypes.c_void_p(address))

    def small_pipe(self, *words, **options):
        """Start a command whose output goes into a pipe of one page, and wait until something is there."""
        read_end, write_end = os.pipe()
        fcntl.fcntl(write_end, 1031, PAGE)  # F_SETPIPE_SZ
        process = self.start(*words, stdout=write_end, **options)
        os.close(write_end)
        process.stdout = os.fdopen(read_end, "rb", buffering=0)
        return process, process.stdout.read(1)
