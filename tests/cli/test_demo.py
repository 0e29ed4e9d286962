# test_demo.py - `cove demo`: everything agrees, in ten seconds, and nothing is left behind, also when interrupted.
# SPDX-License-Identifier: Apache-2.0 OR MIT

import os
import re
import signal
import time

from trial import DONE, SCALE, Trial, main


class Demo(Trial):
    def children_of(self, pid):
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]

    def is_gone(self, pid):
        """Dead; a container without an init may keep the zombie of an orphan."""
        try:
            with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
                return file.read().rpartition(")")[2].split()[0] in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return True

    def test_demo_agrees_within_ten_seconds_and_leaves_nothing(self):
        began = time.monotonic()
        process = self.expect(self.cove("demo"), DONE)
        took = time.monotonic() - began
        print(process.stdout, flush=True)
        self.assertLess(took, 10 * SCALE)
        crcs = re.findall(r"checksum ([0-9a-f]{8})", process.stdout)
        self.assertEqual(len(crcs), 3)
        self.assertEqual(len(set(crcs)), 1)
        self.assertIn("sees 1000 and 1000", process.stdout)
        self.assertEqual(os.listdir(self.directory), [])

    def interrupt_after(self, text):
        demo = self.start("demo")
        seen = b""
        while text not in seen:
            piece = os.read(demo.stdout.fileno(), 4096)
            self.assertTrue(piece, seen)
            seen += piece
        actors = self.children_of(demo.pid)
        demo.send_signal(signal.SIGINT)
        self.assertEqual(self.finish(demo)[0], -signal.SIGINT)
        self.assertEqual(os.listdir(self.directory), [])
        for actor in actors:
            self.assertTrue(self.is_gone(actor), "an actor stayed")

    def test_interrupted_demo_leaves_nothing(self):
        for text in (b"SIGKILL", b"A reader is killed", b"A writer is killed", b"The holder of a lock is killed"):
            with self.subTest(text=text):
                self.interrupt_after(text)

    def test_killed_demo_takes_its_actors_along_and_gc_removes_its_segment(self):
        demo = self.start("demo")
        seen = b""
        while b"A reader is killed" not in seen:
            seen += os.read(demo.stdout.fileno(), 4096)
        self.wait_until(lambda: self.children_of(demo.pid), "there are actors")
        actors = self.children_of(demo.pid)
        demo.kill()
        demo.wait()
        for actor in actors:
            self.wait_until(lambda: self.is_gone(actor), "the actor is gone")
        self.expect(self.cove("gc"), DONE)
        self.assertEqual(os.listdir(self.directory), [])

    def test_no_room_is_a_sentence(self):
        self.environment["COVE_DIR"] = self.directory + "/none"
        process = self.cove("demo")
        self.assertNotEqual(process.returncode, DONE)
        self.assert_message(process.stderr)


if __name__ == "__main__":
    main()
