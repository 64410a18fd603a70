"""The embedded service: everything on this machine, started by one command and stopped with it.

Three children: a Ray head, the supervisor and the API. One that dies is started again; what it did is in the store.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, Final

from neuromas.errors import NeuroMASError, reason
from neuromas.services.children import PRIVATE_UMASK, Child, Children
from neuromas.services.runs.head import RayHead, free_port, make_head
from neuromas.services.settings import Settings, SettingsError

_NEEDED: Final = ("ray", "fastapi", "uvicorn", "httpx", "pydantic_settings")
_START_S: Final = 300.0
_TRIES: Final = 3
_TICK_S: Final = 0.1
_WIND_DOWN_S: Final = 45.0
_GRACE_S: Final = 15.0
_REAP_S: Final = 5.0
_CALM_S: Final = 30.0
"""A child that lived this long before it died is started again at once."""

Say = Callable[[str], None]


class ServiceError(NeuroMASError, RuntimeError):
    """The embedded service could not be started, or a part of it does not stay up."""

    code = "service"


class _AskedToStopError(Exception):
    """Ctrl-C came."""


@dataclass(slots=True)
class _ServiceProcess:
    """One child of the service and how to start it."""

    name: str
    command: Callable[[], list[str]]
    descriptors: tuple[int, ...] = ()
    child: Child | None = None
    started_s: float = 0.0
    pause_s: float = 0.0


@dataclass(slots=True)
class _Signals:
    """Counts requests to stop."""

    count: int = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.count += 1

    def check(self) -> None:
        if self.count:
            raise _AskedToStopError


@dataclass(slots=True)
class LocalService:
    """The service of one data folder on this machine.

    Attributes:
        settings: of the service, with the address that it listens on.
        say: tells people what happens.
        address: where the API answers.
    """

    settings: Settings
    say: Say
    address: str
    _listener: socket.socket
    _head: RayHead
    _children: Children = field(default_factory=Children)
    _signals: _Signals = field(default_factory=_Signals)
    _parts: list[_ServiceProcess] = field(default_factory=list)
    _reaped_s: float = 0.0

    def run(self, on_ready: Callable[[], None]) -> None:
        """Start, call ``on_ready``, and return when a signal has stopped the service.

        Raises:
            ServiceError: a part did not start, or dies again and again.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._signals)
        try:
            self._start()
            on_ready()
            while True:
                self._signals.check()
                self._look_after()
                time.sleep(_TICK_S)
        except _AskedToStopError:
            self._wind_down()
        finally:
            self._children.end(_GRACE_S if self._signals.count < 2 else 0.0)

    def _start(self) -> None:
        """Start everything at once: what comes up before Ray waits for it by itself."""
        descriptor = self._listener.fileno()
        ray = self._add(_ServiceProcess("ray", self._head.command))
        api = self._add(
            _ServiceProcess("api", lambda: _python("neuromas.services.api", "--fd", str(descriptor)), (descriptor,))
        )
        self.say("starting Ray and the API")
        self._wait(ray, self._head.is_ready)
        self._add(_ServiceProcess("supervisor", lambda: _python("neuromas.services.runs.supervisor", "--owns-cluster")))
        self._wait(api, self._is_api_ready)

    def _add(self, part: _ServiceProcess) -> _ServiceProcess:
        self._parts.append(part)
        self._start_part(part)
        return part

    def _start_part(self, part: _ServiceProcess) -> None:
        log = self.settings.data_dir / "logs" / f"{part.name}.log"
        environment = self._head.environment(os.environ | self.settings.environment())
        part.child = self._children.start(part.name, part.command(), environment, log, descriptors=part.descriptors)
        part.started_s = time.monotonic()

    def _wait(self, part: _ServiceProcess, is_ready: Callable[[], bool]) -> None:
        """Return when a part is ready; one that ends meanwhile is tried again.

        Ray gives its helper processes 15 s, which no setting extends: on a cold machine the first try may be too slow
        for that, and the next one finds them cached.
        """
        deadline, tries = time.monotonic() + _START_S, 1
        while not is_ready():
            self._signals.check()
            child = part.child
            assert child is not None
            if time.monotonic() > deadline or (not child.is_alive and tries == _TRIES):
                why = f"did not get ready in {_START_S:g} s" if child.is_alive else "ended while it started"
                raise ServiceError(f"{part.name} {why}; its last words ({child.log}):\n{child.last_words()}")
            if not child.is_alive:
                tries += 1
                self.say(f"{part.name} ended while it started; trying again (log {child.log})")
                self._children.forget(child)
                self._start_part(part)
            time.sleep(_TICK_S)

    def _is_api_ready(self) -> bool:
        host, port = self._listener.getsockname()[:2]
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - asked, not bound
        try:
            with urllib.request.urlopen(f"{_url(reachable, port)}/healthz", timeout=2):  # noqa: S310 - our own
                return True
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            return False

    def _look_after(self) -> None:
        """Start parts again that have died, not faster than they deserve."""
        now = time.monotonic()
        if now - self._reaped_s > _REAP_S:
            self._children.reap()
            self._reaped_s = now
        for part in self._parts:
            child = part.child
            if child is not None and not child.is_alive:
                self._children.forget(child)
                part.child = None
                lived_s = now - part.started_s
                part.pause_s = 0.0 if lived_s > _CALM_S else min(30.0, 2 * part.pause_s + 1.0)
                code = child.process.returncode
                self.say(f"{part.name} died (exit code {code}, log {child.log}); starting it again")
            elif child is None and now - part.started_s > part.pause_s:
                self._start_part(part)

    def _wind_down(self) -> None:
        """Let requests and runs come to a good end, unless a second signal says that there is no time."""
        self.say("stopping; runs write a checkpoint and go on at the next start (Ctrl-C again stops at once)")
        waited = [part.child for part in reversed(self._parts) if part.name != "ray" and part.child is not None]
        for child in waited:
            self._children.ask(child)
        deadline = time.monotonic() + _WIND_DOWN_S
        while any(child.is_alive for child in waited) and time.monotonic() < deadline and self._signals.count < 2:
            time.sleep(_TICK_S)


@contextmanager
def local_service(settings: Settings, say: Say) -> Iterator[LocalService]:
    """Give an embedded service that has an address and a data folder to itself; ``run`` starts it.

    Raises:
        SettingsError: the address or the data folder cannot be had, or keys are needed and there are none.
    """
    _check_packages()
    os.umask(PRIVATE_UMASK)
    from neuromas.services.api.server import check_store, listen

    with ExitStack() as stack:
        listener = stack.enter_context(listen(settings))
        host, port = listener.getsockname()[:2]
        try:
            settings.data_dir.mkdir(parents=True, exist_ok=True)
            settings.data_dir.chmod(0o700)
            stack.enter_context(_alone(settings.data_dir))
        except OSError as error:
            what = f"NEUROMAS_DATA_DIR: {settings.data_dir} cannot be used: {reason(error)}"
            raise SettingsError(f"{what}; make it usable, or name another folder with --data") from error
        asyncio.run(check_store(settings))
        folder = Path(tempfile.mkdtemp(prefix="nm-ray-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        # Inside of a folder that nobody else can enter: Ray opens its own one to everybody.
        head = make_head(folder / "s", settings.data_dir / "ray.token", settings.max_running)
        serve_url = f"http://127.0.0.1:{free_port()}"
        known = settings.model_copy(update={"port": port, "ray_address": head.address, "serve_url": serve_url})
        yield LocalService(known, say, _url(host, port), listener, head)


def summary(service: LocalService) -> tuple[str, dict[str, Any]]:
    """Return what people, and programs, need to know of a service that is ready."""
    settings = service.settings
    access = "keys are needed" if settings.keys_required else "this machine only, no keys needed"
    key = ' -H "Authorization: Bearer $NEUROMAS_API_KEY"' if settings.keys_required else ""
    body = '{"topology": {"chain": 3}, "task": {"type": "chain", "hops": 3}}'
    words = [f"curl {service.address}/v1/runs{key}", "-H 'Content-Type: application/json'", f"-d '{body}'"]
    text = "\n".join(
        [
            f"NeuroMAS is at {service.address}  ({access})",
            f"  data   {settings.data_dir}",
            f"  store  {settings.store_place}",
            f"  ray    {settings.ray_address}  (token in {settings.data_dir / 'ray.token'})",
            "  try    " + " \\\n    ".join(words),  # lines that fit a terminal and can be copied
            "Ctrl-C stops everything; unfinished runs go on at the next start.",
        ]
    )
    places = {"data": str(settings.data_dir), "store": settings.store_place, "ray": settings.ray_address}
    return text, {"url": service.address, **places, "keys": settings.keys_required, "curl": " ".join(words)}


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def _url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _check_packages() -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(f"{', '.join(missing)} is not installed", name=missing[0])


@contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    """Hold a data folder against a second service on this machine; a killed one lets go of it."""
    with (data_dir / "service.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SettingsError(
                f"NEUROMAS_DATA_DIR: {data_dir} is used by another service on this machine; stop it, or choose another "
                "folder with --data"
            ) from error
        yield
