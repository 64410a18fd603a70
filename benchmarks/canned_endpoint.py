"""An endpoint that answers every question at once with the same words: what is left to measure is who passes it on.

python -m benchmarks.canned_endpoint --fd N        of a bound socket
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
from asyncio import StreamReader, StreamWriter
from contextlib import suppress

import uvloop

USAGE = {"prompt_tokens": 300, "completion_tokens": 24, "total_tokens": 324}
ANSWER = json.dumps(
    {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 0,
        "model": "graph",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "E= 3"}, "finish_reason": "stop"}],
        "usage": USAGE,
        "neuromas": {"version": "ckpt_0", "seed": 0, "usage_by_node": {f"n{node}": USAGE for node in range(5)}},
    },
    separators=(",", ":"),
).encode()
TOLD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER)


async def answer(reader: StreamReader, writer: StreamWriter) -> None:
    """Answer the questions of one connection."""
    with suppress(asyncio.IncompleteReadError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
            writer.write(TOLD)
    writer.close()


async def serve(listener: socket.socket) -> None:
    """Serve until the process is ended."""
    async with await asyncio.start_server(answer, sock=listener) as server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fd", type=int, required=True)
    uvloop.run(serve(socket.socket(fileno=parser.parse_args().fd)))


if __name__ == "__main__":
    main()
