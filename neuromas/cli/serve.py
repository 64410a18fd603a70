"""``neuromas serve``: one trained graph as an OpenAI-compatible model."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import ExitStack, closing, suppress

import uvicorn
from fastapi import FastAPI

from neuromas.checkpoints.trained import find_trained
from neuromas.cli.command import Parser
from neuromas.cli.options import CheckpointOptions, add_checkpoint, add_engine, port_number
from neuromas.display.console import Console
from neuromas.display.status import StatusLine
from neuromas.serving.app import make_app
from neuromas.serving.endpoint import open_server
from neuromas.serving.http_server import HttpServer
from neuromas.serving.served_graph import base_url, listen
from neuromas.spec.machine import EngineType

EXAMPLES = "serve runs/quickstart --port 8000"


class Arguments(CheckpointOptions):
    """What the command reads."""

    host: str
    port: int
    name: str | None
    engine: EngineType | None


def add(parser: Parser) -> None:
    """Add the arguments."""
    add_checkpoint(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (default: 127.0.0.1, this machine only)")
    parser.add_argument("--port", type=port_number, default=8000, help="port (default: 8000; 0 = a free one)")
    parser.add_argument("--name", metavar="NAME", help="model name (default: the run's name)")
    add_engine(parser)


def run(arguments: Arguments, console: Console) -> int:
    """Run the command until SIGINT or SIGTERM; answers under way are finished, as far as they end soon."""
    trained = find_trained(arguments.path).on_machine(arguments.engine)
    name = arguments.name or trained.spec.name
    with listen(arguments.host, arguments.port) as listener, ExitStack() as stack:
        host, port = listener.getsockname()[:2]
        with StatusLine(console) as status:
            status.phase(f"importing and starting the engine, loading {trained.checkpoint}")
            server = stack.enter_context(closing(open_server(trained, name)))
        address = base_url(listener)
        if not ipaddress.ip_address(host).is_loopback:
            console.warn(f"{host} can be reached from other machines, and nobody is asked for a key")
        listener.listen()  # who reads the address may connect at once
        console.show(f"serving model {name!r} at {address}/v1", {"model": name, "url": f"{address}/v1", "port": port})
        _run(make_app(server, loopback_only=ipaddress.ip_address(host).is_loopback), listener, server.limits.drain_s)
    return 0


def _run(app: FastAPI, listener: socket.socket, drain_s: float) -> None:
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=int(drain_s))
    with suppress(KeyboardInterrupt):  # uvicorn raises the signal that stopped it once more
        HttpServer(config).run(sockets=[listener])
