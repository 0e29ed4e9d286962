# trial.py - what the command's tests share: a directory of segments of their own, processes, conditions.
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# Each test has its own COVE_DIR on /dev/shm. After it, no process of its own runs, and the directory holds nothing
# but whole segments: what a killed command leaves is no debris.

import json
import os
import shutil
import subprocess
import tempfile
import time
import unittest

COVE = os.environ.get("COVE_COMMAND", "cove")
SOURCE = os.environ.get("COVE_SOURCE", os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
SCALE = int(os.environ.get("COVE_TEST_SCALE", "1"))
PATIENCE_S = 30 * SCALE

DONE, FAILED, USE, TIMEOUT, NONAME = range(5)


class Trial(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="cove-cli-", dir="/dev/shm")
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.scratch = tempfile.mkdtemp(prefix="cove-cli-")
        self.addCleanup(shutil.rmtree, self.scratch, ignore_errors=True)
        self.environment = dict(os.environ, COVE_DIR=self.directory, LC_ALL="C")
        self.processes = []
        self.foreign_files = set()  # what the test itself put into the directory

    def tearDown(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe and not pipe.closed:
                    pipe.close()
        debris = [name for name in os.listdir(self.directory)
                  if not name.endswith(".cove") and name not in self.foreign_files]
        self.assertEqual(debris, [], "left behind in the directory of segments")

    # ---- running the command ----

    def cove(self, *words, **options):
        """Run to the end. Returns the process with .returncode, .stdout, .stderr (text, or bytes with text=False)."""
        options.setdefault("text", True)
        options.setdefault("stdin", None if "input" in options else subprocess.DEVNULL)
        if "stdout" not in options:
            options["stdout"] = subprocess.PIPE
        return subprocess.run([COVE, *words], stderr=subprocess.PIPE, env=self.environment,
                              timeout=PATIENCE_S, **options)

    def start(self, *words, **options):
        """Start in the background: bytes, pipes unless told otherwise."""
        for name in ("stdin", "stdout", "stderr"):
            options.setdefault(name, subprocess.PIPE)
        process = subprocess.Popen([COVE, *words], env=self.environment, **options)
        self.processes.append(process)
        return process

    def finish(self, process):
        """Wait for a started process. Returns its status, output and messages."""
        output, messages = process.communicate(timeout=PATIENCE_S)
        return process.returncode, output, messages.decode() if messages is not None else ""

    # ---- what is expected ----

    def expect(self, process, status, message=None):
        self.assertEqual(process.returncode, status, f"{process.args}: {process.stdout!r} {process.stderr!r}")
        if message is not None:
            self.assertRegex(process.stderr, message)
        if process.stderr:
            self.assert_message(process.stderr)
        return process

    def assert_message(self, text):
        """Every line is `cove: NAME: sentence`, and nothing in it can move a cursor."""
        for line in text.splitlines():
            self.assertRegex(line, r"^cove: [^:]+(:\S*?)?: .+")
            self.assertTrue(line.isprintable(), ascii(line))

    def lines_of_json(self, *words):
        process = self.expect(self.cove(*words, "--json"), DONE)
        lines = [json.loads(line) for line in process.stdout.splitlines()]
        for line in lines:
            self.assertEqual(line["version"], 1)
            self.assertIn("kind", line)
        return lines

    def stream_figures(self, name):
        return self.lines_of_json("stat", name)[0]["figures"]

    def wait_until(self, condition, what):
        end = time.monotonic() + PATIENCE_S
        while True:
            value = condition()
            if value:
                return value
            self.assertLess(time.monotonic(), end, f"waited in vain until {what}")
            time.sleep(0.005)

    def wait_for_members(self, segment, count):
        def there():
            process = self.cove("stat", segment, "--json")
            if process.returncode != DONE:
                return False
            return json.loads(process.stdout.splitlines()[0])["members_alive"] == count
        self.wait_until(there, f"{segment} has {count} members")

    def path(self, name):
        return os.path.join(self.scratch, name)

    def make_file(self, name, size_bytes):
        """A file of random bytes, no piece of which is there twice."""
        path = self.path(name)
        with open(path, "wb") as file:
            for at in range(0, size_bytes, 1 << 20):
                file.write(os.urandom(min(1 << 20, size_bytes - at)))
        return path


def main():
    unittest.main(verbosity=2)
