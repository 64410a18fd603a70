"""Load on the service's API, a process of its own as it is deployed: reads per second, and event streams fanned out.

The store has 200 runs, the one that is read and followed has as many events as --events says, each of a step with 24
metrics. Reads are asked for again and again on kept-alive connections. Then many clients follow the run while its
events are appended, at a steady rate and by another process than the API's, as drivers do. Every follower must get
every event once and in order; the delay is the time from just before the append to the arrival at the client. All
followers are in one process, which needs a core of its own.

    python -m benchmarks.api_load [--stores sqlite redis] [--followers 200] [--events 200] [--rate 20] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter, sleep, time
from typing import Any

from benchmarks.api_process import ApiProcess, served_api
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


def reads(api: ApiProcess, clients: ClientProcess, name: str, seconds: float, turns: int) -> list[dict[str, Any]]:
    """Measure reads in turns and return the rows of their table."""
    cells = [(what, concurrency) for what in READS for concurrency in (1, 16)]
    rates: dict[tuple[str, int], list[float]] = {cell: [] for cell in cells}
    latencies: dict[tuple[str, int], list[float]] = {cell: [] for cell in cells}
    for turn in range(-1, turns):
        for what, concurrency in cells:
            clients.order(port=api.port, concurrency=concurrency, path=READS[what], seconds=seconds)
            found = clients.answer()
            if turn >= 0:
                rates[what, concurrency].append(len(found["latencies"]) / found["seconds"])
                latencies[what, concurrency] += found["latencies"]
    return [
        {
            "store": name,
            "read": what,
            "at a time": concurrency,
            "reads/s": median(rates[what, concurrency]),
            "low": min(rates[what, concurrency]),
            "high": max(rates[what, concurrency]),
            "p50 ms": 1000 * median(latencies[what, concurrency]),
            "p95 ms": 1000 * quantiles(latencies[what, concurrency], n=20)[-1],
        }
        for what, concurrency in cells
    ]


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


async def measured(
    api: ApiProcess, arguments: argparse.Namespace, name: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the rows of one store."""
    store = open_store(api.settings)
    try:
        await populate(store)
        await tell(store, 0, arguments.events, 0)
        with ClientProcess("benchmarks.follow_client") as clients:
            rows = await asyncio.to_thread(reads, api, clients, name, arguments.seconds, arguments.turns)
            row = await fan_out(store, api, clients, name, arguments.followers, arguments.events, arguments.rate)
    finally:
        await store.close()
    return rows, row


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
        with TemporaryDirectory() as folder:
            if name == "redis":
                with redis_url(Path(folder)) as url, served_api(Settings(data_dir=Path(folder), store_url=url)) as api:
                    found = asyncio.run(measured(api, arguments, name))
            else:
                with served_api(Settings(data_dir=Path(folder))) as api:
                    found = asyncio.run(measured(api, arguments, name))
        rows += found[0]
        fans.append(found[1])
    report("reads of the API", rows, arguments.json)
    report("event streams", fans, None if arguments.json is None else arguments.json.with_suffix(".streams.json"))


if __name__ == "__main__":
    main()
