"""What a benchmark's client says arrives whole, however its writes are cut."""

from __future__ import annotations

import json
import os
import subprocess
import sys

SAY_CUT_SHORT = """
import os, signal, threading
from benchmarks.client_process import say

reading, writing = os.pipe()
os.dup2(writing, 1)
os.close(writing)
received = bytearray()

def read_all():
    while part := os.read(reading, 1 << 16):
        received.extend(part)

reader = threading.Thread(target=read_all)
# Nobody reads before the alarm, so that it finds the write blocked with a part of it done.
signal.signal(signal.SIGALRM, lambda *_: reader.start())
signal.setitimer(signal.ITIMER_REAL, 0.2)
say({"text": "a" * 1_000_000})
os.close(1)
reader.join()
os.write(2, bytes(received))
"""


def test_an_answer_arrives_whole_though_its_write_was_cut_short_on_an_unbuffered_stdout() -> None:
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    ended = subprocess.run([sys.executable, "-c", SAY_CUT_SHORT], env=environment, capture_output=True, check=True)
    assert json.loads(ended.stderr) == {"text": "a" * 1_000_000}
