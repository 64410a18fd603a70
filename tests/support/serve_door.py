"""A process that deploys on a Ray cluster with tokens, as a supervisor does; orders come as JSON lines on stdin.

``DoorProcess`` starts it, ``serve_door`` a cluster, too. ``python tests/support/serve_door.py PORT`` is the process;
with ``held`` behind it, replicas can be told to hold their answers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
START_S = 420.0
TOKEN = "what replicas ask for"
"""Of the replicas."""
Document = dict[str, Any]


def main(port: int, *, is_held: bool) -> None:
    """Carry out orders until stdin ends."""
    import ray
    from held_answers import HeldOpener

    from neuromas.cluster.machine import Machine
    from neuromas.serving.deploy import ServeAddress, ServeDeployer
    from neuromas.serving.endpoint import group_graphs
    from neuromas.serving.group import GraphSource
    from neuromas.serving.load import ServerLimits
    from neuromas.serving.machine_opener import MachineOpener

    ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False, logging_level="ERROR")
    opener = MachineOpener(Machine.here())
    door = ServeDeployer(ServeAddress(port=port), HeldOpener(opener) if is_held else opener, TOKEN)
    for line in sys.stdin:
        order = json.loads(line)
        answer: Document = {}
        if order["do"] == "deploy":
            sources = [GraphSource(**source) for source in order["graphs"]]
            bounds = {name: (low, high) for name, (low, high) in order.get("replicas", {}).items()}
            limits = ServerLimits(**order.get("limits", {}))
            cpus = order.get("cpus", 0.5)
            groups = group_graphs(sources, replicas=bounds, slots=16, cpus=cpus, limits=limits)
            _persistently(partial(door.deploy, groups))
            answer = {"groups": [{"name": group.name, "route": group.route} for group in groups]}
        elif order["do"] == "status":
            answer = {name: asdict(status) for name, status in door.status().items()}
        elif order["do"] == "stop":
            door.stop(order["name"])
        elif order["do"] == "replicas":
            answer = {"pids": [actor["pid"] for actor in _replicas()]}
        sys.stdout.write(f"answer {json.dumps(answer)}\n")
        sys.stdout.flush()
    door.shutdown()


def _persistently(work: Callable[[], None]) -> None:
    """Try again as the service does: Serve gives its proxy a few seconds, which are not enough on a busy machine."""
    from neuromas.errors import RuntimeStartError

    end = time.monotonic() + START_S
    while True:
        try:
            return work()
        except RuntimeStartError:
            if time.monotonic() > end:
                raise
        time.sleep(0.5)


def _replicas() -> list[Document]:
    from ray.util.state import list_actors

    return [
        asdict(actor)
        for actor in list_actors(filters=[("state", "=", "ALIVE")])
        if actor.class_name.startswith("ServeReplica:")
    ]


class DoorProcess:
    """The process as its owner sees it."""

    def __init__(self, environment: dict[str, str], port: int, log: Path, *options: str, folder: Path = ROOT) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__)), str(port), *options],
                env=environment,
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def do(self, what: str, **more: Any) -> Document:
        """Give an order and return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": what, **more}) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("answer "):
                answer: Document = json.loads(line.removeprefix("answer "))
                return answer
        raise AssertionError(f"the door ended: {self.log.read_text()[-3000:]}")

    def until(self, condition: Callable[[Document], bool]) -> Document:
        """Ask for the status until it is as wanted; returns it."""
        end = time.monotonic() + START_S
        pause = threading.Event()
        while not condition(status := self.do("status")):
            assert time.monotonic() < end, status
            pause.wait(0.3)
        return status

    def close(self) -> None:
        """Stop Serve and end the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(START_S)


@contextmanager
def serve_door(folder: Path) -> Iterator[DoorProcess]:
    """Start a cluster on the loopback interface, with tokens, and a door to it; both end with the block."""
    from neuromas.services.runs.head import free_port, make_head

    with tempfile.TemporaryDirectory(prefix="nm-", dir="/tmp") as sessions:
        head = make_head(Path(sessions), folder / "token", max_running=1)
        environment = head.environment(os.environ) | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        port, log = free_port(), folder / "serve.log"
        address_file = Path(sessions) / "ray_current_cluster"
        with log.open("ab") as output:
            cluster = subprocess.Popen(head.command(), env=environment, cwd=ROOT, stdout=output, stderr=output)
        try:
            _wait(lambda: address_file.is_file() and address_file.read_text() and head.is_ready(), cluster, log)
            door = DoorProcess(environment | {"RAY_ADDRESS": address_file.read_text().strip()}, port, log)
            yield door
            door.close()
        finally:
            cluster.terminate()
            cluster.wait(START_S)


def _wait(condition: Callable[[], object], process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    pause = threading.Event()
    while not condition():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < end, log.read_text()[-3000:]
        pause.wait(0.2)


if __name__ == "__main__":
    main(int(sys.argv[1]), is_held="held" in sys.argv)
