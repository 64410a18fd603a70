"""The connection to a Ray cluster: joins the one that is named, else starts one on this machine and stops it again."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import ray
from ray._private.node import Node

import neuromas
from neuromas.base.data_home import can_write
from neuromas.errors import RuntimeStartError

logger = logging.getLogger(__name__)
_LOOPBACK = "127.0.0.1"
_ATTEMPTS = 3
# The autoscaler's, and one for a dashboard that is off: no argument of Ray's leaves them out. With the reader of logs
# they cost 3 s of a processor at a start, and 170 MB.
_IDLE_PROCESSES = ("start_monitor", "start_api_server")


class RayConnection:
    """This process's membership in a Ray cluster.

    The address comes from the spec, else from ``RAY_ADDRESS``; without either a cluster is started on this machine,
    on the loopback interface and without dashboard. A process that is connected already stays where it is. Whether
    the cluster wants a token is Ray's own matter: ``RAY_AUTH_MODE`` and ``RAY_AUTH_TOKEN`` are left as they are. Ray
    keeps the token of a cluster of our own in its user's home; a user without one has a token of this process alone.
    """

    def __init__(self, address: str | None, min_cpus: int, *, show_worker_logs: bool = False) -> None:
        """Connect.

        Args:
            address: of a running cluster; None = ``RAY_ADDRESS``, else a cluster of our own.
            min_cpus: processors that a cluster of our own offers at least, so that all actors fit on a small machine.
            show_worker_logs: copy the output of actors to this process.

        Raises:
            RuntimeStartError: the cluster cannot be reached or started.
        """
        self._is_owner = False
        self._folder: TemporaryDirectory[str] | None = None
        if ray.is_initialized():
            return
        address = address or os.environ.get("RAY_ADDRESS")
        _quieten()
        try:
            with _own_sigterm():
                if address:
                    self._join(address, show_worker_logs)
                else:
                    self._start(min_cpus, show_worker_logs)
        except Exception as error:
            # Ray raises bare Exceptions for a cluster that does not come up in time.
            raise RuntimeStartError(_explain(address, error)) from error

    def close(self) -> None:
        """Leave the cluster, and stop it where this object started it. Safe to call twice."""
        if self._is_owner:
            self._is_owner = False
            ray.shutdown()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _join(self, address: str, show_worker_logs: bool) -> None:
        ray.init(
            address=address,
            namespace="neuromas",
            runtime_env=_environment(),
            log_to_driver=show_worker_logs,
            logging_level=logging.ERROR,
        )
        self._is_owner = True  # of this connection: shutting down leaves a cluster that others started alone

    def _start(self, min_cpus: int, show_worker_logs: bool) -> None:
        # Ray starts workers at niceness 15, behind everything else; here they are what the machine is for.
        os.environ.setdefault("RAY_worker_niceness", "0")
        # The default of 30 s is too short for a machine that is busy with something else.
        os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")
        _have_a_token()
        # Ray opens its own folder to everybody: it lies in one that nobody else can enter. Sockets want a short path.
        self._folder = TemporaryDirectory(prefix="nm-ray-", dir=_temporary_root(), ignore_cleanup_errors=True)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._start_once(min_cpus, show_worker_logs)
            except Exception:
                # The raylet gives its helper processes 15 s, which no setting extends; a second try finds them cached.
                ray.shutdown()
                if attempt == _ATTEMPTS:
                    self._folder.cleanup()
                    raise
                logger.info("Ray did not start in time; trying again")
            else:
                self._is_owner = True
                return

    def _start_once(self, min_cpus: int, show_worker_logs: bool) -> None:
        assert self._folder is not None
        with _without(*_IDLE_PROCESSES, *([] if show_worker_logs else ["start_log_monitor"])):
            ray.init(
                address="local",
                namespace="neuromas",
                num_cpus=max(min_cpus, os.cpu_count() or 1),
                include_dashboard=False,
                runtime_env=_environment(),
                log_to_driver=show_worker_logs,
                logging_level=logging.ERROR,
                _node_ip_address=_LOOPBACK,
                _temp_dir=f"{self._folder.name}/s",
            )


def check_resources(cpus: float, gpus: float) -> None:
    """Refuse actors that the cluster can never place, instead of waiting for them forever.

    Raises:
        RuntimeStartError: the whole cluster has fewer CPUs or GPUs than asked for.
    """
    total = ray.cluster_resources()
    for name, wanted in (("CPU", cpus), ("GPU", gpus)):
        if total.get(name, 0) < wanted:
            raise RuntimeStartError(
                f"the run's actors need {wanted:g} {name}s, the Ray cluster has {total.get(name, 0):g}; lower "
                "runtime.rollout_workers, learner_workers or gpus_per_*, or add machines to the cluster"
            )


def _have_a_token() -> None:
    is_told = os.environ.get("RAY_AUTH_MODE") == "disabled" or "RAY_AUTH_TOKEN_PATH" in os.environ
    if not is_told and "RAY_AUTH_TOKEN" not in os.environ and not can_write(Path.home() / ".ray"):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _temporary_root() -> str:
    """Return where Ray itself would put its files; macOS's own temporary folder has too long a path for sockets."""
    return os.environ.get("RAY_TMPDIR") or ("/tmp" if sys.platform == "darwin" else gettempdir())  # noqa: S108 - Ray's


def _environment() -> dict[str, dict[str, str]]:
    """Return what actors need to import this package when it is used from a checkout."""
    root = Path(neuromas.__file__).resolve().parents[1]
    if root.name == "site-packages":
        return {}
    entries = [str(root), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {"env_vars": {"PYTHONPATH": os.pathsep.join(dict.fromkeys(entries))}}


@contextmanager
def _without(*starts: str) -> Iterator[None]:
    """Make methods by which Ray's head starts processes do nothing inside the block."""
    replaced = {name: getattr(Node, name) for name in starts}
    for name in starts:
        setattr(Node, name, lambda _self, **_: None)
    try:
        yield
    finally:
        for name, method in replaced.items():
            setattr(Node, name, method)


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Give SIGTERM back to whom it had: Ray takes it for the whole process, and ends that with codes of its own."""
    handler = signal.getsignal(signal.SIGTERM)
    is_main = threading.current_thread() is threading.main_thread()
    try:
        yield
    except SystemExit as error:  # from Ray's handler, while it starts
        raise KeyboardInterrupt from error
    finally:
        if is_main and handler is not None:
            signal.signal(signal.SIGTERM, handler)


def _quieten() -> None:
    """Keep Ray's announcements off the terminal; errors still come back as exceptions."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "1")
    # The pool reports lost workers itself, once and with what it does about them.
    logging.getLogger("ray.rllib.utils.actor_manager").setLevel(logging.CRITICAL)


def _explain(address: str | None, error: Exception) -> str:
    first_line = str(error).strip().partition("\n")[0]
    if address:
        return (
            f"the Ray cluster at {address!r} cannot be reached: {first_line}. Check runtime.address or RAY_ADDRESS "
            "(unset both for a local cluster); a cluster with token authentication needs RAY_AUTH_MODE=token"
        )
    return f"no Ray cluster could be started on this machine: {first_line}. runtime.type = 'local' needs none"
