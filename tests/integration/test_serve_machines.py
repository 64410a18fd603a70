"""An endpoint on two machines without a common disk: files reach the second, which is lost amid answers."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from threading import Event
from typing import Any

import openai
import pytest
from api_server import ApiServer, running_api
from held_answers import DISK, HELD, HOLD
from ray.cluster_utils import Cluster
from serve_door import ROOT, START_S, TOKEN, DoorProcess
from service_process import command, descendants
from waiting import until

from neuromas.base.fingerprint import fingerprint
from neuromas.checkpoints.location import resolve_checkpoint
from neuromas.run.outcome import RunResult
from neuromas.services.records.endpoint import EndpointRecord, EndpointState
from neuromas.services.records.record import new_id
from neuromas.services.records.serve_token import ServeTokenRecord
from neuromas.services.runs.head import free_port
from neuromas.services.settings import Settings
from neuromas.spec.parse import parse_run_spec
from neuromas.tasks.registry import make_task

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1800)]
LOST = {"endpoint_failed", "endpoint_unavailable"}
"""What may be said instead of an answer when a machine is lost."""
ENVIRONMENT = {
    "XDG_DATA_HOME": str(DISK / "data"),
    "XDG_CACHE_HOME": str(DISK / "cache"),
    "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests/support'}",
    "OMP_NUM_THREADS": "1",
    "RAY_worker_niceness": "0",  # else replicas wait for all else that the machine does
}


class Machine:
    """A machine with a disk of its own: the working folder of its processes."""

    def __init__(self, cluster: Cluster, disk: Path) -> None:
        self.disk = disk
        self._node = joined(cluster, disk)

    @property
    def replicas(self) -> list[int]:
        """Processes of the replicas here."""
        return [pid for pid in descendants(self._raylet) if "ray::ServeReplica" in command(pid)]

    def lose(self) -> None:
        """End everything on it at once."""
        for pid in (self._raylet, *descendants(self._raylet)):
            with suppress(ProcessLookupError):  # some end with the first
                os.kill(pid, signal.SIGKILL)

    @property
    def _raylet(self) -> int:
        pid: int = self._node.all_processes["raylet"][0].process.pid
        return pid


def joined(cluster: Cluster, disk: Path) -> Any:
    """Add a machine with room for one replica to a cluster; returns Ray's node."""
    disk.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(disk)
        for name, value in ENVIRONMENT.items():
            patched.setenv(name, value)
        return cluster.add_node(num_cpus=1, include_dashboard=False)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    found = Cluster()
    yield found
    found.shutdown()


def door_on(machine: Machine, address: str, log: Path) -> DoorProcess:
    """Return a door on a machine of the cluster at an address; its replicas can hold their answers."""
    environment = os.environ | ENVIRONMENT | {"RAY_ADDRESS": address}
    return DoorProcess(environment, free_port(), log, "held", folder=machine.disk)


@pytest.fixture
def trained(trained_run: RunResult, small_base: Path, tmp_path: Path) -> str:
    """A checkpoint on the first machine's disk, as paths lead there; its base is one that was imported there."""
    disk = tmp_path / "first"
    shutil.copytree(small_base, disk / "data/neuromas/bases/ours")
    shutil.copytree(trained_run.folder, disk / "runs/served")
    spec = disk / "runs/served/spec.resolved.json"
    spec.write_text(json.dumps(json.loads(spec.read_text()) | {"base": "ours"}))
    return str(DISK / resolve_checkpoint(disk / "runs/served").relative_to(disk))


class Asker:
    """Asks one question of an endpoint, each time in a thread of its own."""

    def __init__(self, pool: ThreadPoolExecutor, api: ApiServer) -> None:
        http = openai.DefaultHttpxClient(trust_env=False)
        url = f"{api.url}/v1"
        self._client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=START_S, http_client=http)
        self._pool = pool
        task = make_task(parse_run_spec({"topology": {"chain": 1}, "task": {"type": "chain", "hops": 2}}).task, 0)
        self._question: dict[str, Any] = {
            "model": "solver",
            "messages": [{"role": "user", "content": task.example("test", 0).prompt}],
            "temperature": 0,
        }
        self.answers: list[Future[str]] = []
        self.streams: list[Future[str]] = []
        self._begun: list[Event] = []

    def ask(self) -> str:
        """Return an answer, or the code of the error there is instead."""
        try:
            answer = self._client.chat.completions.create(**self._question)
        except openai.APIError as error:
            return f"error {error.code}"
        return answer.choices[0].message.content or ""

    def ask_both(self) -> None:
        """Begin to ask twice, once for a stream."""
        begun = Event()
        self._begun.append(begun)
        self.answers.append(self._pool.submit(self.ask))
        self.streams.append(self._pool.submit(self._stream, begun))

    @property
    def have_begun(self) -> bool:
        """Whether something came of each stream."""
        return all(event.is_set() for event in self._begun)

    def _stream(self, begun: Event) -> str:
        pieces = []
        try:
            for chunk in self._client.chat.completions.create(**self._question, stream=True):
                if piece := chunk.choices[0].delta.content:
                    pieces.append(piece)
                    begun.set()
        except openai.APIError as error:
            return f"error {error.code}"
        return "".join(pieces)


def test_an_endpoint_answers_when_one_of_its_machines_is_lost(
    cluster: Cluster, trained: str, small_base: Path, tmp_path: Path
) -> None:
    first, second = Machine(cluster, tmp_path / "first"), Machine(cluster, tmp_path / "second")
    graph = {"name": "solver", "checkpoint": trained, "version": "one", "generation": 1}
    settings = Settings(data_dir=tmp_path / "service", port=0)
    with (
        closing(door_on(first, cluster.address, tmp_path / "serve.log")) as door,
        running_api(settings.model_copy(update={"serve_url": door.url})) as api,
        ThreadPoolExecutor(64) as pool,
    ):
        # -- two replicas, for which no machine has room alone: the second brings what it lacks
        (group,) = door.do("deploy", graphs=[graph], replicas={"solver": [2, 2]}, cpus=1)["groups"]
        name = group["name"]

        def has_replicas(status: dict[str, Any], wanted: int) -> bool:
            found = status.get(name, {"replicas": 0, "graphs": {}})
            return bool(found["replicas"] == wanted and found["graphs"]["solver"]["is_ready"])

        door.until(lambda status: has_replicas(status, 2))
        assert [len(machine.replicas) for machine in (first, second)] == [1, 1]
        kept = second.disk / "cache/neuromas/bases" / fingerprint(small_base)
        assert fingerprint(kept) == fingerprint(small_base)
        assert not (first.disk / "cache/neuromas/bases").exists()
        api.put(ServeTokenRecord(token=TOKEN))
        known = {"name": "solver", "checkpoint": "c", "run": "r", "owner": "local", "url": group["route"]}
        api.put(EndpointRecord(id=new_id("ep"), state=EndpointState.READY, **known))
        asker = Asker(pool, api)
        right = asker.ask()
        assert not right.startswith("error")
        assert {asker.ask() for _ in range(8)} == {right}

        # -- both hold answers, among those of the second a stream that has begun; then it is lost
        for machine in (first, second):
            (machine.disk / HOLD).touch()
        pause = Event()
        while not (second.disk / HELD).exists():
            assert len(asker.answers) < 30, "the second machine is asked too little"
            asker.ask_both()
            pause.wait(1)
        until(lambda: asker.have_begun, within_s=START_S)
        second.lose()
        (first.disk / HOLD).unlink()
        for told in (asker.answers, asker.streams):
            outcomes = {one.result(START_S) for one in told}
            assert outcomes <= {right, *(f"error {code}" for code in LOST)}
            assert outcomes != {right}, "nothing of this kind was under way on the machine that was lost"

        # -- the other answers, and nobody had to do anything
        until(lambda: [asker.ask() for _ in range(8)] == [right] * 8, within_s=START_S)

        # -- a machine that joins takes the place of the lost one
        third = Machine(cluster, tmp_path / "third")
        door.until(lambda status: has_replicas(status, 2) and len(third.replicas) == 1)
        assert {asker.ask() for _ in range(8)} == {right}
