"""Load on the service's API, a process of its own as it is deployed: requests per second, and event streams fanned out.

The store has 200 runs, the one that is read and followed has as many events as --events says, each of a step with 24
metrics. Reads are asked for again and again on kept-alive connections, and so is an endpoint that has its answer ready.
With --beside the API of another checkout takes turns with this one over the same store: its figures come first, those
of this one are told over them as well, as the median of the turns with the lowest and the highest.

Then many clients follow the run while its events are appended, at a steady rate and by another process than the API's,
as drivers do. Every follower must get every event once and in order; the delay is the time from just before the append
to the arrival at the client. All followers are in one process, which needs a core of its own.

    python -m benchmarks.api_load [--stores sqlite redis] [--beside CHECKOUT] [--followers 200] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter, sleep, time
from typing import Any

from benchmarks.api_process import HERE, ApiProcess, canned_endpoint, served_api
from benchmarks.client_process import ClientProcess
from benchmarks.measure import report
from neuromas.services.records.run import RunRecord, RunState
from neuromas.services.records.streams import events_stream
from neuromas.services.settings import Settings
from neuromas.services.store.base import Document, Store
from neuromas.services.store.open import open_store
from neuromas.spec.parse import parse_run_spec

RUNS = 200
FOLLOWED = f"run_{0:016x}"
SPEC = {"name": "load", "topology": {"layers": [2, 2]}, "task": {"type": "chain", "hops": 5}}
READS = {
    "GET /healthz": "/healthz",
    "GET /v1/runs/{id}": f"/v1/runs/{FOLLOWED}",
    "GET /v1/runs?limit=20": "/v1/runs?limit=20",
    "GET .../events?limit=100": f"/v1/runs/{FOLLOWED}/events?limit=100",
    "GET .../metrics?limit=100": f"/v1/runs/{FOLLOWED}/metrics?limit=100",
}
CHAT = "POST /v1/chat/completions"
QUESTION = json.dumps({"model": "graph", "messages": [{"role": "user", "content": "0: 5 1: 3 2: 7 start 2 find E="}]})
QUESTIONS_A_SECOND = 300
"""Of a turn: the client that asks has no clock."""


def step_event(step: int) -> Document:
    """Return the event of one optimizer step, appended now."""
    metrics = {f"train/grad_norm/n{index}": step + index / 7 for index in range(24)}
    return {"type": "step", "stage": 0, "step": step, "time_s": time(), "metrics": metrics}


async def populate(store: Store) -> None:
    """Add the runs."""
    spec = parse_run_spec(SPEC).model_dump(mode="json")
    for number in range(RUNS):
        run = RunRecord(
            id=f"run_{number:016x}", name="load", state=RunState.RUNNING, spec=spec, task="chain", base="tiny",
            topology="topo_0", owner="local", latest=step_event(0)["metrics"],
        )  # fmt: skip
        await store.create(run)


async def tell(store: Store, first: int, count: int, rate: float) -> float:
    """Append events at a rate (0 = all at once); returns the seconds it took."""
    began = perf_counter()
    stream = events_stream(FOLLOWED)
    if not rate:
        await store.append(stream, [(f"step/{step}", step_event(step)) for step in range(first, first + count)])
    for index in range(count if rate else 0):
        await asyncio.sleep(max(0.0, began + index / rate - perf_counter()))
        await store.append(stream, [(f"step/{first + index}", step_event(first + index))])
    return perf_counter() - began


async def end(store: Store) -> None:
    """End the run, and with it the streams of those who follow it."""
    await store.update(RunRecord, FOLLOWED, {"state": RunState.SUCCEEDED})
    await store.append(events_stream(FOLLOWED), [("end", {"type": "state", "state": RunState.SUCCEEDED})])


class Cell:
    """One thing that is asked for of one API, turn by turn."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.cpu_ms: list[float] = []
        self.latencies: list[float] = []

    def turn(self, api: ApiProcess, clients: ClientProcess, order: dict[str, Any]) -> None:
        """Have clients ask for it."""
        before = api.cpu_s()
        clients.order(port=api.port, **order)
        found = clients.answer()
        count = len(found["latencies"])
        self.cpu_ms.append(1000 * (api.cpu_s() - before) / count)
        self.rates.append(count / found["seconds"])
        self.latencies += found["latencies"]


def requests(apis: dict[str, ApiProcess], name: str, seconds: float, turns: int) -> list[dict[str, Any]]:
    """Measure requests in turns and return the rows of their table."""
    cells = {(what, at_a_time): {api: Cell() for api in apis} for what in (*READS, CHAT) for at_a_time in (1, 16)}
    with ClientProcess("benchmarks.follow_client") as readers, ClientProcess("benchmarks.load_client") as askers:
        for turn in range(-1, turns):
            for (what, at_a_time), of_api in cells.items():
                for api in list(apis) if turn % 2 else reversed(list(apis)):
                    cell = Cell() if turn < 0 else of_api[api]
                    if what == CHAT:
                        bodies = [QUESTION] * max(at_a_time, int(seconds * QUESTIONS_A_SECOND))
                        cell.turn(apis[api], askers, {"concurrency": at_a_time, "bodies": bodies})
                    else:
                        order = {"concurrency": at_a_time, "path": READS[what], "seconds": seconds}
                        cell.turn(apis[api], readers, order)
    return [_row(name, what, at_a_time, api, of_api) for (what, at_a_time), of_api in cells.items() for api in of_api]


def _row(store: str, what: str, at_a_time: int, api: str, of_api: dict[str, Cell]) -> dict[str, Any]:
    cell, other = of_api[api], next(iter(of_api.values()))
    row = {
        "store": store,
        "request": what,
        "at a time": at_a_time,
        "API": api,
        "requests/s": median(cell.rates),
        "p50 ms": 1000 * median(cell.latencies),
        "p95 ms": 1000 * quantiles(cell.latencies, n=20)[-1],
        "CPU ms": median(cell.cpu_ms),
    }
    if len(of_api) > 1:
        row |= {"rate over": _spread(cell.rates, other.rates), "CPU over": _spread(cell.cpu_ms, other.cpu_ms)}
    return row


def _spread(ours: list[float], theirs: list[float]) -> str:
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


async def fan_out(
    store: Store, api: ApiProcess, clients: ClientProcess, name: str, followers: int, events: int, rate: float
) -> dict[str, Any]:
    """Have clients follow the run while events are appended, and return the row of what they got."""
    before = list(range(events))  # appended for the reads
    clients.order(port=api.port, followers=followers, path=f"/v1/runs/{FOLLOWED}/events")
    opened = (await asyncio.to_thread(clients.answer))["opened"]
    await asyncio.sleep(2)  # the events of before have been sent
    took_s = await tell(store, events, events, rate)
    await end(store)
    found = await asyncio.to_thread(clients.answer)
    wanted = [*before, *range(events, 2 * events)]
    missing = sum(steps != wanted for steps in found["steps"])
    assert (opened, len(found["steps"]), missing) == (followers, followers, 0), (
        f"{missing} did not get every event once"
    )
    delays = [delay for mine in found["delays"] for delay in mine[len(before) :]]
    return {
        "store": name,
        "followers": followers,
        "events": events,
        "appended/s": events / took_s,
        "delivered/s": followers * events / took_s,
        "delay p50 ms": 1000 * median(delays),
        "delay p95 ms": 1000 * quantiles(delays, n=20)[-1],
        "delay max ms": 1000 * max(delays),
    }


def measured(settings: Settings, arguments: argparse.Namespace, name: str) -> tuple[list[dict[str, Any]], Any]:
    """Return the rows of one store."""
    asyncio.run(filled(settings, arguments.events))
    with ExitStack() as stack:
        stack.enter_context(canned_endpoint(settings))
        checkouts = {"this": HERE} if arguments.beside is None else {"beside": arguments.beside, "this": HERE}
        there = {who: stack.enter_context(served_api(settings, folder)) for who, folder in checkouts.items()}
        rows = requests(there, name, arguments.seconds, arguments.turns)
        with ClientProcess("benchmarks.follow_client") as clients:
            return rows, asyncio.run(followed(there["this"], clients, arguments, name))


async def filled(settings: Settings, events: int) -> None:
    """Fill a store."""
    store = open_store(settings)
    await populate(store)
    await tell(store, 0, events, 0)
    await store.close()


async def followed(api: ApiProcess, clients: ClientProcess, arguments: argparse.Namespace, name: str) -> dict[str, Any]:
    """Return the row of event streams."""
    store = open_store(api.settings)
    try:
        return await fan_out(store, api, clients, name, arguments.followers, arguments.events, arguments.rate)
    finally:
        await store.close()


def is_there(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def redis_url(folder: Path) -> Iterator[str]:
    """Give a Redis of our own that writes every change to disk within a second."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise SystemExit("redis-server is not installed; leave redis out: --stores sqlite")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--appendonly", "yes", "--save", ""]
    process = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL)
    deadline = monotonic() + 30
    try:
        while not is_there(port):
            if process.poll() is not None or monotonic() > deadline:
                raise SystemExit("redis-server did not start")
            sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stores", nargs="+", choices=("sqlite", "redis"), default=["sqlite", "redis"])
    parser.add_argument("--beside", type=Path, metavar="CHECKOUT", help="another version, to take turns with")
    parser.add_argument("--followers", type=int, default=200)
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--rate", type=float, default=20, help="events per second while they are followed")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a turn of reads")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    fans: list[dict[str, Any]] = []
    for name in arguments.stores:
        with TemporaryDirectory() as folder, ExitStack() as stack:
            url = stack.enter_context(redis_url(Path(folder))) if name == "redis" else "sqlite"
            found = measured(Settings(data_dir=Path(folder), store_url=url), arguments, name)
        rows += found[0]
        fans.append(found[1])
    report("requests to the API", rows, arguments.json)
    report("event streams", fans, None if arguments.json is None else arguments.json.with_suffix(".streams.json"))


if __name__ == "__main__":
    main()
