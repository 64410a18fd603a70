"""A client for load tests that costs little itself: kept-alive connections, one request at a time on each.

Run as a process of its own, it takes orders as JSON lines on stdin and answers each with one on stdout:

    {"port": 8000, "concurrency": 16, "bodies": ["{...}", ...]}
    {"seconds": 1.9, "latencies": [...], "firsts": [...], "answers": [...]}

``firsts`` are the seconds until the first text of each answer; streams begin with it.
``answers`` are the bodies of the responses; of a streamed one the event before the usage, in which the trace is.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import uvloop

from benchmarks.client_process import orders, say

HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
)


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> tuple[bytes, float]:
    """Send one request; returns the JSON of its answer, and when the first of it came."""
    writer.write(HEAD % len(body) + body)
    lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
    if b" 200 " not in lines[0]:
        raise RuntimeError(f"the endpoint said {lines[0].decode()}")
    headers = dict(line.split(b": ", 1) for line in lines[1:] if b": " in line)
    if b"content-length" in headers:
        return await reader.readexactly(int(headers[b"content-length"])), perf_counter()
    last, first = b"", 0.0
    while size := int(await reader.readuntil(b"\r\n"), 16):
        chunk = (await reader.readexactly(size + 2))[:-2]
        first = first or perf_counter()
        for event in chunk.split(b"\n\n"):
            if b'"neuromas"' in event:
                last = event.removeprefix(b"data: ")
    await reader.readexactly(2)
    return last, first


async def load(port: int, concurrency: int, bodies: list[str]) -> dict[str, Any]:
    """Ask everything, ``concurrency`` at a time."""
    waiting: Iterator[tuple[int, bytes]] = iter([(place, body.encode()) for place, body in enumerate(bodies)])
    latencies = [0.0] * len(bodies)
    firsts = [0.0] * len(bodies)
    answers = [b""] * len(bodies)

    async def work(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for place, body in waiting:
            began = perf_counter()
            answers[place], first = await ask(reader, writer, body)
            latencies[place] = perf_counter() - began
            firsts[place] = first - began
        writer.close()

    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(concurrency)]
    began = perf_counter()
    await asyncio.gather(*(work(*connection) for connection in connections))
    seconds = perf_counter() - began
    told = [json.loads(answer) for answer in answers]
    return {"seconds": seconds, "latencies": latencies, "firsts": firsts, "answers": told}


def main() -> None:
    for order in orders():
        say(uvloop.run(load(**order)))


if __name__ == "__main__":
    main()
