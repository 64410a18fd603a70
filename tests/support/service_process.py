"""ServiceProcess: ``neuromas service`` as its user starts it, and its processes, which tests may kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from neuromas.cli.remote import Remote
from neuromas.journal import lines as journal

ROOT = Path(__file__).parents[2]
START_S = 420.0
DEADLINE_S = 420.0
Document = dict[str, Any]

TINY: Document = {
    "name": "tiny",
    "topology": {"chain": 2},
    "task": {"type": "chain", "hops": 2},
    "training": {"steps": 6, "prompts_per_step": 4, "group_size": 4, "warmup_steps": 0},
    "evaluation": {"examples": 8},
    "checkpoint": {"every": 2},
    "engine": {"type": "transformers"},
}

ALONE: Document = {"type": "local"}
"""Runtime of a run in its driver's process alone, where it does not matter who trains: three imports of torch fewer."""


def tiny(**changes: Any) -> Document:
    """Return a run that takes seconds, with sections changed; ``steps`` is for training."""
    training = {**TINY["training"], "steps": changes.pop("steps", TINY["training"]["steps"])}
    return {**TINY, "training": training, **changes}


def slow(**changes: Any) -> Document:
    """Return the same with steps long enough that something can happen between two of them."""
    document = tiny(**changes)
    return {**document, "training": {**document["training"], "prompts_per_step": 16, "group_size": 8}}


class ServiceProcess:
    """A running service; ``stop`` it with the signal that Ctrl-C is."""

    def __init__(self, data: Path, **settings: object) -> None:
        self.data = data
        self.log = data.with_name(f"{data.name}.log")
        options = ["--port", "0", "--data", str(data), "--json"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("NEUROMAS_", "RAY_"))}
        environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        environment |= {"NEUROMAS_HEARTBEAT_S": "0.5", "NEUROMAS_LOST_AFTER_S": "120", "NEUROMAS_LEASE_S": "3"}
        environment |= {f"NEUROMAS_{name.upper()}": str(value) for name, value in settings.items()}
        self._environment = environment
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "neuromas", "service", *options],
                env=environment,
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self.url = self._ray = ""
        # No connection is kept: who answers may be killed between two requests.
        self.client = httpx.Client(timeout=60, limits=httpx.Limits(max_keepalive_connections=0))

    def wait_until_ready(self) -> None:
        """Return when the service has said where it is."""
        assert self.process.stdout is not None
        lines: list[bytes] = []
        while b"}\n" not in lines:
            line = self.process.stdout.readline()
            assert line, f"the service ended while it started: {self.words()}"
            lines.append(line)
        places = json.loads(b"".join(lines))
        self.url, self._ray = places["url"], places["ray"]
        self.client.base_url = httpx.URL(self.url)

    @contextmanager
    def beside(self, module: str) -> Iterator[subprocess.Popen[bytes]]:
        """Give a process of the service's own that shares its store and cluster, as on another machine."""
        environment = self._environment | {"NEUROMAS_DATA_DIR": str(self.data), "NEUROMAS_RAY_ADDRESS": self._ray}
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.data / "ray.token")}
        with (self.data / "logs" / f"{module}.beside.log").open("ab") as log:
            command = [sys.executable, "-m", module]
            process = subprocess.Popen(command, env=environment | {"NEUROMAS_PORT": "0"}, cwd=ROOT, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def remote(self) -> Remote:
        return Remote(self.url)

    def words(self) -> str:
        """Return what the service and its parts have logged last."""
        logs = [self.log, *sorted((self.data / "logs").glob("*.log"))]
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-2500:]}" for log in logs if log.exists())

    def find(self, *words: str) -> list[int]:
        """Return the ids of processes of this service whose command line has all these words."""
        return [pid for pid in descendants(self.process.pid) if all(word in command(pid) for word in words)]

    def kill(self, *words: str) -> int:
        """Kill -9 the one process with these words and return its id.

        It is waited for: a shell that becomes it bears its words, as does a child that is about to become another.
        """
        found: list[int] = []

        def is_one() -> bool:
            found[:] = [pid for pid in self.find(*words) if not command(pid).startswith("/bin/sh")]
            return len(found) == 1

        self.wait_for(f"one process with {words}", is_one)
        os.kill(found[0], signal.SIGKILL)
        return found[0]

    def wait_for(self, what: str, is_so: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
        """Return when something is so; fails, with the logs, after the deadline."""
        end = time.monotonic() + deadline_s
        while True:
            try:
                if is_so():
                    return
            except httpx.HTTPError:
                pass
            assert self.process.poll() is None, f"the service has ended: {self.words()}"
            assert time.monotonic() < end, f"{what}: not so within {deadline_s} s\n{self.words()}"
            time.sleep(0.1)

    def wait_for_state(self, run_id: str, *states: str) -> Document:
        """Return a run once it is in one of the states."""
        found: Document = {}

        def is_there() -> bool:
            found.update(self.get(f"/v1/runs/{run_id}"))
            return found["state"] in states

        self.wait_for(f"{run_id} in {states}", is_there)
        return found

    def wait_for_step(self, run_id: str, step: int) -> None:
        """Return when a run of one stage has told of a step."""
        self.wait_for_event(run_id, "step", lambda event: event["step"] >= step)

    def wait_for_event(self, run_id: str, kind: str, is_it: Callable[[Document], bool] = lambda event: True) -> None:
        """Return when a run has told of such an event of a kind; each event is asked for once."""
        last = 0

        def is_told() -> bool:
            nonlocal last
            new = self.events(run_id, last)
            last = new[-1]["id"] if new else last
            return any(event["type"] == kind and is_it(event) for event in new)

        self.wait_for(f"{kind} of {run_id}", is_told)

    def get(self, path: str, **query: Any) -> Document:
        answer = self.client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        document: Document = answer.json()
        return document

    def post(self, path: str, body: Document | None = None, status: int = 202) -> Document:
        answer = self.client.post(path, json=body or {})
        assert answer.status_code == status, answer.text
        document: Document = answer.json()
        return document

    def events(self, run_id: str, after: int = 0) -> list[Document]:
        """Return all events of a run, or those after one."""
        found: list[Document] = []
        while True:
            page = self.get(f"/v1/runs/{run_id}/events", after=found[-1]["id"] if found else after, limit=1000)
            found += page["data"]
            if not page["has_more"]:
                return found

    def steps(self, run_id: str) -> list[int]:
        """Return the numbers of the steps that a run of one stage has told of, as they were told."""
        return [event["step"] for event in self.events(run_id) if event["type"] == "step"]

    def cancel_all(self) -> None:
        """Cancel every run that has not ended and return when all have: nothing of a failed test is left."""
        for state in ("queued", "running", "paused"):  # in this order: one that begins meanwhile is found
            for run in self.get("/v1/runs", state=state, limit=100)["data"]:
                answer = self.client.post(f"/v1/runs/{run['id']}/cancel")
                assert answer.status_code in (200, 409), answer.text  # it may have ended meanwhile
                self.wait_for_state(run["id"], "cancelled", "succeeded", "failed")

    def stop(self) -> int:
        """Press Ctrl-C and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(DEADLINE_S)


def check_whole(service: ServiceProcess, run_id: str, steps: int) -> None:
    """A finished run has told every step once, in order, and its folder holds the same."""
    run = service.get(f"/v1/runs/{run_id}")
    assert (run["state"], run["error"]) == ("succeeded", None), service.words()
    assert service.steps(run_id) == list(range(1, steps + 1))
    folder = service.data / "runs" / run_id / "tiny"
    assert [line["step"] for line in journal.read(folder / "metrics.jsonl")] == list(range(1, steps + 1))
    assert run["result"]["steps"] == steps
    assert run["progress"]["step"] == steps


@contextmanager
def running_service(data: Path, **settings: object) -> Iterator[ServiceProcess]:
    """Give a service that answers; afterwards it is stopped, and none of its processes may be left."""
    service = ServiceProcess(data, **settings)
    try:
        service.wait_until_ready()
        yield service
    finally:
        left = descendants(service.process.pid)
        try:
            service.stop()
        finally:
            if service.process.poll() is None:
                service.process.kill()
                service.process.wait()
            service.client.close()
    alive = [f"{pid} {command(pid)[:120]}" for pid in left if is_alive(pid)]
    assert alive == [], "processes that outlive the service"


def descendants(pid: int) -> list[int]:
    """Return the ids of the processes that a process has started, and those that these have."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(int(fields[1]), []).append(int(folder.name))
    found, waiting = [], [pid]
    while waiting:
        young = children.get(waiting.pop(), [])
        found += young
        waiting += young
    return found


def command(pid: int) -> str:
    """Return a process's command line; empty where it has ended."""
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and is not waited for does not."""
    try:
        fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return fields[0] != "Z"
