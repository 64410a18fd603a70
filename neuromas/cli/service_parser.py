"""The grammar of the commands around the service: running it, its keys, and what a client asks of a server."""

from __future__ import annotations

import argparse
from pathlib import Path

from neuromas.cli.command import Commands, add_command, add_output

_STATES = ("queued", "running", "paused", "succeeded", "failed", "cancelled")


def add_service_commands(commands: Commands) -> None:
    """Add all of them."""
    for add in (_add_service, _add_keys, _add_runs, _add_endpoints, _add_checkpoints, _add_watch):
        add(commands)


def _add_service(commands: Commands) -> None:
    parser = add_command(
        commands,
        "service",
        "neuromas.services.cli.service",
        "run the whole service on this machine: API, dashboard, store and a local Ray cluster",
        "service\nservice --port 0 --data ~/neuromas\nservice --store redis://127.0.0.1:6379/0",
    )
    parser.add_argument("--host", dest="bind_host", help="address to bind (default: 127.0.0.1, this machine only)")
    parser.add_argument("--port", dest="bind_port", type=int, help="port (default: 8080; 0 = a free one)")
    parser.add_argument("--with-keys", action="store_true", help="ask for keys on this machine too")
    _add_place(parser)


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="DIR", type=Path, help="folder of runs and store (default: neuromas-data)")
    parser.add_argument("--store", metavar="URL", help="sqlite (default) or redis://host:port/0")


def _add_keys(commands: Commands) -> None:
    parser = add_command(
        commands,
        "keys",
        "neuromas.services.cli.keys",
        "make, list and revoke keys of the API, in the store of this machine's settings",
        "keys create --name laptop --scope read,train,serve\nkeys list\nkeys revoke key_0123456789abcdef",
    )
    verbs = _verbs(parser)
    create = _verb(verbs, "create", "make a key and show it, once", server=False)
    create.add_argument("--name", default="key", help="what you call it (default: key)")
    create.add_argument(
        "--scope", action="append", required=True, metavar="S[,S]", help="read, train, serve; may be repeated"
    )
    create.add_argument("--requests-per-minute", type=int, metavar="N", help="limit of this key; 0 = none")
    create.add_argument("--max-queued-runs", type=int, metavar="N", help="limit of this key; 0 = none")
    listed = _verb(verbs, "list", "list keys, without their secrets", server=False)
    revoke = _verb(verbs, "revoke", "make a key invalid for good", server=False)
    revoke.add_argument("id", metavar="KEY", help="id of the key (key_...)")
    for each in (create, listed, revoke):
        _add_place(each)


def _add_runs(commands: Commands) -> None:
    parser = add_command(
        commands,
        "runs",
        "runs",
        "submit runs to a server, follow and steer them",
        "runs submit examples/quickstart.toml --watch\nruns list --state running\n"
        "runs grow RUN --append 2 --set task.hops=7 --steps 40",
    )
    verbs = _verbs(parser)
    submit = _verb(verbs, "submit", "queue a run spec")
    submit.add_argument("path", metavar="SPEC", type=Path, help="run spec (.toml or .json)")
    listed = _verb(verbs, "list", "list runs, newest first")
    listed.add_argument("--state", choices=_STATES, help="only runs in this state")
    listed.add_argument("--limit", type=int, default=20, help="at most so many (default: 20)")
    for name, summary in (
        ("show", "show a run"),
        ("watch", "follow a run with a live display"),
        ("cancel", "end a run"),
        ("pause", "have a run write a checkpoint and free its place"),
        ("resume", "have a paused run go on from its checkpoint"),
    ):
        _add_run(_verb(verbs, name, summary))
    grow = _verb(verbs, "grow", "make a new, larger run from a checkpoint of a run")
    _add_run(grow)
    how = grow.add_mutually_exclusive_group(required=True)
    how.add_argument(
        "--plan", dest="plan_file", metavar="FILE", type=Path, help="growth plan (.toml or .json): edits and inherit"
    )
    how.add_argument("--append", metavar="N", type=int, help="append N nodes in series after the output")
    grow.add_argument("--checkpoint", default="latest", help='"latest" (default), "best", or a checkpoint\'s id')
    grow.add_argument("--name", help="of the new run (default: the parent's with -grown)")
    grow.add_argument("--steps", metavar="N", type=int, help="optimizer steps (default: the parent's)")
    grow.add_argument("--level", metavar="L", type=int, help="task level (default: the task's target)")
    until = grow.add_mutually_exclusive_group()
    until.add_argument("--check", action="store_true", help="show what the graph would become; start nothing")
    for each, place in ((submit, submit), (grow, until)):
        _add_set(each)
        place.add_argument("--watch", action="store_true", help="follow the run until it ends")


def _add_endpoints(commands: Commands) -> None:
    parser = add_command(
        commands,
        "endpoints",
        "endpoints",
        "serve checkpoints as models of a server",
        "endpoints deploy solver RUN@best --wait\nendpoints swap solver RUN@latest\nendpoints delete solver",
    )
    verbs = _verbs(parser)
    deploy = _verb(verbs, "deploy", "serve a checkpoint under a name")
    swap = _verb(verbs, "swap", "give an endpoint another checkpoint; no request fails")
    delete = _verb(verbs, "delete", "stop an endpoint")
    _verb(verbs, "list", "list endpoints").add_argument(
        "--limit", type=int, default=20, help="at most so many (default: 20)"
    )
    for each in (deploy, swap, delete):
        each.add_argument("name", metavar="NAME", help="of the endpoint: what clients ask for as model")
    for each in (deploy, swap):
        each.add_argument("checkpoint", metavar="CHECKPOINT", help="its id, RUN@latest or RUN@best")
    deploy.add_argument("--replicas", metavar="N", type=int, help="copies that answer (default: the server's)")
    deploy.add_argument("--max-replicas", metavar="N", type=int, help="copies that a high load may add up to")
    for each in (deploy, swap, delete):
        each.add_argument("--wait", action="store_true", help="return when it is so")


def _add_checkpoints(commands: Commands) -> None:
    parser = add_command(
        commands,
        "checkpoints",
        "checkpoints",
        "list a run's checkpoints, and get them as archives",
        "checkpoints list RUN\ncheckpoints export RUN@best --out solver.tar",
    )
    verbs = _verbs(parser)
    _add_run(_verb(verbs, "list", "list a run's checkpoints, newest first"))
    export = _verb(verbs, "export", "get a checkpoint's adapters as stock PEFT folders")
    export.add_argument("checkpoint", metavar="CHECKPOINT", help="its id, RUN@latest or RUN@best")
    export.add_argument("--out", metavar="FILE", type=Path, required=True, help="new file; .tar or .zip")


def _add_watch(commands: Commands) -> None:
    parser = add_command(
        commands,
        "watch",
        "watch",
        "follow a run with a live display",
        "watch run_0123456789abcdef\nwatch RUN --nodes --server http://127.0.0.1:8080",
    )
    _add_run(parser)
    parser.add_argument("--nodes", action="store_true", help="show a line per node with every step shown")
    _add_server(parser)


def _verbs(parser: argparse.ArgumentParser) -> Commands:
    return parser.add_subparsers(dest="verb", metavar="VERB", required=True)


def _verb(verbs: Commands, name: str, summary: str, *, server: bool = True) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
    add_output(parser)
    if server:
        _add_server(parser)
    return parser


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--server",
        metavar="URL",
        help="address of the service (default: $NEUROMAS_SERVER, else http://127.0.0.1:8080); "
        "its key, where it wants one, is read from $NEUROMAS_API_KEY",
    )


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="RUN", help="id of the run (run_...)")


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="replace a value of the spec; may be repeated"
    )
