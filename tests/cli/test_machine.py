# test_machine.py - ls, stat and rm over all shared memory of a machine, whoever made it.
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# Objects lie where programs that know nothing of Cove put them. They have the test's process number in their names,
# and random keys; other tests' objects may come and go meanwhile.

import fcntl
import json
import mmap
import os
import pty
import random
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import unittest

import foreign
from trial import COVE, DONE, FAILED, NONAME, PATIENCE_S, USE, Trial, main

HOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "foreign.py")
NOBODY = 65534
counter = iter(range(1 << 30))


class Machine(Trial):
    def setUp(self):
        super().setUp()
        self.removers = []
        self.environment["COVE_DIR"] = "/dev/shm"

    def use_own_directory(self):
        self.environment["COVE_DIR"] = self.directory

    def tearDown(self):
        super().tearDown()  # ends the holders
        for remover in self.removers:
            try:
                remover()
            except FileNotFoundError:
                pass

    # ---- making ----

    def name(self):
        return f"cove-test-{os.getpid()}-{next(counter)}"

    def posix(self, size_bytes=4096, suffix=""):
        name = self.name() + suffix
        foreign.make_file("/dev/shm/" + name, size_bytes)
        self.removers.append(lambda: os.unlink("/dev/shm/" + name))
        return name

    def with_key(self, make, remove, *arguments):
        while True:
            key = random.randrange(1, 1 << 31)
            try:
                identifier = make(key, *arguments)
            except FileExistsError:
                continue
            self.removers.append(lambda: remove(identifier))
            return key, identifier

    def hold(self, *steps, prefix=()):
        """A process that does these steps and then sleeps."""
        process = subprocess.Popen([*prefix, sys.executable, "-B", HOLDER, *steps], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE)
        self.processes.append(process)
        self.assertEqual(process.stdout.readline(), b"ready\n")
        return process

    # ---- looking ----

    def row(self, name, *options):
        """The row of that name, or None. Other rows belong to others."""
        found = [line for line in self.lines_of_json("ls", *options) if line["name"] == name]
        self.assertLessEqual(len(found), 1, found)
        return found[0] if found else None

    def assert_used_by(self, row, process, stopped=False):
        self.assertEqual(row["use"], "used", row)
        self.assertEqual([(user["pid"], user["stopped"]) for user in row["users"]], [(process.pid, stopped)])

    def assert_stale(self, name):
        self.assertIsNotNone(self.row(name, "--stale"), f"{name} is not among what nobody uses")

    def assert_not_stale(self, name):
        self.assertIsNone(self.row(name, "--stale"), f"{name} is used")


class Memory(Machine):
    def test_mapped_object_is_used_by_the_living_and_the_stopped_and_stale_after_the_kill(self):
        name = "posix:/" + self.posix(12288)
        holder = self.hold("map=/dev/shm" + name[6:])
        row = self.row(name)
        self.assertEqual((row["kind"], row["backend"], row["size_bytes"], row["mode"], row["owner_uid"]),
                         ("region", "posix", 12288, 0o600, os.geteuid()))
        self.assert_used_by(row, holder)
        self.assertIn("python", row["users"][0]["command"])
        self.assert_not_stale(name)
        holder.send_signal(signal.SIGSTOP)
        self.wait_until(lambda: self.row(name)["users"][0]["stopped"], "it is seen stopped")
        self.assert_used_by(self.row(name), holder, stopped=True)
        self.assert_not_stale(name)
        self.expect(self.cove("rm", name), FAILED, f"it is in use by python.* \\({holder.pid}\\); end that, or say --force")
        holder.kill()
        holder.wait()
        self.assertEqual(self.row(name)["users"], [])
        self.assert_stale(name)
        self.expect(self.cove("rm", name), DONE)
        self.assertFalse(os.path.exists("/dev/shm" + name[6:]))

    def test_every_way_of_holding_counts(self):
        for step in ("map_readonly", "open", "thread_only"):
            with self.subTest(step):
                name = self.posix()
                holder = self.hold(f"{step}=/dev/shm/{name}")
                self.assert_used_by(self.row("posix:/" + name), holder)
                self.assert_not_stale("posix:/" + name)

    def test_descriptor_on_its_way_through_a_socket_is_not_stale(self):
        name = self.posix()
        self.hold(f"in_flight=/dev/shm/{name}")
        self.assertEqual(self.row("posix:/" + name)["users"], [])  # no process has it: /proc cannot show it
        self.assert_not_stale("posix:/" + name)
        self.expect(self.cove("rm", "posix:/" + name), FAILED, "in use by a process that is not shown")
        self.assertTrue(os.path.exists("/dev/shm/" + name))

    def test_force_removes_what_is_used_and_its_memory_is_listed_as_removed(self):
        name = self.posix(8192)
        holder = self.hold(f"map=/dev/shm/{name}")
        self.expect(self.cove("rm", "--force", "posix:/" + name), DONE)
        row = self.row("posix:/" + name)
        self.assertEqual((row["state"], row["size_bytes"]), ("removed", 8192))
        self.assert_used_by(row, holder)
        self.expect(self.cove("rm", "posix:/" + name), NONAME)
        holder.kill()
        holder.wait()
        self.assertIsNone(self.row("posix:/" + name))

    def test_names_that_would_harm_a_terminal_are_shown_harmless_and_taken_back(self):
        prefix = self.name()
        raw = (prefix + "-\x1b[2J\n\t\\x41 \u00e9").encode() + b"\xff\x9b"
        path = b"/dev/shm/" + raw
        foreign.make_file(path, 4096)
        self.removers.append(lambda: os.unlink(path))
        for words in (["ls"], ["ls", "--json"]):
            process = subprocess.run([COVE, *words], env=self.environment, capture_output=True, timeout=PATIENCE_S)
            self.assertEqual(process.returncode, DONE)
            for line in process.stdout.decode().splitlines():
                self.assertTrue(line.isprintable(), ascii(line))
        shown = [line["name"] for line in self.lines_of_json("ls") if line["name"].startswith(f"posix:/{prefix}-")]
        self.assertEqual(shown, [f"posix:/{prefix}-\\x1b[2J\\x0a\\x09\\x5cx41 \\xc3\\xa9\\xff\\x9b"])
        self.assertEqual(self.lines_of_json("stat", shown[0])[0]["size_bytes"], 4096)
        self.expect(self.cove("rm", shown[0]), DONE)
        self.assertFalse(os.path.exists(path))

    def test_mapped_files_and_nameless_memory_show_with_all_alone(self):
        path, memfd = self.path("mapped"), self.name()
        foreign.make_file(path, 5000)
        holder = self.hold("map=" + path, "memfd=" + memfd)
        self.assertIsNone(self.row("file:" + path))
        self.assert_used_by(self.row("file:" + path, "--all"), holder)
        row = self.row("memfd:" + memfd, "--all")
        self.assertEqual((row["backend"], row["size_bytes"]), ("memfd", 8192))
        self.assert_used_by(row, holder)
        self.expect(self.cove("rm", "memfd:" + memfd), FAILED, "goes with its last user")
        self.expect(self.cove("rm", "file:" + path), FAILED, "in use by python")
        holder.kill()
        holder.wait()
        self.expect(self.cove("rm", "file:" + path), DONE)
        self.assertFalse(os.path.exists(path))

    def test_empty_object_and_odd_files_are_no_crash(self):
        empty = self.posix(0)
        directory = "/dev/shm/" + self.name()
        os.mkdir(directory)
        self.removers.append(lambda: os.rmdir(directory))
        link, fifo = "/dev/shm/" + self.name(), "/dev/shm/" + self.name()
        os.symlink("/etc/passwd", link)
        os.mkfifo(fifo)
        self.removers += [lambda: os.unlink(link), lambda: os.unlink(fifo)]
        self.assertEqual(self.row("posix:/" + empty)["size_bytes"], 0)
        for path in (directory, link, fifo):
            self.assertIsNone(self.row("posix:" + path[8:]))
            self.expect(self.cove("rm", "--force", "posix:" + path[8:]), FAILED, "it is no memory, but a directory, a link")
            self.expect(self.cove("rm", "--force", "file:" + path), FAILED, "it is no memory")
            self.assertEqual(self.cove("stat", "posix:" + path[8:]).returncode, FAILED)
            self.assertTrue(os.path.lexists(path))

    def test_region_of_a_plain_name_is_a_region(self):
        self.use_own_directory()
        foreign.make_file(self.directory + "/raw.cove", 5000)
        row = self.row("raw")
        self.assertEqual((row["kind"], row["size_bytes"]), ("region", 5000))
        self.assertEqual(self.lines_of_json("stat", "raw")[0]["kind"], "region")
        holder = self.hold(f"map={self.directory}/raw.cove")
        self.expect(self.cove("rm", "raw"), FAILED, f"in use by python.* \\({holder.pid}\\)")
        self.expect(self.cove("rm", "raw", "--force"), DONE)
        self.assertEqual(os.listdir(self.directory), [])

    def test_segment_without_members_is_stale_and_with_one_is_not(self):
        self.use_own_directory()
        reader = self.start("read", "robot/a")
        self.wait_for_members("robot", 1)
        row = self.row("robot")
        self.assertEqual((row["kind"], row["state"], row["members_alive"], row["objects"]), ("segment", "ready", 1, 1))
        self.assert_used_by(row, reader)
        self.assert_not_stale("robot")
        reader.kill()
        reader.wait()
        self.assert_stale("robot")
        self.assertEqual(self.row("robot")["members_dead"], 1)
        self.expect(self.cove("rm", "robot"), DONE)


class MovedDirectory(Machine):
    def test_what_lies_in_libcs_directory_is_listed_and_removed_by_its_path(self):
        name, semaphore = self.posix(), self.posix()
        os.rename("/dev/shm/" + semaphore, "/dev/shm/sem." + semaphore)
        self.removers.append(lambda: os.unlink("/dev/shm/sem." + semaphore))
        inside = self.name()
        foreign.make_file(os.path.join(self.directory, inside), 4096)
        self.use_own_directory()
        names = [line["name"] for line in self.lines_of_json("ls")]
        self.assertIn("file:/dev/shm/" + name, names)
        self.assertIn("posix:/" + inside, names)
        self.assertIn("sem:/" + semaphore, names)
        self.expect(self.cove("rm", "file:/dev/shm/" + name, "posix:/" + inside, "sem:/" + semaphore), DONE)
        self.assertFalse(os.path.exists("/dev/shm/" + name))
        self.assertEqual(os.listdir(self.directory), [])


class Backends(Machine):
    """Cove's own segments that lie elsewhere than in the directory of names."""

    def library_works(self):
        library = os.path.join(os.path.dirname(os.path.realpath(COVE)), "libcove.so")
        return subprocess.run([sys.executable, "-c", f"import ctypes; ctypes.CDLL({library!r})"],
                              capture_output=True).returncode == 0

    def test_segment_in_a_file_is_listed_while_it_is_mapped(self):
        name = "file:" + self.path("state.cove")
        maker = self.start("read", name + "//a")  # it made the file nameless: its maps do not know the name
        self.wait_for_members(name, 1)
        row = self.row(name)
        self.assertEqual((row["kind"], row["backend"], row["state"], row["objects"]), ("segment", "file", "ready", 1))
        self.assert_used_by(row, maker)
        second = self.start("write", name + "//a")
        self.wait_for_members(name, 2)
        self.assertEqual({user["pid"] for user in self.row(name)["users"]}, {maker.pid, second.pid})
        self.expect(self.cove("rm", name), FAILED, "in use by")
        for process in (maker, second):
            process.kill()
            process.wait()
        self.assertIsNone(self.row(name))  # files lie anywhere: nobody looks for them
        self.expect(self.cove("stat", name), DONE)
        self.expect(self.cove("rm", name), DONE)
        self.expect(self.cove("rm", name), NONAME)

    def test_segment_in_system_v_memory_is_told_from_foreign_memory(self):
        self.use_own_directory()
        key = random.randrange(1, 1 << 31)
        name = f"sysv:0x{key:x}"
        if self.cove("create", name).returncode != DONE:
            self.skipTest("no System V memory here")
        row = self.row(name)
        self.removers.append(lambda: foreign.shm_remove(row["id"]))
        self.assertEqual((row["kind"], row["backend"], row["state"], row["use"]), ("segment", "sysv", "ready", "unused"))
        reader = self.start("read", name + "/a")
        self.wait_for_members(name, 1)
        self.assert_used_by(self.row(name), reader)
        self.assert_not_stale(name)
        self.expect(self.cove("rm", name), FAILED, "in use")
        reader.kill()
        reader.wait()
        self.assert_stale(name)
        self.expect(self.cove("rm", name), DONE)
        self.assertIsNone(self.row(name))
        self.assertEqual(os.listdir(self.directory), [])  # its side file is gone too

    def test_nameless_segment_is_listed_while_it_lives(self):
        if not self.library_works():
            self.skipTest("no libcove.so beside the command that python can load")
        holder = self.hold("segment=memfd:")
        found = [line for line in self.lines_of_json("ls") if line["kind"] == "segment" and line["backend"] == "memfd"
                 and [user["pid"] for user in line["users"]] == [holder.pid]]
        self.assertEqual(len(found), 1)
        self.assertEqual((found[0]["use"], found[0]["state"], found[0]["members_alive"]), ("used", "ready", 1))
        self.assertIn(holder.pid, [user["pid"] for line in self.lines_of_json("stat", found[0]["name"])
                                   for user in line["users"]])
        self.expect(self.cove("rm", found[0]["name"]), FAILED, "it goes with its last user")


class Semaphores(Machine):
    def test_named_semaphore_shows_value_and_users(self):
        name = self.name()
        foreign.named_semaphore("/" + name, 3)
        self.removers.append(lambda: os.unlink("/dev/shm/sem." + name))
        # This process has it mapped.
        row = self.row("sem:/" + name)
        self.assertEqual((row["kind"], row["value"], row["waiting"], row["use"]), ("semaphore", 3, 0, "used"))
        self.assertEqual([user["pid"] for user in row["users"]], [os.getpid()])
        holder = self.hold("semaphore=/" + name)
        self.assertEqual({user["pid"] for user in self.row("sem:/" + name)["users"]}, {os.getpid(), holder.pid})
        self.expect(self.cove("rm", "sem:/" + name), FAILED, "in use by .* and 1 more")
        self.assertRegex(self.expect(self.cove("stat", "sem:" + name), DONE).stdout, r"(?m)^  value +3$")
        self.expect(self.cove("rm", "--force", "sem:" + name), DONE)
        self.assertFalse(os.path.exists("/dev/shm/sem." + name))

    def test_broken_semaphores_are_rows(self):
        for size in (0, 1, 31, 100):
            name = self.posix(size)
            os.rename("/dev/shm/" + name, "/dev/shm/sem." + name)
            self.removers.append(lambda name=name: os.unlink("/dev/shm/sem." + name))
            row = self.row("sem:/" + name)
            self.assertEqual(row["size_bytes"], size)
            if size < 32:
                self.assertEqual(row["state"], "corrupt")
                self.assertNotIn("value", row)
            self.expect(self.cove("stat", "sem:/" + name), DONE)

    def test_set_shows_count_and_who_waits(self):
        key, identifier = self.with_key(foreign.sem_make, foreign.sem_remove, 3)
        name = f"sysvsem:0x{key:x}"
        row = self.row(name)
        self.assertEqual((row["kind"], row["semaphores"], row["waiting"], row["use"]), ("semaphores", 3, 0, "unknown"))
        foreign.sem_add(identifier, 2, 5)
        row = self.row(name)
        self.assertEqual((row["use"], row["users"][0]["pid"]), ("used", os.getpid()))
        self.expect(self.cove("rm", name), FAILED, f"in use by .*\\({os.getpid()}\\)")
        self.expect(self.cove("rm", "--force", name), DONE)
        self.expect(self.cove("stat", name), NONAME)

    def test_set_with_a_waiting_process_is_used(self):
        key, identifier = self.with_key(foreign.sem_make, foreign.sem_remove, 1)
        holder = self.hold(f"wait={identifier}")
        name = f"sysvsem:0x{key:x}"
        self.wait_until(lambda: self.row(name)["waiting"] == 1, "it waits")
        self.assertEqual(self.row(name)["use"], "used")
        self.expect(self.cove("rm", name), FAILED, "in use by a process that waits")
        foreign.sem_remove(identifier)  # wakes and ends the waiting child
        holder.stdin.close()
        holder.wait()


class SystemV(Machine):
    def test_memory_shows_attachments_creator_and_users(self):
        key, identifier = self.with_key(foreign.shm_make, foreign.shm_remove, 5000, 0o640)
        name = f"sysv:0x{key:x}"
        row = self.row(name)
        self.assertEqual((row["kind"], row["size_bytes"], row["mode"], row["id"], row["key"], row["attachments"]),
                         ("region", 5000, 0o640, identifier, key, 0))
        self.assertEqual((row["creator_pid"], row["creator_uid"], row["use"]), (os.getpid(), os.geteuid(), "unused"))
        self.assert_stale(name)
        holder = self.hold(f"shm={identifier}")
        row = self.row(name)
        self.assertEqual(row["attachments"], 1)
        self.assertEqual(row["last_pid"], holder.pid)
        self.assert_used_by(row, holder)
        self.assert_not_stale(name)
        text = self.expect(self.cove("stat", name), DONE).stdout
        self.assertRegex(text, rf"(?m)^  made by +{os.getpid()} \(")
        self.assertRegex(text, rf"(?m)^  last used by +{holder.pid} \(")
        self.assertRegex(text, rf"(?m)^ +{holder.pid}  python")
        self.expect(self.cove("rm", name), FAILED, f"in use by python.* \\({holder.pid}\\)")
        self.expect(self.cove("rm", "-f", name), DONE)
        row = self.row(f"sysv:id={identifier}")  # it goes with the last attachment, and has no key any more
        self.assertEqual((row["state"], row["attachments"]), ("removed", 1))
        self.assert_used_by(row, holder)
        holder.kill()
        holder.wait()
        self.assertIsNone(self.row(f"sysv:id={identifier}"))

    def test_private_memory_is_known_by_its_id(self):
        identifier = foreign.shm_make(0, 4096)
        self.removers.append(lambda: foreign.shm_remove(identifier))
        self.assertEqual(self.row(f"sysv:id={identifier}")["key"], 0)
        self.expect(self.cove("stat", f"sysv:id={identifier}"), DONE)
        self.expect(self.cove("rm", f"sysv:id={identifier}"), DONE)
        self.expect(self.cove("rm", f"sysv:id={identifier}"), NONAME, "there is nothing of that name")

    def test_key_may_be_written_as_path_and_id_or_decimal(self):
        path = self.path("key")
        foreign.make_file(path, 0)
        key = foreign.good(foreign.libc.ftok(path.encode(), 7)) & 0xffffffff
        identifier = foreign.msg_make(key)
        self.removers.append(lambda: foreign.msg_remove(identifier))
        for name in (f"sysvmsg:{path}:7", f"sysvmsg:{key}", f"sysvmsg:0x{key:X}"):
            self.assertEqual(self.lines_of_json("stat", name)[0]["id"], identifier)
        self.expect(self.cove("stat", f"sysvmsg:{path}:8"), NONAME)
        # 263 & 255 is 7, and ftok counts 8 bits only.
        self.expect(self.cove("stat", f"sysvmsg:{path}:263"), USE, "a number of 1 to 255")
        for nonsense in ("nonsense", "", "0x", "0x123456789", "id=", "id=-1", "/none:7"):
            self.expect(self.cove("rm", "--force", "sysvmsg:" + nonsense), USE)
        self.assertEqual(self.row(f"sysvmsg:0x{key:x}")["id"], identifier)

    def test_queue_shows_messages_and_its_last_users(self):
        key, identifier = self.with_key(foreign.msg_make, foreign.msg_remove)
        name = f"sysvmsg:0x{key:x}"
        self.assertEqual(self.row(name)["use"], "unknown")
        holder = self.hold(f"send={identifier}")
        row = self.row(name)
        self.assertEqual((row["kind"], row["messages"], row["message_bytes"]), ("queue", 1, 17))
        self.assert_used_by(row, holder)
        self.expect(self.cove("rm", name), FAILED, f"\\({holder.pid}\\)")
        holder.kill()
        holder.wait()
        row = self.row(name)
        self.assertEqual((row["use"], row["sender_pid"], row["users"]), ("unknown", holder.pid, []))
        self.assertIn("gone", row["why"])
        self.assert_not_stale(name)  # nobody can tell who else knows its key
        self.assertRegex(self.cove("stat", name).stdout, rf"(?m)^  last sender +{holder.pid} \(gone\)$")
        self.expect(self.cove("rm", name), DONE)
        self.assertIsNone(self.row(name))


def sees_queues():
    process = subprocess.run([COVE, "ls"], capture_output=True, text=True)
    return "queues are not shown" not in process.stderr


class Queues(Machine):
    @unittest.skipUnless(sees_queues(), "POSIX queues cannot be listed here (mqueue is not mounted)")
    def test_posix_queue_shows_messages_and_users(self):
        name = self.name()
        queue = foreign.queue_make("/" + name)
        self.removers.append(lambda: foreign.queue_remove("/" + name))
        foreign.queue_send(queue, b"seventeen letters")
        os.close(queue)
        holder = self.hold("queue=/" + name)
        row = self.row("mq:/" + name)
        self.assertEqual((row["kind"], row["messages"], row["message_bytes"], row["mode"]), ("queue", 1, 17, 0o600))
        self.assert_used_by(row, holder)
        self.assert_not_stale("mq:/" + name)
        self.assertRegex(self.cove("stat", "mq:" + name).stdout, r"(?m)^  holds +\d+ messages of \d+ bytes$")
        self.expect(self.cove("rm", "mq:/" + name), FAILED, f"\\({holder.pid}\\)")
        holder.kill()
        holder.wait()
        self.assert_stale("mq:/" + name)
        self.expect(self.cove("rm", "mq:/" + name), DONE)
        self.expect(self.cove("rm", "mq:/" + name), NONAME)


class Names(Machine):
    def test_missing_things_are_status_4_with_a_question(self):
        name = self.posix()
        process = self.expect(self.cove("rm", f"posix:/{name}x"), NONAME)
        self.assertIn(f"did you mean posix:/{name}?", process.stderr)
        for missing in ("sem:/cove-none", "mq:/cove-none", "sysvmsg:id=999999999", "memfd:cove-none", "file:/none",
                        "sem:", "sysvsem:nonsense", "posix:/a/../../etc/passwd"):
            for verb in ("rm", "stat"):
                process = self.cove(verb, missing)
                self.assertIn(process.returncode, (NONAME, USE), (verb, missing, process.stderr))
                self.assert_message(process.stderr)

    def test_the_rest_is_removed_when_one_is_missing(self):
        first, last = self.posix(), self.posix()
        self.expect(self.cove("rm", "posix:/" + first, "posix:/none-" + first, "posix:/" + last), NONAME)
        self.assertFalse(os.path.exists("/dev/shm/" + first) or os.path.exists("/dev/shm/" + last))


class Movement(Machine):
    def churn(self, step):
        """Do it again and again beside the test."""
        done = threading.Event()

        def go_on():
            while not done.is_set():
                step()
        thread = threading.Thread(target=go_on)
        thread.start()
        return lambda: (done.set(), thread.join())

    def test_objects_that_come_and_go_are_rows_or_none(self):
        name = self.name()

        def step():
            path = "/dev/shm/" + name
            foreign.make_file(path, 4096)
            identifier = foreign.shm_make(0, 4096)
            queue, semaphores = foreign.msg_make(0), foreign.sem_make(0, 2)
            foreign.shm_remove(identifier)
            foreign.msg_remove(queue)
            foreign.sem_remove(semaphores)
            os.unlink(path)
        stop = self.churn(step)
        try:
            for _ in range(15):
                self.lines_of_json("ls")
                self.lines_of_json("ls", "--stale")
                self.assertIn(self.cove("stat", "posix:/" + name).returncode, (DONE, NONAME))
        finally:
            stop()

    def test_files_that_change_their_size_are_rows(self):
        self.use_own_directory()
        path = self.directory + "/moving.cove"
        self.expect(self.cove("create", "whole"), DONE)
        with open(self.directory + "/whole.cove", "rb") as file:
            whole = file.read()

        def step():
            with open(path, "wb") as file:
                file.write(whole[:random.randrange(len(whole))])
        stop = self.churn(step)
        try:
            for _ in range(15):
                self.lines_of_json("ls")
                self.assertGreaterEqual(self.cove("stat", "moving").returncode, 0)
        finally:
            stop()

    def test_processes_that_come_and_go_are_no_error(self):
        stop = self.churn(lambda: subprocess.run(["true"], check=True))
        try:
            for _ in range(10):
                self.lines_of_json("ls")
        finally:
            stop()


class Terminal(Machine):
    def on_terminal(self, columns, *words):
        """What the command prints on a terminal so wide: lines."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        process = subprocess.Popen([COVE, *words], stdin=subprocess.DEVNULL, stdout=slave, stderr=subprocess.DEVNULL,
                                   env=self.environment)
        os.close(slave)
        text = b""
        try:
            while chunk := os.read(master, 65536):
                text += chunk
        except OSError:
            pass  # the other end is closed
        os.close(master)
        self.assertEqual(process.wait(timeout=PATIENCE_S), DONE)
        return text.decode().splitlines()

    def test_rows_fit_the_terminal_and_are_whole_elsewhere(self):
        names = [self.posix() for _ in range(2)]
        for _ in range(6):
            self.hold("map=/dev/shm/" + names[0])
        for columns in (100, 120):
            lines = self.on_terminal(columns, "stat", "posix:/" + names[0]) + self.on_terminal(columns, "ls")
            row = [line for line in lines if line.startswith("posix:/" + names[0] + " ")][0]
            if len(row[:row.index("python")]) + 8 <= columns:
                self.assertLessEqual(len(row), columns)
                self.assertTrue(row.endswith("..."), row)
        whole = self.expect(self.cove("ls"), DONE).stdout.splitlines()
        row = [line for line in whole if line.startswith("posix:/" + names[0] + " ")][0]
        self.assertEqual(row.count("("), 6)
        heads = whole[0].split()
        self.assertEqual(heads, "NAME TYPE SIZE HOLDS MODE OWNER USED BY".split())


@unittest.skipUnless(os.geteuid() == 0 and shutil.which("setpriv"), "only root can become another user")
class Others(Machine):
    AS_NOBODY = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]

    def setUp(self):
        super().setUp()
        if subprocess.run([*self.AS_NOBODY, COVE, "version"], capture_output=True).returncode != 0:
            self.skipTest("another user may not run the command where it lies")

    def cove_as_nobody(self, *words):
        return subprocess.run([*self.AS_NOBODY, COVE, *words], capture_output=True, text=True,
                              env=dict(self.environment, COVE_DIR="/dev/shm"), timeout=PATIENCE_S)

    def rows_of_nobody(self, *options):
        process = self.cove_as_nobody("ls", "--json", *options)
        self.assertEqual(process.returncode, DONE, process.stderr)
        return {line["name"]: line for line in map(json.loads, process.stdout.splitlines())}

    def test_what_an_ordinary_user_cannot_see_is_unknown_and_never_stale(self):
        used, unused = self.posix(), self.posix()
        self.hold("map=/dev/shm/" + used)
        rows = self.rows_of_nobody()
        for name in (used, unused):
            self.assertEqual(rows["posix:/" + name]["use"], "unknown")
            self.assertIn("may not be looked at", rows["posix:/" + name]["why"])
        stale = self.rows_of_nobody("--stale")
        self.assertNotIn("posix:/" + used, stale)
        self.assertNotIn("posix:/" + unused, stale)

    def test_an_ordinary_user_is_told_of_his_own(self):
        used, unused = self.posix(), self.posix()
        for name in (used, unused):
            os.chown("/dev/shm/" + name, NOBODY, NOBODY)
        self.hold("map=/dev/shm/" + used)  # by root, which nobody cannot see into
        stale = self.rows_of_nobody("--stale")
        self.assertIn("posix:/" + unused, stale)
        self.assertNotIn("posix:/" + used, stale)
        self.assertEqual(self.rows_of_nobody()["posix:/" + used]["use"], "unknown")
        process = self.cove_as_nobody("rm", "posix:/" + used)
        self.assertEqual(process.returncode, FAILED)
        self.assertIn("in use by a process that is not shown", process.stderr)
        self.assertEqual(self.cove_as_nobody("rm", "posix:/" + unused).returncode, DONE)

    def test_an_ordinary_user_sees_his_own_processes(self):
        name = self.posix()
        os.chown("/dev/shm/" + name, NOBODY, NOBODY)
        # A shell, since python may lie where others cannot reach it; and one that began as that user, since who changes
        # users on the way is hidden from the new one.
        holder = subprocess.Popen([*self.AS_NOBODY, "sh", "-c", 'exec 3<"$0"; echo ready; read end', "/dev/shm/" + name],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.processes.append(holder)
        self.assertEqual(holder.stdout.readline(), b"ready\n")
        self.assert_used_by(self.rows_of_nobody()["posix:/" + name], holder)
        self.assert_used_by(self.row("posix:/" + name), holder)
        self.assertEqual(self.row("posix:/" + name)["users"][0]["uid"], NOBODY)

    def test_anothers_things_are_not_removed_without_force_and_right(self):
        name = self.posix()
        process = self.cove_as_nobody("rm", "posix:/" + name)
        self.assertEqual(process.returncode, FAILED)
        self.assertIn("it belongs to root; --force", process.stderr)
        process = self.cove_as_nobody("rm", "--force", "posix:/" + name)
        self.assertEqual(process.returncode, FAILED)
        self.assertIn("it cannot be removed", process.stderr)
        os.chown("/dev/shm/" + name, NOBODY, NOBODY)
        self.expect(self.cove("rm", "posix:/" + name), FAILED, "it belongs to nobody; --force")
        self.expect(self.cove("rm", "--force", "posix:/" + name), DONE)

    def test_figures_that_may_not_be_read_are_left_out(self):
        semaphore = self.name()
        foreign.named_semaphore("/" + semaphore, 3)
        self.removers.append(lambda: os.unlink("/dev/shm/sem." + semaphore))
        key, _ = self.with_key(foreign.sem_make, foreign.sem_remove, 2)
        rows = self.rows_of_nobody()
        self.assertNotIn("value", rows["sem:/" + semaphore])
        self.assertEqual(rows[f"sysvsem:0x{key:x}"]["use"], "unknown")
        self.assertIn("no right", rows[f"sysvsem:0x{key:x}"]["why"])

    def test_queues_that_cannot_be_listed_are_told_with_the_command_that_mounts_them(self):
        if "mqueue" in open_text("/proc/self/mounts"):
            self.skipTest("mqueue is mounted here")
        process = self.cove_as_nobody("ls")
        self.assertIn("sudo mount -t mqueue none /dev/mqueue", process.stderr)
        process = self.cove_as_nobody("stat", "mq:/cove-none")
        self.assertEqual(process.returncode, NONAME)
        self.assertIn("sudo mount -t mqueue", process.stderr)


def open_text(path):
    with open(path) as file:
        return file.read()


def can(*words):
    return bool(shutil.which("unshare")) and subprocess.run(["unshare", *words], capture_output=True).returncode == 0


@unittest.skipUnless(can("--mount", "--ipc", "--pid", "--fork", "mount", "-t", "tmpfs", "none", "/mnt"),
                     "no namespaces of our own here")
class Namespaces(Machine):
    def run_in(self, options, script, *arguments, **environment):
        process = subprocess.run(["unshare", *options, "sh", "-c", script, COVE, *arguments], capture_output=True,
                                 text=True, env=dict(self.environment, **environment), timeout=PATIENCE_S)
        if "Sanitizer has encountered" in process.stderr:
            self.skipTest("a sanitizer needs /proc")
        return process

    def rows_in(self, options, script, *arguments):
        process = self.run_in(options, script, *arguments)
        self.assertEqual(process.returncode, DONE, process.stderr)
        return {line["name"]: line for line in map(json.loads, process.stdout.splitlines())}

    def test_empty_machine_says_so(self):
        script = 'mount -t tmpfs none /dev/shm && "$0" ls && "$0" ls --json && "$0" ls --stale'
        process = self.run_in(["--mount", "--ipc", "--pid", "--fork", "--mount-proc"], script, COVE_DIR="/dev/shm")
        self.assertEqual((process.returncode, process.stdout), (DONE, ""), process.stderr)
        self.assertEqual(process.stderr.count("nothing is shared on this machine"), 2, process.stderr)

    def test_users_outside_of_a_pid_namespace_are_not_called_dead(self):
        used, unused = self.posix(), self.posix()
        self.hold("map=/dev/shm/" + used)
        inside = ["--mount", "--pid", "--fork", "--mount-proc"]
        rows = self.rows_in(inside, '"$0" ls --json')
        for name in (used, unused):
            self.assertEqual(rows["posix:/" + name]["use"], "unknown")
            self.assertIn("outside of this PID namespace", rows["posix:/" + name]["why"])
        rows = self.rows_in(inside, '"$0" ls --stale --json')
        self.assertNotIn("posix:/" + used, rows)
        self.assertIn("posix:/" + unused, rows)

    def test_member_outside_of_a_pid_namespace_uses_its_segment(self):
        self.use_own_directory()
        reader = self.start("read", "robot/a")
        self.wait_for_members("robot", 1)
        inside = ["--mount", "--pid", "--fork", "--mount-proc"]
        row = self.rows_in(inside, '"$0" ls --json')["robot"]
        self.assertEqual((row["use"], row["members_alive"], row["users"]), ("used", 1, []))
        self.assertRegex(self.run_in(inside, '"$0" ls').stdout, r"(?m)^robot .* 1 not shown$")
        self.assertIsNone(reader.poll())

    def test_without_proc_nothing_is_called_unused_unasked(self):
        name = self.posix()
        key, identifier = self.with_key(foreign.shm_make, foreign.shm_remove, 4096)
        self.hold(f"shm={identifier}")
        rows = self.rows_in(["--mount"], 'mount -t tmpfs none /proc && "$0" ls --json')
        self.assertEqual(rows["posix:/" + name]["use"], "unknown")
        self.assertIn("/proc does not show this process", rows["posix:/" + name]["why"])
        self.assertEqual(rows[f"sysv:0x{key:x}"]["use"], "used")

    def test_hidden_processes_are_told(self):
        name = self.posix()
        process = self.run_in(["--mount", "--pid", "--fork"],
                              'mount -t proc -o hidepid=2 none /proc && '
                              'setpriv --reuid 65534 --regid 65534 --clear-groups "$0" ls --json', COVE_DIR="/dev/shm")
        if process.returncode != DONE:
            self.skipTest("no hidepid here: " + process.stderr)
        rows = {line["name"]: line for line in map(json.loads, process.stdout.splitlines())}
        self.assertEqual(rows["posix:/" + name]["use"], "unknown")
        self.assertIn("hidepid", rows["posix:/" + name]["why"])

    def test_files_in_huge_pages_are_listed_by_the_names_that_others_take(self):
        script = ('mkdir "$1" && mount -t hugetlbfs none "$1" && touch "$1/frame.cove" "$1/other" && "$0" ls --json && '
                  '"$0" rm huge:frame "file:$1/other" && ls "$1" >&2')
        process = self.run_in(["--mount"], script, self.path("huge"))
        if "hugetlbfs" in process.stderr:
            self.skipTest("no huge pages here: " + process.stderr)
        self.assertEqual((process.returncode, process.stderr), (DONE, ""))
        rows = {line["name"]: line for line in map(json.loads, process.stdout.splitlines())}
        self.assertEqual(rows["file:" + self.path("huge") + "/other"]["kind"], "region")
        if "hugetlbfs" not in open_text("/proc/self/mounts"):  # else huge: leads to that mount
            self.assertEqual(rows["huge:frame"]["backend"], "huge")

    def test_mounted_queues_are_listed_as_those_of_this_namespace(self):
        script = ('mkdir -p "$1" && mount -t mqueue none "$1" && touch "$1/jobs" && "$0" ls --json && "$0" rm mq:/jobs && '
                  'ls "$1" >&2')
        process = self.run_in(["--mount", "--ipc"], script, self.path("queues"))
        self.assertEqual((process.returncode, process.stderr), (DONE, ""))
        self.assertEqual([line["messages"] for line in map(json.loads, process.stdout.splitlines())
                          if line["name"] == "mq:/jobs"], [0])


if __name__ == "__main__":
    main()
