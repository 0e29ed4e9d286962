# test_lock.py - `cove lock`: commands under locks of every type, passed-on signals, job control, and kills.
# SPDX-License-Identifier: Apache-2.0 OR MIT

import os
import pty
import signal
import subprocess
import sys
import time

from trial import COVE, DONE, PATIENCE_S, Trial, main

TIMED_OUT, COVE_FAILED, UNFIT, MISSING, SIGNALLED = 124, 125, 126, 127, 128
KILLS = 200
LOCK = "x/arm"


class Locking(Trial):
    """A command that says when it runs, and runs until it is told to end: `sh -c 'echo in; read line'`."""

    HOLD = ("sh", "-c", "echo in; read line")

    def run_in(self, *options, command=HOLD, name=LOCK, **more):
        return self.start("lock", name, *options, "--", *command, **more)

    def await_line(self, process, line=b"in\n"):
        got = process.stdout.readline()
        if got != line:
            self.fail(f"{got!r}: {process.stderr.read().decode() if process.poll() is not None else 'still there'}")

    def holder(self, *options, **more):
        process = self.run_in(*options, **more)
        self.await_line(process)
        return process

    def release(self, process):
        """Tell it to end. Returns its status and messages."""
        process.stdin.write(b"\n")
        status, _, messages = self.finish(process)
        return status, messages

    def is_free(self, name=LOCK, *options):
        status = self.cove("lock", name, *options, "--timeout", "0", "--", "true").returncode
        self.assertIn(status, (DONE, TIMED_OUT))
        return status == DONE

    def figures(self, name=LOCK):
        return self.lines_of_json("stat", name)[0]["figures"]

    def wait_for_waiters(self, count, name=LOCK):
        self.wait_until(lambda: self.figures(name)["waiters"] == count, f"{count} wait for {name}")


class Use(Locking):
    def test_command_runs_with_its_words_and_its_own_streams(self):
        process = self.cove("lock", LOCK, "--", "sh", "-c", 'echo "$#" "$2"; cat; echo err >&2', "sh", "a b", "--timeout",
                            input="text\n")
        self.assertEqual((process.returncode, process.stdout), (DONE, "2 --timeout\ntext\n"))
        self.assertEqual(process.stderr, "cove: x/arm: mutex created\nerr\n")

    def test_status_is_the_commands_own(self):
        for number in (0, 1, 2, 3, 4, 77, 255):
            self.assertEqual(self.cove("lock", LOCK, "--", "sh", "-c", f"exit {number}").returncode, number)
        self.assertEqual(self.cove("lock", LOCK, "--", "sh", "-c", "kill -9 $$").returncode,
                         SIGNALLED + signal.SIGKILL)
        self.assertEqual(self.cove("lock", LOCK, "--", "sh", "-c", "kill -TERM $$").returncode,
                         SIGNALLED + signal.SIGTERM)

    def test_command_that_is_missing_or_unfit_is_a_sentence(self):
        self.expect(self.cove("create", LOCK, "--type", "mutex"), DONE)
        self.expect(self.cove("lock", LOCK, "--", "no-such-command"), MISSING, "^cove: no-such-command: .*No such file")
        self.expect(self.cove("lock", LOCK, "--", "/dev/null"), UNFIT, "^cove: /dev/null: .*Permission denied")
        self.expect(self.cove("lock", LOCK, "--", ""), MISSING, "cannot be run")
        self.assertTrue(self.is_free())

    def test_wrong_use_is_a_sentence_and_never_a_status_that_a_command_has(self):
        for words, message in [
            ([], "a name is missing; use: cove lock SEGMENT/LOCK -- COMMAND"),
            (["--", "true"], "a name is missing; use: cove lock SEGMENT/LOCK -- COMMAND"),
            ([LOCK], "the command is missing; use: cove lock SEGMENT/LOCK -- COMMAND"),
            ([LOCK, "--"], "the command is missing"),
            ([LOCK, "true"], "true: the command stands behind '--': cove lock x/arm -- true"),
            ([LOCK, "ls", "-l"], "-l: there is no such option; the command and its options stand behind '--'"),
            ([LOCK, "more", "--", "true"], "more: one word too many"),
            ([LOCK, "--frob", "--", "true"], "--frob: there is no such option; 'cove help lock'"),
            ([LOCK, "--timeout", "3", "--", "true"], "'3' is not a time"),
            ([LOCK, "--timeout", "--", "true"], "--timeout: this option wants a value"),
            ([LOCK, "--permits", "0", "--", "true"], "'0' is not possible; say a number from 1 to 1073741823"),
            ([LOCK, "--permits", "two", "--", "true"], "'two' is not possible"),
            ([LOCK, "--permits", "1073741824", "--", "true"], "is not possible"),
            ([LOCK, "--permits", "2", "--shared", "--", "true"], "say --shared or --permits"),
            (["x", "--", "true"], "a lock's name is SEGMENT/LOCK; say x/NAME"),
            (["/x", "--", "true"], "does not begin with '/'"),
            (["x/a b", "--", "true"], "x/a b: "),
            (["memfd:/x", "--", "true"], "memfd:/x: "),
            (["memfd://x", "--", "true"], "memfd://x: "),
        ]:
            with self.subTest(words=words):
                self.expect(self.cove("lock", *words), COVE_FAILED, message)
        self.assertEqual([name for name in os.listdir(self.directory) if name != "x.cove"], [])
        self.assertEqual(self.cove("stat", LOCK).returncode, 4, "wrong use created the lock")

    def test_existing_creates_nothing_and_asks_about_near_names(self):
        self.expect(self.cove("lock", LOCK, "--existing", "--", "true"), COVE_FAILED, "x/arm: ")
        self.assertEqual(os.listdir(self.directory), [])
        self.expect(self.cove("create", "x/camera", "--type", "mutex"), DONE)
        self.expect(self.cove("lock", "x/camrea", "--existing", "--", "true"), COVE_FAILED, "did you mean x/camera\\?")
        self.expect(self.cove("lock", "x/camera", "--existing", "--", "true"), DONE)
        self.expect(self.cove("lock", "x/camrea", "--", "true"), DONE, "mutex created; did you mean x/camera\\?")

    def test_object_of_another_type_is_a_sentence(self):
        self.expect(self.cove("write", "x/log", input="text"), DONE)
        self.expect(self.cove("lock", "x/log", "--", "true"), COVE_FAILED,
                    "x/log: its type is stream; a command is run under a mutex, an rwlock or a semaphore")
        self.expect(self.cove("signal", "x/go"), DONE)
        self.expect(self.cove("lock", "x/go", "--", "true"), COVE_FAILED, "its type is event")
        self.expect(self.cove("create", "x/m", "--type", "mutex"), DONE)
        self.expect(self.cove("lock", "x/m", "--shared", "--", "true"), COVE_FAILED, "only an rwlock can be shared")
        self.expect(self.cove("lock", "x/m", "--permits", "2", "--", "true"), COVE_FAILED, "only a semaphore has permits")
        self.expect(self.cove("create", "x/s", "--type", "semaphore", "--permits", "1"), DONE)
        self.expect(self.cove("lock", "x/s", "--shared", "--", "true"), COVE_FAILED, "only an rwlock can be shared")

    def test_segment_of_another_user_wants_any_owner(self):
        if os.geteuid() != 0:
            self.skipTest("only root can give a segment away")
        self.expect(self.cove("create", LOCK, "--type", "mutex"), DONE)
        os.chown(os.path.join(self.directory, "x.cove"), 65534, 65534)
        self.expect(self.cove("lock", LOCK, "--", "true"), COVE_FAILED, "say --any-owner if you trust that user")
        self.expect(self.cove("lock", LOCK, "--any-owner", "--", "true"), DONE)

    def test_command_inherits_the_descriptor_that_keeps_the_lock_and_a_pipe(self):
        script = "ls -l /proc/$$/fd | sed -n 's/.* \\([0-9]*\\) -> \\(.*\\)/\\1 \\2/p'"
        listed = [line.split(" ", 1) for line in self.cove("lock", LOCK, "--", "sh", "-c", script).stdout.splitlines()]
        names = sorted(name.split(":")[0] for number, name in listed if int(number) > 2 and name != "/dev/null")
        ours = [int(number) for number, name in listed if int(number) > 2 and name.startswith(self.directory)]
        self.assertEqual(len(ours), 1, listed)
        self.assertGreaterEqual(ours[0], 10)
        self.assertNotIn("socket", names)


class Types(Locking):
    def test_mutex_has_one_holder_and_names_it_to_who_times_out(self):
        holder = self.holder()
        self.assertFalse(self.is_free())
        process = self.expect(self.cove("lock", LOCK, "--timeout", "50ms", "--", "echo", "no"), TIMED_OUT,
                              rf"^cove: x/arm: cove \(pid {holder.pid}, thread {holder.pid}\) holds the lock")
        self.assertEqual(process.stdout, "")
        self.assertEqual(self.figures()["holder"], "cove")
        self.assertEqual(self.figures()["pid"], holder.pid)
        self.assertEqual(self.release(holder)[0], DONE)
        self.assertEqual(self.figures()["holder"], "none")
        self.assertTrue(self.is_free())

    def test_waiter_goes_on_when_the_holder_ends(self):
        holder, waiter = self.holder(), self.run_in(command=("echo", "mine"))
        self.wait_for_waiters(1)
        self.release(holder)
        self.assertEqual(self.finish(waiter), (DONE, b"mine\n", ""))

    def test_rwlock_is_shared_by_readers_and_had_alone_by_a_writer(self):
        readers = [self.holder("--shared") for _ in range(3)]
        self.assertEqual(self.figures()["readers"], 3)
        self.assertTrue(self.is_free(LOCK, "--shared"))
        self.assertFalse(self.is_free(LOCK))
        for reader in readers:
            self.assertEqual(self.release(reader)[0], DONE)
        writer = self.holder()  # the lock is there: without --shared it is taken to write
        self.assertFalse(self.is_free(LOCK, "--shared"))
        self.assertFalse(self.is_free(LOCK))
        self.release(writer)
        self.assertEqual(self.lines_of_json("stat", LOCK)[0]["type"], "rwlock")

    def test_semaphore_lets_so_many_in_and_takes_permits_back_from_the_dead(self):
        first, second = self.holder("--permits", "2"), self.holder("--permits", "2")
        self.assertFalse(self.is_free(LOCK, "--permits", "2"))
        self.assertFalse(self.is_free(LOCK))  # its own type decides
        first.kill()
        first.wait()
        self.wait_until(lambda: self.is_free(LOCK), "the permit is back")
        self.assertEqual(self.release(second)[0], DONE)
        self.assertEqual(self.figures()["free"], 2)
        third = self.holder("--permits", "5")  # one that is there keeps its permits
        self.assertEqual((self.figures()["permits"], self.figures()["free"]), (2, 1))
        self.release(third)

    def test_every_backend_that_has_names_has_locks(self):
        self.foreign_files |= {"y", ".cove-sysv-"}
        for name in ("posix:/y//arm", f"file:{self.path('z')}//arm"):
            with self.subTest(name=name):
                holder = self.holder(name=name)
                self.assertFalse(self.is_free(name))
                holder.kill()
                holder.wait()
                self.expect(self.cove("lock", name, "--timeout", "20s", "--", "true"), DONE, "the holder before died")


class Killed(Locking):
    def test_killed_holder_ends_its_command_and_the_next_is_told(self):
        holder = self.holder(command=("sh", "-c", "echo in; exec sleep 1000"))
        waiter = self.run_in(command=("echo", "mine"))
        self.wait_for_waiters(1)
        holder.kill()
        self.assertEqual(holder.stdout.read(), b"")  # the command had its other end: it is gone
        status, output, messages = self.finish(waiter)
        self.assertEqual((status, output), (DONE, b"mine\n"))
        self.assertRegex(messages, "^cove: x/arm: the holder before died without giving it back; .*\n$")
        self.assertEqual(self.cove("lock", LOCK, "--", "true").stderr, "", "told once")
        self.expect(self.cove("doctor", "x"), DONE)

    def test_no_two_commands_run_at_once_however_often_the_holder_is_killed(self):
        # Whoever runs holds an flock of its own, and fails where it finds that held.
        command = ("flock", "--nonblock", "--no-fork", "--conflict-exit-code", "77", self.path("proof"),
                   "sh", "-c", "echo in; exec sleep 1000")
        holder = self.holder(command=command)
        for _ in range(KILLS):
            waiter = self.run_in(command=command)
            self.wait_for_waiters(1)
            holder.kill()
            self.await_line(waiter)
            self.assertEqual(holder.stdout.read(), b"")
            self.finish(holder)
            self.processes.remove(holder)
            holder = waiter
        holder.kill()

    def test_what_a_killed_holders_command_started_keeps_the_lock(self):
        # Killed with us is the command alone. Its child goes on, and with it the lock.
        holder = self.holder(command=("sh", "-c", "exec 3<&0; sh -c 'echo in; read line; echo out' <&3 & wait"))
        holder.kill()
        holder.wait()
        self.expect(self.cove("lock", LOCK, "--timeout", "100ms", "--", "true"), TIMED_OUT)
        holder.stdin.write(b"\n")
        holder.stdin.flush()
        self.await_line(holder, b"out\n")
        self.expect(self.cove("lock", LOCK, "--timeout", f"{PATIENCE_S}s", "--", "true"), DONE, "the holder before died")

    def keeper(self, close=""):
        """A command whose child lives on until it reads a line."""
        command = self.run_in(command=("sh", "-c", f"exec 3<&0; {{ {close} echo in; read line; }} <&3 & exit 5"))
        self.await_line(command)
        return command

    def test_what_the_command_leaves_running_keeps_the_lock_until_it_ends(self):
        command = self.keeper()
        self.assertEqual(command.wait(PATIENCE_S), 5)
        self.assertEqual(command.stderr.readline(), b"cove: x/arm: mutex created\n")
        self.assertEqual(command.stderr.readline(),
                         b"cove: x/arm: what the command started goes on, and has the lock until it ends\n")
        self.assertFalse(self.is_free())
        listed = [line for line in self.lines_of_json("ls") if line["name"] == "x"]
        self.assertEqual([user["command"] for user in listed[0]["users"]], ["sh"])
        self.expect(self.cove("doctor", "x"), DONE)
        command.stdin.write(b"\n")
        command.stdin.flush()
        self.expect(self.cove("lock", LOCK, "--timeout", f"{PATIENCE_S}s", "--", "true"), DONE)

    def test_script_that_uses_small_descriptors_keeps_the_lock(self):
        command = self.keeper("".join(f"exec {number}>&-; " for number in range(3, 10)))
        self.assertEqual(command.wait(PATIENCE_S), 5)
        self.assertFalse(self.is_free())
        command.stdin.write(b"\n")

    def test_child_that_closes_all_descriptors_keeps_nothing(self):
        script = "import os; os.closerange(3, 64); print('in', flush=True); input()"
        command = self.run_in(command=("sh", "-c", f'exec 3<&0; {sys.executable} -c "{script}" <&3 & exit 5'))
        self.await_line(command, b"in\n")
        self.assertEqual(command.wait(PATIENCE_S), 5)
        self.assertTrue(self.is_free())

    def test_stopped_holder_keeps_the_lock(self):
        holder = self.holder()
        holder.send_signal(signal.SIGSTOP)
        self.expect(self.cove("lock", LOCK, "--timeout", "50ms", "--", "true"), TIMED_OUT)
        holder.send_signal(signal.SIGCONT)
        self.assertEqual(self.release(holder)[0], DONE)
        self.assertTrue(self.is_free())

    def test_killed_waiter_harms_nobody(self):
        holder = self.holder()
        for _ in range(5):
            waiter = self.run_in()
            self.wait_for_waiters(1)
            waiter.kill()
            waiter.wait()
        last = self.run_in(command=("echo", "mine"))
        self.release(holder)
        self.assertEqual(self.finish(last)[:2], (DONE, b"mine\n"))


class Signals(Locking):
    LINGERING = ("import signal, sys\n"
                 "def on(*_):\n"
                 "    print('got', flush=True)\n"
                 "    sys.stdin.readline()\n"
                 "    sys.exit(3)\n"
                 "signal.signal(int(sys.argv[1]), on)\n"
                 "print('in', flush=True)\n"
                 "while True:\n"
                 "    signal.pause()\n")

    def test_signals_are_passed_on_and_the_lock_is_held_until_the_command_has_ended(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
            with self.subTest(signal=number):
                holder = self.holder(command=(sys.executable, "-c", self.LINGERING, str(int(number))))
                holder.send_signal(number)
                self.await_line(holder, b"got\n")
                self.assertFalse(self.is_free())
                self.assertEqual(self.release(holder)[0], 3)
                self.assertTrue(self.is_free())

    def test_signal_that_the_command_dies_of_is_in_the_status(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            holder = self.holder(command=("sh", "-c", "echo in; exec sleep 1000"))
            holder.send_signal(number)
            self.assertEqual(holder.wait(PATIENCE_S), SIGNALLED + number)
            self.assertTrue(self.is_free())

    def test_signals_end_a_wait_as_they_end_programs(self):
        holder = self.holder()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            waiter = self.run_in(command=("echo", "no"))
            self.wait_for_waiters(1)
            began = time.monotonic()
            waiter.send_signal(number)
            self.assertEqual(self.finish(waiter), (-number, b"", ""))
            self.assertLess(time.monotonic() - began, PATIENCE_S / 3)
        self.wait_for_waiters(0)
        self.assertEqual(self.release(holder)[0], DONE)

    def test_shell_sees_130_of_an_interrupted_wait(self):
        self.holder()
        shell = subprocess.Popen(["sh", "-c", '"$0" lock x/arm -- true; echo $?', COVE], env=self.environment,
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        self.processes.append(shell)
        self.wait_for_waiters(1)
        pid = int(subprocess.run(["ps", "-o", "pid=", "--ppid", str(shell.pid)], stdout=subprocess.PIPE,
                                 check=True).stdout.split()[0])
        os.kill(pid, signal.SIGTERM)
        self.assertEqual(shell.communicate(timeout=PATIENCE_S)[0], b"143\n")

    def test_what_the_caller_ignores_the_command_ignores(self):
        def ignore():
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        holder = self.holder(command=("sh", "-c", "kill -HUP $$; echo in; read line; exit 6"), preexec_fn=ignore)
        holder.send_signal(signal.SIGHUP)
        self.assertEqual(self.release(holder)[0], 6)

    def test_signals_that_the_caller_blocked_are_blocked_in_the_command(self):
        command = ("lock", LOCK, "--", "grep", "SigBlk", "/proc/self/status")
        plain = self.cove(*command).stdout.split()[1]
        blocked = self.cove(*command, preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2}))
        blocked = blocked.stdout.split()[1]
        self.assertEqual(int(plain, 16), 0)
        self.assertEqual(int(blocked, 16), 1 << (signal.SIGUSR2 - 1))


class Terminal(Locking):
    """`cove lock` as a job in the foreground of a terminal, whose shell is the test."""

    def start_job(self, *command):
        """Returns its pid, and the terminal's other end."""
        pid, terminal = pty.fork()
        if pid == 0:  # the leader of the terminal's session: a shell that starts one job and reports on it
            self.be_shell(command)
        self.addCleanup(os.close, terminal)
        self.addCleanup(self.end_job, pid)
        self.shown = b""
        return pid, terminal

    def be_shell(self, command):
        try:
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            job = os.fork()
            if job == 0:
                os.setpgid(0, 0)
                os.tcsetpgrp(0, os.getpgrp())
                signal.signal(signal.SIGTTOU, signal.SIG_DFL)
                os.execvpe(COVE, [COVE, "lock", LOCK, "--", *command], self.environment)
            while True:
                _, status = os.waitpid(job, os.WUNTRACED)
                if not os.WIFSTOPPED(status):
                    break
                os.tcsetpgrp(0, os.getpgrp())
                print(f"stopped {os.WSTOPSIG(status)}", flush=True)
                input()  # fg
                os.tcsetpgrp(0, job)
                os.killpg(job, signal.SIGCONT)
            os.tcsetpgrp(0, os.getpgrp())
            print(f"ended {os.waitstatus_to_exitcode(status)}", flush=True)
        finally:
            os._exit(0)

    def end_job(self, pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.waitpid(pid, 0)

    def await_text(self, terminal, text):
        os.set_blocking(terminal, False)

        def seen():
            try:
                self.shown += os.read(terminal, 4096)
            except OSError:
                pass
            return text in self.shown
        self.wait_until(seen, f"the terminal shows {text!r}")
        self.shown = self.shown[self.shown.index(text) + len(text):]

    COUNTING = ("import signal, sys\n"
                "count = 0\n"
                "def on(*_):\n"
                "    global count\n"
                "    count += 1\n"
                "    print('interrupt', flush=True)\n"
                "signal.signal(signal.SIGINT, on)\n"
                "print('begun', flush=True)\n"
                "sys.stdin.readline()\n"
                "sys.exit(10 + count)\n")

    def test_ctrl_c_reaches_the_command_once(self):
        _, terminal = self.start_job(sys.executable, "-c", self.COUNTING)
        self.await_text(terminal, b"begun")
        os.write(terminal, b"\x03")
        self.await_text(terminal, b"interrupt")
        self.assertFalse(self.is_free())
        os.write(terminal, b"\n")
        self.await_text(terminal, b"ended 11")
        self.assertTrue(self.is_free())

    def test_ctrl_z_stops_both_and_fg_goes_on_with_both(self):
        _, terminal = self.start_job("sh", "-c", "echo begun; read line; echo got $line; exit 9")
        self.await_text(terminal, b"begun")
        for _ in range(3):
            os.write(terminal, b"\x1a")
            self.await_text(terminal, b"stopped %d" % signal.SIGTSTP)
            self.assertFalse(self.is_free())
            os.write(terminal, b"fg\n")
            self.wait_until(lambda: self.job_reads(), "the job reads again")
        os.write(terminal, b"word\n")
        self.await_text(terminal, b"got word")
        self.await_text(terminal, b"ended 9")
        self.assertTrue(self.is_free())

    def job_reads(self):
        """Is the holder, and its command, asleep and not stopped?"""
        pid = self.figures()["pid"]
        states = subprocess.run(["ps", "-o", "stat=", "-p", str(pid), "--ppid", str(pid)], stdout=subprocess.PIPE,
                                check=True, text=True).stdout.split()
        return len(states) == 2 and all(state[0] == "S" for state in states)

    def states(self, holder):
        return [line[0] for line in subprocess.run(
            ["ps", "-o", "stat=", "-p", str(holder.pid), "--ppid", str(holder.pid)], stdout=subprocess.PIPE, check=True,
            text=True).stdout.split()]

    def test_stop_and_continue_by_kill_go_through_both(self):
        # A group of its own, whose parent is in another: nothing else is stopped by SIGTSTP (an orphaned group is not).
        holder = self.holder(preexec_fn=lambda: os.setpgid(0, 0))
        holder.send_signal(signal.SIGTSTP)
        self.wait_until(lambda: self.states(holder) == ["T", "T"], "both are stopped")
        self.assertFalse(self.is_free())
        holder.send_signal(signal.SIGCONT)
        self.wait_until(lambda: self.states(holder) == ["S", "S"], "both go on")
        self.assertEqual(self.release(holder)[0], DONE)

    def test_command_that_somebody_stops_and_continues_does_not_leave_us_stopped(self):
        holder = self.holder()
        command = int(subprocess.run(["ps", "-o", "pid=", "--ppid", str(holder.pid)], stdout=subprocess.PIPE,
                                     check=True).stdout)
        os.kill(command, signal.SIGSTOP)
        self.wait_until(lambda: sorted(self.states(holder)) == ["S", "T"], "the command is stopped")
        os.kill(command, signal.SIGCONT)
        self.wait_until(lambda: self.states(holder) == ["S", "S"], "the command goes on")
        self.assertEqual(self.release(holder)[0], DONE)
        self.assertTrue(self.is_free())


if __name__ == "__main__":
    main()
