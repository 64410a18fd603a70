"""One of the two processes of a check, a script that ``neuromas.tasks.sandbox.check`` starts.

It is locked before it runs a line of the program or of the tests. From stdin it reads one line of JSON: ``role``,
``code``, ``memory_bytes``, ``cpu_seconds``, ``calls_fd`` and ``returns_fd``, and for tests ``setup`` and ``names``. The
program answers calls; the tests make them and write their verdict, JSON, to stdout.
"""

import builtins
import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from lock import lock  # type: ignore[import-not-found]
from values import from_line, to_line  # type: ignore[import-not-found]

sys.path.pop(0)
_LONGEST_LINE = 1 << 20


def main() -> None:
    """Do what the request says."""
    request = json.loads(sys.stdin.buffer.readline())
    # What code prints must not be taken for a verdict.
    verdicts = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        lock(request["memory_bytes"], request["cpu_seconds"])
    except Exception as error:  # noqa: BLE001 - whatever it is, the process is not locked
        os.write(verdicts, json.dumps({"unlocked": str(error)}).encode())
        return
    sys.set_int_max_str_digits(0)
    calls, returns = request["calls_fd"], request["returns_fd"]
    if request["role"] == "program":
        _answer(request["code"], os.fdopen(calls, "rb"), os.fdopen(returns, "wb", buffering=0))
    else:
        verdict = _verdict(request, os.fdopen(calls, "wb", buffering=0), os.fdopen(returns, "rb"))
        os.write(verdicts, json.dumps(verdict).encode())


def _answer(code: str, calls: Any, returns: Any) -> None:
    """Run the program, then its functions as they are called for, until no more calls come."""
    scope: dict[str, Any] = {"__name__": "program"}
    try:
        exec(compile(code, "program", "exec"), scope)  # noqa: S102 - the process is locked
        failure = None
    except BaseException as error:  # noqa: BLE001 - anybody's program
        failure = error
    while line := calls.readline():
        name, arguments, named = from_line(line)
        try:
            if failure is not None:
                raise failure
            reply = to_line((True, scope[name](*arguments, **named)))
        except BaseException as error:  # noqa: BLE001
            reply = to_line((False, type(error).__name__, str(error)[:200]))
        returns.write(reply)


def _verdict(request: dict[str, Any], calls: Any, returns: Any) -> dict[str, Any]:
    def proxy(name: str) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            calls.write(to_line((name, arguments, named)))
            line = returns.readline(_LONGEST_LINE)
            if not line.endswith(b"\n"):
                raise RuntimeError("the program ended, or returned too much")
            answered, *reply = from_line(line)
            if answered is True:
                return reply[0]
            kind = getattr(builtins, str(reply[0]), None)
            if not (isinstance(kind, type) and issubclass(kind, Exception)):
                kind = RuntimeError
            raise kind(f"{reply[0]}: {reply[1]}")

        return call

    scope: dict[str, Any] = {"__name__": "tests"}
    try:
        exec(compile(request["setup"], "setup", "exec"), scope)  # noqa: S102
        names = request["names"] or [name for name, value in scope.items() if _is_function(value)]
        scope |= {name: proxy(name) for name in names}
        exec(compile(request["code"], "tests", "exec"), scope)  # noqa: S102
    except BaseException as error:  # noqa: BLE001 - a failed test
        return {"passed": False, "why": f"{type(error).__name__}: {error}"[:200]}
    return {"passed": True, "why": ""}


def _is_function(value: object) -> bool:
    return type(value) is type(_is_function) and value.__module__ == "tests"


if __name__ == "__main__":
    main()
