"""Clients of the API for load tests: readers, and followers of an event stream. They cost little themselves.

Run as a process of its own, it takes orders as JSON lines on stdin and answers each with one on stdout:

    {"port": 8080, "concurrency": 16, "path": "/v1/runs", "seconds": 2}
    {"seconds": 2.0, "latencies": [...]}
    {"port": 8080, "followers": 200, "path": "/v1/runs/run_.../events"}
    {"opened": 200}
    {"delays": [[...], ...], "steps": [[...], ...], "seconds": 9.8}

A follower's delays are seconds from ``time_s`` of an event to its arrival, ``steps`` the events in the order in which
they came; they are read until the stream ends.
"""

from __future__ import annotations

import asyncio
import json
from time import perf_counter, time
from typing import Any

from benchmarks.client_process import orders, say


async def connect(port: int, path: str, accept: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    """Return a connection and the request that it will send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    return reader, writer, f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: {accept}\r\n\r\n".encode()


async def head(reader: asyncio.StreamReader) -> bytes:
    """Return the head of an answer, in lower case.

    Raises:
        RuntimeError: the answer is no success.
    """
    found = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b" 200 " not in found.partition(b"\r\n")[0]:
        raise RuntimeError(f"the API said {found.decode()}")
    return found


async def read(port: int, concurrency: int, path: str, seconds: float) -> dict[str, Any]:
    """Read one path again and again, one request at a time on each connection."""
    latencies: list[float] = []
    connections = [await connect(port, path, "application/json") for _ in range(concurrency)]
    began = perf_counter()

    async def work(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
        while (sent := perf_counter()) < began + seconds:
            writer.write(request)
            length = (await head(reader)).partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
            latencies.append(perf_counter() - sent)
        writer.close()

    await asyncio.gather(*(work(*connection) for connection in connections))
    return {"seconds": perf_counter() - began, "latencies": latencies}


async def follow(port: int, followers: int, path: str) -> dict[str, Any]:
    """Follow one stream many times until it ends; says when all are connected."""
    delays: list[list[float]] = []
    steps: list[list[int]] = []
    opened = 0
    all_open = asyncio.Event()

    async def work(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
        nonlocal opened
        mine: list[bytes] = []
        arrived: list[float] = []
        writer.write(request)
        await head(reader)
        opened += 1
        if opened == followers:
            all_open.set()
        # Chunks of the transfer hold whole events, so that lines of events are lines of what is read.
        while line := await reader.readline():
            if line.startswith(b"data: "):
                mine.append(line)
                arrived.append(time())
            elif line == b"0\r\n":
                break
        writer.close()
        events = [json.loads(line[6:]) for line in mine]
        told = [(at, event) for at, event in zip(arrived, events, strict=True) if event["type"] == "step"]
        delays.append([at - event["time_s"] for at, event in told])
        steps.append([event["step"] for _, event in told])

    async with asyncio.TaskGroup() as group:
        for _ in range(followers):
            group.create_task(work(*await connect(port, path, "text/event-stream")))
        await all_open.wait()
        began = perf_counter()
        say({"opened": opened})
    return {"delays": delays, "steps": steps, "seconds": perf_counter() - began}


def main() -> None:
    for order in orders():
        say(asyncio.run(follow(**order) if "followers" in order else read(**order)))


if __name__ == "__main__":
    main()
