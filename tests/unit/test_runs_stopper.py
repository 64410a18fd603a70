"""A request to stop reaches the thread that trains: gently while a stage trains, at once at any other time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = """
import os, signal, threading, time
from neuromas.run.run import stopped_by_signal
from neuromas.services.records.run import Wanted
from neuromas.services.runs import stopper as module
from neuromas.services.runs.stopper import RunStoppedError, Stopper

module.CANCEL_GRACE_S = {grace_s}
stopper, asked = Stopper(), threading.Event()

def ask(wanted):
    threading.Timer(0.1, stopper.stop, [Wanted(wanted)]).start()

def rest():
    while True:
        time.sleep(0.01)

try:
    with stopper:
{body}
except BaseException as error:
    print(type(error).__name__)
stopper.stop(Wanted.CANCEL)  # too late: nothing is broken off any more
time.sleep(0.1)
print("end")
"""


def outcome(*body: str, grace_s: float = 60) -> list[str]:
    script = SCRIPT.format(body="\n".join(f"        {line}" for line in body), grace_s=grace_s)
    found = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout.split()


def test_outside_of_training_the_work_is_broken_off() -> None:
    assert outcome("ask('pause')", "rest()") == ["RunStoppedError", "end"]


def test_a_stage_is_asked_and_ends_by_itself() -> None:
    training = ["    ask('pause')", "    asked.wait()", "    print('checkpoint')"]
    assert outcome("with stopped_by_signal(asked.set):", *training) == ["checkpoint", "end"]


def test_a_cancelled_stage_that_does_not_end_is_broken_off() -> None:
    training = ["    ask('cancel')", "    asked.wait()", "    print('asked')", "    rest()"]
    found = outcome("with stopped_by_signal(asked.set):", *training, grace_s=3)
    assert found == ["asked", "KeyboardInterrupt", "end"]


def test_a_step_that_heard_nothing_until_its_time_was_over_is_broken_off() -> None:
    both = "{signal.SIGINT, signal.SIGTERM}"
    training = [
        "with stopped_by_signal(asked.set):",
        f"    signal.pthread_sigmask(signal.SIG_BLOCK, {both})",
        "    stopper.stop(Wanted.CANCEL)",
        f"    while not signal.sigpending() >= {both}: time.sleep(0.01)",
        f"    signal.pthread_sigmask(signal.SIG_UNBLOCK, {both})",
        "    rest()",
    ]
    assert outcome(*training, grace_s=0.1) == ["KeyboardInterrupt", "end"]


def test_work_that_ends_in_time_is_left_alone() -> None:
    assert outcome("print('done')") == ["done", "end"]
