"""Deployment on Ray Serve: one application per engine group, its graphs swapped while it serves.

Call it from a process that is connected to the cluster, outside event loops: everything here waits for Ray. What has
been deployed outlives the process.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayError
from ray.serve.config import RequestRouterConfig
from ray.serve.exceptions import RayServeException

import neuromas
from neuromas.engines.setup import EngineSetup
from neuromas.errors import RuntimeStartError
from neuromas.serving.app import make_app
from neuromas.serving.deployment_status import GroupStatus, group_status
from neuromas.serving.even_router import EvenRouter
from neuromas.serving.graph_loader import GraphLoader
from neuromas.serving.graph_server import GraphServer
from neuromas.serving.group import EngineGroup, Opener, graph_sources
from neuromas.serving.load import ServerLimits
from neuromas.spec.machine import Threads

_NAME = "graphs"
_REPORT_S = 10.0
_HEALTH_EVERY_S = 5.0
_SHARE_OF_LIMIT = 0.5


class GraphReplica:
    """One engine with its graphs, in a process of its own; Serve makes it, watches it and sends it requests."""

    def __init__(self, setup: EngineSetup, slots: int, limits: ServerLimits, opener: Opener, token: str) -> None:
        """Start the engine; takes seconds. Only requests with the token are answered.

        Raises:
            NeuroMASError: it did not start; the deployment fails with this reason.
        """
        self._server = GraphServer(partial(opener.start, setup, slots), limits)
        self._token = token
        self._loader = GraphLoader(self._server, partial(opener.load, setup))
        self._has_begun = False
        self._following: asyncio.Future[None] | None = None

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve other graphs. The first ones are loaded before requests come, later ones while requests go on.

        Serve sends a replica nothing new while this runs, which would hold requests back for as long as loading takes.
        """
        self._loader.want(graph_sources(user_config))
        following = asyncio.get_running_loop().run_in_executor(None, self._loader.follow)
        if not self._has_begun:
            await following
        self._has_begun, self._following = True, following

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the application that answers; the same as that of ``neuromas serve``."""
        return make_app(self._server, self._token)

    def check_health(self) -> None:
        """Raise when the engine has stopped; Serve then starts another replica.

        Raises:
            RuntimeStartError: the engine has stopped.
        """
        if not self._server.is_alive:
            raise RuntimeStartError("the engine of this replica has stopped")

    async def report(self) -> dict[str, Any]:
        """Return how far this replica is with each graph, and what it has to do."""
        graphs = {name: asdict(report) for name, report in self._loader.report().items()}
        return {"graphs": graphs, "load": asdict(self._server.load)}

    def __del__(self) -> None:
        """Stop the engine; Serve has waited for the requests under way."""
        self._server.close(drain_s=0)


@dataclass(frozen=True, slots=True)
class ServeAddress:
    """Where Serve's HTTP proxies listen: on the head node, or on every node that runs a replica."""

    host: str = "127.0.0.1"
    port: int = 8000
    on_every_node: bool = False


class ServeDeployer:
    """Deploys, watches and stops engine groups on the Ray cluster that this process is connected to."""

    def __init__(self, address: ServeAddress, opener: Opener, token: str) -> None:
        """Prepare; nothing is reached before it is asked for.

        Args:
            address: of the proxies, which answer whoever reaches them.
            opener: makes engines and loads graphs.
            token: that requests must bring, whoever sends them; the replicas check it.
        """
        self._address = address
        self._opener = opener
        self._token = token
        self._handles: dict[str, Any] = {}

    def start(self) -> None:
        """Start Serve and its HTTP proxy, unless they run already; an address set then stays.

        Raises:
            RuntimeStartError: Serve did not start.
        """
        with _reaching_serve():
            serve.start(
                proxy_location="EveryNode" if self._address.on_every_node else "HeadOnly",
                http_options={"host": self._address.host, "port": self._address.port},
            )

    def deploy(self, groups: Sequence[EngineGroup]) -> None:
        """Bring the applications of these groups to what they say, and return at once; others are left alone.

        A group that differs in its graphs or in the number of replicas changes while it serves; with other slots or
        limits its replicas are replaced.

        Raises:
            RuntimeStartError: Serve cannot be reached.
        """
        if not groups:
            return
        self.start()
        targets = [
            serve.RunTarget(application(group, self._opener, self._token), name=group.name, route_prefix=group.route)
            for group in groups
        ]
        with _reaching_serve():
            serve.run_many(targets, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)

    def status(self) -> dict[str, GroupStatus]:
        """Return the state of every engine group by name; asks each replica, which takes a moment.

        Raises:
            RuntimeStartError: Serve cannot be reached.
        """
        with _reaching_serve():
            applications = serve.status().applications
        self._handles = {name: handle for name, handle in self._handles.items() if name in applications}
        return {
            name: group_status(name, application.status.value, application.message, self._reports(name, application))
            for name, application in applications.items()
        }

    def stop(self, name: str) -> None:
        """Take an application away once its requests are done, and return at once; an unknown one is ignored.

        Raises:
            RuntimeStartError: Serve cannot be reached.
        """
        self._handles.pop(name, None)
        with _reaching_serve():
            if name in serve.status().applications:
                serve.delete(name, _blocking=False)

    def shutdown(self) -> None:
        """Take all applications away and stop Serve with its proxies."""
        self._handles.clear()
        with _reaching_serve():
            serve.shutdown()

    def _reports(self, name: str, application: Any) -> list[dict[str, Any]]:
        """Return what each running replica says; none where it says nothing in time."""
        running = sum(deployment.replica_states.get("RUNNING", 0) for deployment in application.deployments.values())
        if not running:
            return []
        try:
            if name not in self._handles:
                self._handles[name] = serve.get_app_handle(name)
            replies = self._handles[name].broadcast("report").results(timeout_s=_REPORT_S, return_exceptions=True)
        except (RayError, RayServeException, TimeoutError):
            self._handles.pop(name, None)
            return []
        return [reply for reply in replies if isinstance(reply, dict)]


def application(group: EngineGroup, opener: Opener, token: str) -> Any:
    """Return the Serve application of an engine group, for `serve.run` or a Serve configuration."""
    limits = group.limits
    options: dict[str, Any] = {
        "name": _NAME,
        "user_config": group.user_config,
        "ray_actor_options": {
            "num_cpus": group.cpus,
            "num_gpus": group.setup.gpus,
            "runtime_env": {"env_vars": _environment(group.setup.engine.threads)},
        },
        # The replica itself says 429 with a time to come back; Serve would let requests wait without end.
        "max_ongoing_requests": 2 * limits.max_open,
        "request_router_config": RequestRouterConfig(request_router_class=EvenRouter),
        "health_check_period_s": _HEALTH_EVERY_S,
        "graceful_shutdown_wait_loop_s": 0.2,
        "graceful_shutdown_timeout_s": limits.drain_s,
    }
    if group.max_replicas > group.replicas:
        options["autoscaling_config"] = {
            "min_replicas": group.replicas,
            "max_replicas": group.max_replicas,
            "target_ongoing_requests": max(1, int(_SHARE_OF_LIMIT * limits.max_running)),
        }
    else:
        options["num_replicas"] = group.replicas
    arguments = (group.setup, group.slots, limits, opener, token)
    deployment = serve.deployment(serve.ingress()(GraphReplica)).options(**options)
    # Without a version of its own every deploy would replace all replicas; with it, those only whose engine differs.
    version = sha256(repr((arguments, neuromas.__version__)).encode()).hexdigest()[:16]
    return deployment.options(version=version, _internal=True).bind(*arguments)


def _environment(threads: Threads) -> dict[str, str]:
    """Return what a replica's process must have set before it loads anything; "auto" is as many as it claims CPUs."""
    variables = {"TOKENIZERS_PARALLELISM": "false"}
    if threads != "auto":
        variables["OMP_NUM_THREADS"] = str(threads)
    root = Path(neuromas.__file__).resolve().parents[1]
    if root.name != "site-packages":  # a checkout: the cluster's own path may not have it
        entries = [str(root), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        variables["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(entries))
    return variables


@contextmanager
def _reaching_serve() -> Iterator[None]:
    try:
        yield
    except (RayError, RayServeException, TimeoutError, ConnectionError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise RuntimeStartError(f"Ray Serve cannot be reached: {first_line}") from error
