# test_signal.py - `cove signal`, `wait` and `count`, and what create, stat, ls and rm know of locks and meeting points.
# SPDX-License-Identifier: Apache-2.0 OR MIT

import json
import os
import signal
import subprocess
import time

from trial import COVE, DONE, FAILED, NONAME, PATIENCE_S, TIMEOUT, USE, Trial, main

TYPES = ["mutex", "rwlock", "semaphore", "event", "condition", "barrier", "once", "counter"]


class Meeting(Trial):
    def figures(self, name):
        return self.lines_of_json("stat", name)[0]["figures"]

    def wait_for_waiters(self, name, count):
        def there():
            process = self.cove("stat", name, "--json")
            return process.returncode == DONE and json.loads(process.stdout)["figures"]["waiters"] == count
        self.wait_until(there, f"{count} wait for {name}")

    def printed(self, *words):
        process = self.expect(self.cove(*words), DONE)
        return process.stdout


class Event(Meeting):
    def test_signal_sets_what_it_created_and_wait_prints_the_version(self):
        self.expect(self.cove("signal", "x/go"), DONE, "^cove: x/go: event created$")
        self.assertEqual(self.printed("wait", "x/go"), "1\n")
        self.assertEqual(self.printed("signal", "x/go"), "")
        self.assertEqual(self.printed("wait", "x/go"), "2\n")
        self.assertEqual(self.figures("x/go")["version"], 2)

    def test_waiter_may_come_first(self):
        waiter = self.start("wait", "x/go")
        self.wait_for_waiters("x/go", 1)
        self.expect(self.cove("signal", "x/go"), DONE)
        self.assertEqual(self.finish(waiter), (DONE, b"1\n", "cove: x/go: event created\n"))

    def test_all_who_wait_go_on(self):
        self.expect(self.cove("create", "x/go", "--type", "event"), DONE)
        waiters = [self.start("wait", "x/go") for _ in range(8)]
        self.wait_for_waiters("x/go", 8)
        waiters[3].kill()
        self.expect(self.cove("signal", "x/go"), DONE)
        for waiter in waiters[:3] + waiters[4:]:
            self.assertEqual(self.finish(waiter), (DONE, b"1\n", ""))

    def test_reset_event_is_waited_for_again(self):
        self.expect(self.cove("signal", "x/go"), DONE)
        self.expect(self.cove("signal", "x/go", "--reset"), DONE)
        self.expect(self.cove("wait", "x/go", "--timeout", "30ms"), TIMEOUT, "the event was not set in time")
        self.expect(self.cove("wait", "x/go", "--timeout", "0"), TIMEOUT, "^cove: x/go: ")
        self.expect(self.cove("signal", "x/go"), DONE)
        self.assertEqual(self.printed("wait", "x/go", "--timeout", "0"), "2\n")

    def test_beyond_waits_for_a_later_version_and_misses_none(self):
        self.expect(self.cove("signal", "x/go"), DONE)
        self.assertEqual(self.printed("wait", "x/go", "--beyond", "0"), "1\n")
        self.expect(self.cove("wait", "x/go", "--beyond", "1", "--timeout", "30ms"), TIMEOUT)
        waiter = self.start("wait", "x/go", "--beyond=1")
        self.wait_for_waiters("x/go", 1)
        self.expect(self.cove("signal", "x/go"), DONE)
        self.assertEqual(self.finish(waiter)[:2], (DONE, b"2\n"))
        self.expect(self.cove("signal", "x/go", "--reset"), DONE)  # the version stays
        self.assertEqual(self.printed("wait", "x/go", "--beyond", "1"), "2\n")

    def test_json_tells_version_and_state(self):
        expected = {"version": 1, "kind": "event", "name": "x/go", "created": True, "event_version": 1, "set": True}
        self.assertEqual(self.lines_of_json("signal", "x/go"), [expected])
        expected["created"] = False
        self.assertEqual(self.lines_of_json("wait", "x/go"), [expected])
        expected["set"] = False
        self.assertEqual(self.lines_of_json("signal", "x/go", "--reset"), [expected])
        self.assertEqual(self.lines_of_json("wait", "x/go", "--beyond", "0"), [expected])


class Counter(Meeting):
    def test_count_prints_the_value_after_it(self):
        self.expect(self.cove("count", "x/n"), DONE, "^cove: x/n: counter created$")
        for words, value in [([], 0), (["+1"], 1), (["+41"], 42), (["-50"], -8), (["=7"], 7), (["=-7"], -7),
                             (["--", "-3"], -10), (["+0"], -10), (["=9223372036854775807"], 9223372036854775807),
                             (["+1"], -9223372036854775808), (["=0"], 0)]:
            with self.subTest(words=words):
                self.assertEqual(self.printed("count", "x/n", *words), f"{value}\n")
        self.assertEqual(self.printed("count", "-3", "x/n"), "-3\n")  # options and numbers stand anywhere

    def test_new_counter_has_its_value_from_its_first_moment(self):
        self.assertEqual(self.printed("count", "x/n", "=-5"), "-5\n")
        self.assertEqual(self.printed("count", "x/n"), "-5\n")
        self.assertEqual(self.figures("x/n")["value"], -5)

    def test_many_who_add_at_once_lose_nothing(self):
        for lines in ([], ["--lines", "4"]):
            name = f"x/n{len(lines)}"
            self.expect(self.cove("count", name, *lines), DONE)
            adders = [self.start("count", name, "+1" if i % 2 else "+100") for i in range(20)]
            for adder in adders:
                self.assertEqual(self.finish(adder)[0], DONE)
            self.assertEqual(self.printed("count", name), "1010\n")

    def test_spread_counter_cannot_be_set(self):
        self.assertEqual(self.printed("count", "x/n", "=3", "--lines", "8"), "3\n")
        self.expect(self.cove("count", "x/n", "=4"), FAILED, "^cove: x/n: ")
        self.assertEqual(self.printed("count", "x/n", "-4"), "-1\n")

    def test_wait_for_a_value(self):
        self.assertEqual(self.printed("count", "x/n", "=4"), "4\n")
        self.assertEqual(self.printed("wait", "x/n", "--at-least", "4"), "4\n")
        self.assertEqual(self.printed("wait", "x/n", "--at-least", "-4"), "4\n")
        self.expect(self.cove("wait", "x/n", "--at-least", "5", "--timeout", "30ms"), TIMEOUT)
        waiter = self.start("wait", "x/n", "--at-least", "6")
        self.wait_for_waiters("x/n", 1)
        self.printed("count", "x/n", "+1")
        self.printed("count", "x/n", "+2")
        self.assertEqual(self.finish(waiter)[:2], (DONE, b"7\n"))

    def test_wait_for_a_change(self):
        self.assertEqual(self.printed("count", "x/n", "=4"), "4\n")
        self.assertEqual(self.printed("wait", "x/n", "--change-from", "3"), "4\n")
        self.expect(self.cove("wait", "x/n", "--change-from", "4", "--timeout", "0"), TIMEOUT)
        waiter = self.start("wait", "x/n", "--change-from", "4", "--json")
        self.wait_for_waiters("x/n", 1)
        self.printed("count", "x/n", "-5")
        self.assertEqual(json.loads(self.finish(waiter)[1]),
                         {"version": 1, "kind": "counter", "name": "x/n", "created": False, "value": -1})

    def test_missing_counter_is_created_by_who_waits_for_it(self):
        waiter = self.start("wait", "x/n", "--at-least", "1")
        self.wait_for_waiters("x/n", 1)
        self.assertEqual(self.printed("count", "x/n", "+1"), "1\n")
        self.assertEqual(self.finish(waiter), (DONE, b"1\n", "cove: x/n: counter created\n"))


class Use(Meeting):
    def test_wrong_use_is_a_sentence_and_status_2(self):
        for words, message in [
            (["signal"], "a name is missing; use: cove signal SEGMENT/EVENT"),
            (["signal", "x"], "an event's name is SEGMENT/EVENT; say x/NAME"),
            (["signal", "x/a", "x/b"], "x/b: one word too many"),
            (["signal", "x/a", "--timeout", "3s"], "--timeout: there is no such option"),
            (["wait", "x"], "an event's name is SEGMENT/EVENT"),
            (["wait", "x", "--at-least", "3"], "a counter's name is SEGMENT/COUNTER"),
            (["wait", "x/a", "--beyond"], "--beyond: this option wants a value"),
            (["wait", "x/a", "--beyond", "soon"], "--beyond: 'soon' is not a whole number"),
            (["wait", "x/a", "--beyond", "-1"], "--beyond: '-1' is not a version"),
            (["wait", "x/a", "--at-least", "3.5"], "'3.5' is not a whole number"),
            (["wait", "x/a", "--at-least", ""], "'' is not a whole number"),
            (["wait", "x/a", "--at-least", "9223372036854775808"], "too large"),
            (["wait", "x/a", "--at-least", "1", "--change-from", "2"], "say only one of"),
            (["wait", "x/a", "--beyond", "1", "--change-from", "2"], "say only one of"),
            (["wait", "x/a", "--timeout", "soon"], "is not a time"),
            (["wait", "memfd:/a"], "no name by which others could find it"),
            (["count"], "a name is missing; use: cove count SEGMENT/COUNTER"),
            (["count", "x"], "a counter's name is SEGMENT/COUNTER"),
            (["count", "x/a", "3"], "3: how is it to change\\? say \\+N, -N or =N"),
            (["count", "x/a", "+"], "say \\+N, -N or =N"),
            (["count", "x/a", "="], "say \\+N, -N or =N"),
            (["count", "x/a", "+-3"], "say \\+N, -N or =N"),
            (["count", "x/a", "+3x"], "'\\+3x' is not a whole number"),
            (["count", "x/a", "+99999999999999999999"], "too large"),
            (["count", "x/a", "+1", "+2"], "\\+2: one word too many"),
            (["count", "x/a", "-x"], "-x: there is no such option"),
            (["count", "x/a", "--lines", "0"], "'0' is not possible; say a number from 1 to 64"),
            (["count", "x/a", "--lines", "65"], "is not possible"),
            (["create", "x", "--type", "mutex"], "a mutex's name is SEGMENT/MUTEX; say x/NAME"),
            (["create", "x/a", "--type", "mutx"], "there is no type 'mutx'; did you mean mutex\\?"),
            (["create", "x/a", "--type", "mutex", "--permits", "3"], "--permits: it belongs to --type semaphore"),
            (["create", "x/a", "--type", "rwlock", "--fair"], "--fair: it belongs to --type mutex"),
            (["create", "x/a", "--type", "event", "--value", "3"], "--value: it belongs to --type counter"),
            (["create", "x/a", "--type", "stream", "--lines", "3"], "--lines: it belongs to --type counter"),
            (["create", "x/a", "--type", "once", "--capacity", "64K"], "--capacity: it belongs to --type stream"),
            (["create", "x/a", "--type", "semaphore", "--permits", "-1"], "is not possible"),
            (["create", "x/a", "--type", "counter", "--value", "x"], "'x' is not a whole number"),
            (["create", "memfd:/a", "--type", "mutex"], "no name by which others could find it"),
        ]:
            with self.subTest(words=words):
                self.expect(self.cove(*words), USE, message)
        self.assertEqual(os.listdir(self.directory), [], "wrong use created something")

    def test_existing_creates_nothing_and_near_names_are_asked_about(self):
        for words in (["signal", "x/go"], ["wait", "x/go"], ["count", "x/go"]):
            self.expect(self.cove(*words, "--existing"), NONAME)
        self.assertEqual(os.listdir(self.directory), [])
        self.expect(self.cove("create", "x/ready", "--type", "event"), DONE)
        for words in (["signal", "x/raedy"], ["wait", "x/readyy"], ["count", "x/redy"]):
            self.expect(self.cove(*words, "--existing"), NONAME, "did you mean x/ready\\?")
        self.expect(self.cove("signal", "x/raedy"), DONE, "event created; did you mean x/ready\\?")

    def test_object_of_another_type_is_a_sentence(self):
        self.expect(self.cove("signal", "x/event"), DONE)
        self.expect(self.cove("count", "x/counter"), DONE)
        self.expect(self.cove("create", "x/mutex", "--type", "mutex"), DONE)
        self.expect(self.cove("write", "x/stream", input="text"), DONE)
        for words, message in [
            (["signal", "x/counter"], "its type is counter; cove signal sets events, and cove count changes counters"),
            (["signal", "x/stream"], "its type is stream; cove signal sets events$"),
            (["wait", "x/mutex"], "its type is mutex; cove wait waits for events and counters"),
            (["wait", "x/counter"], "it is a counter; say --at-least N or --change-from N"),
            (["wait", "x/counter", "--beyond", "3"], "it is a counter, and --beyond is for events"),
            (["wait", "x/event", "--at-least", "3"], "it is an event, and --at-least is for counters"),
            (["wait", "x/event", "--change-from", "3"], "it is an event, and --change-from is for counters"),
            (["count", "x/event", "+1"], "its type is event; cove count takes counters, and cove signal sets events"),
            (["count", "x/mutex"], "its type is mutex; cove count takes counters$"),
        ]:
            with self.subTest(words=words):
                self.expect(self.cove(*words), FAILED, message)

    def test_signals_end_a_wait_as_they_end_programs(self):
        self.expect(self.cove("create", "x/go", "--type", "event"), DONE)
        self.expect(self.cove("create", "x/n", "--type", "counter"), DONE)
        for words in (["x/go"], ["x/go", "--beyond", "3"], ["x/n", "--at-least", "1"], ["x/n", "--change-from", "0"]):
            for number in (signal.SIGINT, signal.SIGTERM):
                waiter = self.start("wait", *words)
                self.wait_for_waiters(words[0], 1)
                began = time.monotonic()
                waiter.send_signal(number)
                self.assertEqual(self.finish(waiter), (-number, b"", ""))
                self.assertLess(time.monotonic() - began, PATIENCE_S / 3)
                self.wait_for_waiters(words[0], 0)

    def test_killed_waiters_are_forgotten(self):
        self.expect(self.cove("create", "x/go", "--type", "event"), DONE)
        for _ in range(10):
            waiter = self.start("wait", "x/go")
            self.wait_for_waiters("x/go", 1)
            waiter.kill()
            waiter.wait()
            self.expect(self.cove("gc"), DONE)
            self.assertEqual(self.figures("x/go")["waiters"], 0)
        self.expect(self.cove("doctor", "x"), DONE)


class Objects(Meeting):
    def test_every_type_is_created_listed_shown_and_removed(self):
        for kind in TYPES:
            self.expect(self.cove("create", f"x/{kind}", "--type", kind), DONE)
            self.expect(self.cove("create", f"x/{kind}", "--type", kind), FAILED, "exists already")
        listed = {line["name"]: line["type"] for line in self.lines_of_json("ls", "x")}
        self.assertEqual(listed, {f"x/{kind}": kind for kind in TYPES})
        for kind in TYPES:
            shown = self.printed("stat", f"x/{kind}")
            self.assertRegex(shown, rf"(?m)^x/{kind}\n  type +{kind}$")
            self.assertRegex(shown, "(?m)^  waiters +0$")
        self.expect(self.cove("doctor", "x"), DONE)
        for kind in TYPES:
            self.expect(self.cove("rm", f"x/{kind}"), DONE)
        self.assertEqual(self.printed("ls", "x"), "")

    def test_options_of_a_new_object_are_its_first_figures(self):
        self.expect(self.cove("create", "x/m", "--type", "mutex", "--fair"), DONE)
        self.expect(self.cove("create", "x/s", "--type", "semaphore", "--permits", "3"), DONE)
        self.expect(self.cove("create", "x/n", "--type", "counter", "--value=-7", "--lines", "4"), DONE)
        self.assertEqual(self.figures("x/m")["fair"], 1)
        self.assertEqual(self.figures("x/s")["permits"], 3)
        self.assertEqual((self.figures("x/n")["value"], self.figures("x/n")["lines"]), (-7, 4))
        self.expect(self.cove("create", "y/m", "--type", "mutex", "--mode", "640"), DONE)
        self.assertEqual(os.stat(os.path.join(self.directory, "y.cove")).st_mode & 0o777, 0o640)

    def test_stat_tells_holder_waiters_waits_and_the_longest_hold(self):
        holder = self.start("lock", "x/arm", "--", "sh", "-c", "echo in; read line")
        self.assertEqual(holder.stdout.readline(), b"in\n")
        self.assertEqual(self.cove("lock", "x/arm", "--timeout", "50ms", "--", "true").returncode, 124)
        waiter = self.start("lock", "x/arm", "--", "true")
        self.wait_for_waiters("x/arm", 1)
        figures = self.figures("x/arm")
        self.assertEqual((figures["holder"], figures["pid"], figures["thread"]), ("cove", holder.pid, holder.pid))
        holder.stdin.write(b"\n")
        self.assertEqual(self.finish(holder)[0], DONE)
        self.assertEqual(self.finish(waiter)[0], DONE)
        figures = self.figures("x/arm")
        self.assertEqual((figures["holder"], figures["waiters"], figures["waits"]), ("none", 0, 2))
        self.assertGreater(figures["longest_hold_ms"], 10)
        self.assertRegex(self.printed("stat", "x/arm"), r"(?m)^  longest_hold_ms +\d+\.\d+$")

    def test_lock_that_is_held_is_not_removed(self):
        holder = self.start("lock", "x/arm", "--", "sh", "-c", "echo in; read line")
        self.assertEqual(holder.stdout.readline(), b"in\n")
        self.expect(self.cove("rm", "x/arm"), FAILED, "^cove: x/arm: ")
        holder.stdin.write(b"\n")
        self.assertEqual(self.finish(holder)[0], DONE)
        self.expect(self.cove("rm", "x/arm"), DONE)

    def test_interrupted_create_leaves_nothing(self):
        create = self.start("create", "x/m", "--type", "mutex", "--lifetime", "last-out")
        self.wait_for_members("x", 1)
        create.send_signal(signal.SIGINT)
        self.finish(create)
        self.assertEqual(os.listdir(self.directory), [])


class Example(Meeting):
    def test_a_pipeline_of_all_of_them(self):
        """Workers begin together, work one at a time, and count themselves out."""
        script = """
            for i in 1 2 3 4; do
                { "$0" wait x/begin >/dev/null; "$0" lock x/log -- sh -c 'echo "in $1"; echo "out $1"' sh $i
                  "$0" count x/done +1 >/dev/null; } &
            done
            "$0" signal x/begin
            "$0" wait x/done --at-least 4
            wait
        """
        process = subprocess.run(["sh", "-c", script, COVE], env=self.environment, capture_output=True, text=True,
                                 timeout=PATIENCE_S)
        lines = process.stdout.splitlines()
        self.assertEqual(lines.pop(lines.index("4")), "4")
        for first, second in zip(lines[::2], lines[1::2]):
            self.assertEqual(first.replace("in", "out"), second)
        self.assertEqual(len(lines), 8)


if __name__ == "__main__":
    main()
