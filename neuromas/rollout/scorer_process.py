"""The process of a scorer: takes pickled requests of its parent from stdin and answers in lines of JSON."""

from __future__ import annotations

import json
import os
import pickle
import sys
from typing import IO

from neuromas.errors import TaskError
from neuromas.tasks.base import Task
from neuromas.tasks.judge import judge


def send(stream: IO[bytes], request: tuple[object, ...]) -> None:
    """Write a request, preceded by its length in 8 bytes."""
    body = pickle.dumps(request)
    stream.write(len(body).to_bytes(8, "big") + body)
    stream.flush()


def main() -> None:
    """Answer requests until the parent closes the pipe or is gone."""
    # What the user's code prints must not be taken for an answer.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        task: Task | None = None
        while head := sys.stdin.buffer.read(8):
            kind, *arguments = pickle.loads(sys.stdin.buffer.read(int.from_bytes(head, "big")))  # noqa: S301 - the parent's
            try:
                if kind == "load":
                    task = pickle.loads(arguments[0])  # noqa: S301
                    answer: dict[str, object] = {}
                else:
                    assert task is not None
                    score = judge(task, arguments[0], arguments[1])
                    answer = {"reward": score.reward, "parts": dict(score.parts)}
            except TaskError as error:
                answer = {"error": str(error)}
            except Exception as error:  # noqa: BLE001 - code of the user's
                answer = {"error": f"loading the task failed: {error!r}"}
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
