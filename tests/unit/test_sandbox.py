"""What a program can do to pass its tests without being right, and to the machine: nothing of it works."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import neuromas
from neuromas.tasks.sandbox.check import ProgramResult, ResourceLimits, check
from neuromas.tasks.sandbox.values import from_line, to_line

CHILD = Path(neuromas.__file__).parent / "tasks/sandbox/child.py"
LIMITS = ResourceLimits(seconds=60, memory_mib=256)
QUICK = ResourceLimits(seconds=1, memory_mib=256)

REFUSED = {
    "reads a file": "def f(x): return open('/etc/passwd').read()",
    "lists a folder": "import os\ndef f(x): os.listdir('/'); return 2",
    "reads its own process": "def f(x): open('/proc/self/environ').read(); return 2",
    "writes a file": "def f(x): open('FILE', 'w'); return 2",
    "appends to a file": "def f(x): open('FILE', 'a').write('x'); return 2",
    "empties a file": "import os\ndef f(x): os.truncate('FILE', 0); return 2",
    "removes a file": "import os\ndef f(x): os.remove('FILE'); return 2",
    "moves a file": "import os\ndef f(x): os.rename('FILE', 'FILE.gone'); return 2",
    "links to a file": "import os\ndef f(x): os.symlink('/etc/passwd', 'FILE.link'); return 2",
    "changes a file's mode": "import os\ndef f(x): os.chmod('FILE', 0o777); return 2",
    "changes a file's owner": "import os\ndef f(x): os.chown('FILE', 1, 1); return 2",
    "changes a file's times": "import os\ndef f(x): os.utime('FILE'); return 2",
    "makes a folder": "import os\ndef f(x): os.mkdir('FILE.d'); return 2",
    "writes to a temporary file": "import tempfile\ndef f(x): tempfile.TemporaryFile(); return 2",
    "keeps a file in memory": "import os\ndef f(x): os.memfd_create('a'); return 2",
    "forks": "import os\ndef f(x): os.fork(); return 2",
    "forks without end": "import os\nwhile True: os.fork()",
    "starts a thread": "import threading\ndef f(x): threading.Thread(target=print).start(); return 2",
    "starts a program": "import subprocess\ndef f(x): subprocess.run(['true']); return 2",
    "becomes a program": "import os\ndef f(x): os.execv(PYTHON, [PYTHON, '-c', ''])",
    "asks a shell": "import os\ndef f(x): return 2 if os.system('true') == 0 else 3",
    "opens a connection": "import socket\ndef f(x): socket.create_connection(('127.0.0.1', PORT)); return 2",
    "asks for a name": "import socket\ndef f(x): socket.getaddrinfo('localhost', 80); return 2",
    "kills its parent": "import os\ndef f(x): os.kill(os.getppid(), 9); return 2",
    "kills everything": "import os\ndef f(x): os.kill(-1, 9); return 2",
    "raises its limits": "import resource\ndef f(x): resource.setrlimit(resource.RLIMIT_CPU, (9, 9)); return 2",
    "calls the kernel itself": "import ctypes\ndef f(x): return 2 if ctypes.CDLL(None).syscall(57) >= 0 else 3",
    "loads a package of ours": "import neuromas\ndef f(x): return 2",
    "is equal to everything": "class A:\n  def __eq__(s, o): return True\ndef f(x): return A()",
    "is a number equal to everything": "class A(int):\n  def __eq__(s, o): return True\ndef f(x): return A(7)",
    "ends early, well": "import sys\nsys.exit(0)",
    "ends at once, well": "import os\nos._exit(0)",
    "ends when asked": "import os\ndef f(x): os._exit(0)",
    "says that it passed": 'print(\'{"passed": true, "why": ""}\')\ndef f(x): return 3',
    "says so everywhere": """
import os
for end in range(60):
    try: os.write(end, b'{"passed": true, "why": ""}\\n')
    except OSError: pass
def f(x): return 3
""",
    "reads its calls ahead": "import os\ndef f(x): return 2 if b'assert' in os.read(3, 999) else 3",
    "rewrites assert's world": "import builtins\nbuiltins.AssertionError = Exception\ndef f(x): return 3",
    "raises what stops tests": "def f(x): raise SystemExit(0)",
    "never returns": "def f(x):\n  while True: pass",
    "waits": "import time\ndef f(x): time.sleep(1000); return 2",
    "takes all memory": "def f(x): a = bytearray(1 << 30); return 2",
    "returns too much": "def f(x): return 'x' * (1 << 21)",
    "returns itself": "def f(x):\n  a = []\n  a.append(a)\n  return a",
    "calls itself without end": "def f(x): return f(x)",
    "is no Python": "def f(x) return 2",
    "has no such function": "def g(x): return 2",
}


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "kept.txt"
    path.write_text("kept")
    return path


@pytest.mark.parametrize("attack", REFUSED)
def test_a_wrong_program_neither_passes_nor_does_harm(attack: str, victim: Path) -> None:
    status = victim.stat()
    with socket.create_server(("127.0.0.1", 0)) as server:
        values = {"FILE": str(victim), "PYTHON": repr(sys.executable), "PORT": str(server.getsockname()[1])}
        program = REFUSED[attack]
        for name, value in values.items():
            program = program.replace(name, value)
        assert not check(program, "", "assert f(1) == 2", ["f"], QUICK).passed
    assert victim.read_text() == "kept"
    assert (victim.stat().st_mode, victim.stat().st_mtime_ns) == (status.st_mode, status.st_mtime_ns)
    assert [path.name for path in victim.parent.iterdir()] == ["kept.txt"]


def test_what_is_refused_is_what_was_tried(victim: Path) -> None:
    def why(program: str) -> str:
        return check(program, "", "f(1)", ["f"], LIMITS).why

    assert "Permission denied" in why(f"def f(x): open({str(victim)!r}).read()")
    assert "Operation not permitted" in why("import os\ndef f(x): os.fork()")
    assert "Operation not permitted" in why("import socket\ndef f(x): socket.socket()")
    assert "MemoryError" in why("def f(x): bytearray(1 << 30)")
    endless = check("import time\ndef f(x): time.sleep(1000)", "", "f(1)", ["f"], QUICK)
    assert endless.why == "took longer than 1 s"


def test_a_right_program_passes_with_what_programs_import() -> None:
    program = """
import bisect, collections, copy, datetime, decimal, fractions, functools, hashlib, heapq, itertools, json, math
import random, re, statistics, string, typing, unicodedata
def f(x): return x + int(decimal.Decimal(fractions.Fraction(1).numerator))
"""
    assert check(program, "", "assert f(1) == 2", ["f"], LIMITS) == ProgramResult(True)


def test_tests_see_errors_of_the_program_as_they_were_raised() -> None:
    tests = "try:\n  f(1)\nexcept ValueError as error:\n  assert 'too big' in str(error)\nelse:\n  raise AssertionError"
    assert check("def f(x): raise ValueError('too big')", "", tests, ["f"], LIMITS).passed
    assert not check("def f(x): raise KeyError('too big')", "", tests, ["f"], LIMITS).passed


def test_tests_may_print_and_use_helpers_of_the_right_program() -> None:
    setup = "def helper(x): return x + 1\ndef f(x): return helper(x)"
    tests = "print('x' * 100000)\nassert f(helper(1)) == helper(2)"
    assert check("def f(x): return x + 1", setup, tests, ["f"], LIMITS) == ProgramResult(True)
    assert check("def f(x): return x + 2", setup, tests, ["f"], LIMITS).why.startswith("AssertionError")


@pytest.mark.parametrize(
    "value",
    [None, True, 10**400, -0.5, "é\n", b"\x00", 1 + 2j, [1, (2, {3}), frozenset()], {(1, 2): {"a": []}}, {1: True}],
)
def test_plain_values_pass_unchanged(value: object) -> None:
    digits = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)  # as in the locked processes
    try:
        copy = from_line(to_line(value))
    finally:
        sys.set_int_max_str_digits(digits)
    assert copy == value
    assert type(copy) is type(value)


@pytest.mark.parametrize("line", [b"{}", b"[]", b'["x", 1]', b'["d", 1]', b"not json", b'["s", ["l"]]', b"[" * 100_000])
def test_other_lines_are_no_values(line: bytes) -> None:
    with pytest.raises(ValueError):
        from_line(line)


def test_a_process_that_cannot_be_locked_runs_nothing(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    request = {"role": "tests", "code": f"open({str(ran)!r}, 'w')", "setup": "", "names": []}
    request |= {"memory_bytes": 2**70, "cpu_seconds": 1, "calls_fd": 0, "returns_fd": 0}
    command = [sys.executable, "-I", "-S", "-B", str(CHILD)]
    done = subprocess.run(command, input=json.dumps(request) + "\n", capture_output=True, text=True, check=False)
    assert list(json.loads(done.stdout)) == ["unlocked"]
    assert not ran.exists()
