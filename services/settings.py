"""Settings of the service, read from environment variables ``NEUROMAS_<NAME>`` when asked for, never at import.

Every process of the service (API, supervisor, job drivers) reads the same variables. Lists of folders are separated as
in PATH, lists of names by commas; "none" stands for no value.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from neuromas.errors import NeuroMASError
from neuromas.schema.suggest import suggest
from neuromas.topology.graph import MAX_NODES

PREFIX: Final = "NEUROMAS_"
CLIENT_VARIABLES: Final = frozenset({"NEUROMAS_SERVER", "NEUROMAS_API_KEY", "NEUROMAS_SERVE_TOKEN"})
"""Read by the command line as a client of a server, and by clusters that serve alone; no settings of a service."""
_STORES: Final = ("redis", "rediss", "unix")

Folders = Annotated[tuple[Path, ...], NoDecode]
Names = Annotated[tuple[str, ...], NoDecode]


class SettingsError(NeuroMASError, ValueError):
    """The environment holds a setting that does not exist, has a wrong value, or does not fit another."""

    code = "invalid_settings"


class Settings(BaseSettings):
    """The service's settings; ``load_settings`` reads them with clearer errors."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        env_parse_none_str="none",
        allow_inf_nan=False,
    )

    data_dir: Path = Path("neuromas-data")
    """Folder of run folders, checkpoints and (with SQLite) the store. Every process must see the same one."""
    store_url: str = Field(default="sqlite", repr=False)
    """Where state is kept: "sqlite" = a file in ``data_dir``, for one machine; or an address redis://host:port/0,
    rediss:// (TLS) or unix://path."""
    store_password: SecretStr | None = None
    """Password of Redis; None = none, or the one in ``store_url``."""

    host: str = "127.0.0.1"
    """Address that the API listens on. Anything but a loopback address needs keys."""
    port: int = Field(default=8080, ge=0, le=65535)
    """Port of the API; 0 = a free one."""
    auth: Literal["auto", "keys", "off"] = "auto"
    """Whether requests need a key: auto = unless ``host`` is a loopback address; off only on a loopback address."""
    allowed_hosts: Names = ()
    """Host names that requests may come in under, without ports; empty = those of the loopback where ``host`` is a
    loopback address (so that no web page can reach the API under a name of its own), any elsewhere."""

    cors_origins: Names = ()
    """Origins such as https://chat.example whose pages may send requests from a browser; needs keys."""

    ray_address: str = "http://127.0.0.1:8265"
    """Address of Ray's dashboard, where jobs are submitted."""
    serve_url: str = "http://127.0.0.1:8000"
    """Address of Ray Serve's HTTP proxy, where endpoints answer."""

    max_running: int = Field(default=1, ge=1)
    """Runs and evaluations that work at the same time; the others wait."""
    max_attempts: int = Field(default=3, ge=1)
    """How often a run is started before its driver's death makes it fail."""
    heartbeat_s: float = Field(default=5, gt=0)
    """Seconds between two signs of life of a run's driver."""
    lost_after_s: float = Field(default=60, gt=0)
    """Seconds without a sign of life after which a driver counts as dead; more than two heartbeats."""
    lease_s: float = Field(default=15, gt=0)
    """Seconds that the supervisor's lease lasts: what another supervisor waits before it takes over."""
    poll_s: float = Field(default=1, gt=0)
    """Seconds between two rounds of the supervisor."""

    max_body_bytes: int = Field(default=4 * 2**20, ge=1024)
    """Largest body of a request, bytes."""
    max_upload_bytes: int = Field(default=2**28, ge=1024)
    """Bytes that the uploaded files of one owner, a key or a project, take together."""
    max_spec_bytes: int = Field(default=2**20, ge=1024)
    """Largest run spec or topology as JSON, bytes."""
    max_graph_nodes: int = Field(default=1024, ge=1, le=MAX_NODES)
    """Nodes of the largest graph that may be submitted or grown."""
    max_followers: int = Field(default=512, ge=1)
    """Event streams and long polls that one API process holds open; more get 429."""
    keep_alive_s: float = Field(default=15, gt=0)
    """Seconds of silence after which an event stream sends a comment."""
    idempotency_s: float = Field(default=86_400, gt=0)
    """Seconds that the answer to a request with an Idempotency-Key is kept."""
    requests_per_minute: int = Field(default=0, ge=0)
    """Requests that a key without a quota of its own may make in a minute; 0 = any number."""
    max_queued_runs: int = Field(default=0, ge=0)
    """Unfinished runs that an owner without a quota of its own may have; 0 = any number."""
    max_queued_evaluations: int = Field(default=0, ge=0)
    """Unfinished evaluations that an owner without a quota of its own may have; 0 = any number."""

    bases: Names = ("tiny",)
    """Base models that specs may name beside folders: the tiny one, ids of hub models."""
    base_roots: Folders = ()
    """Folders below which specs may name base models; empty = none."""
    task_roots: Folders = ()
    """Folders below which specs may name files of examples; empty = none."""
    task_code: Names = ()
    """Code that tasks may name, as "package.module:function"; it runs with the rights of the service. Empty = none."""

    serving_replicas: int = Field(default=1, ge=1)
    """Replicas of an endpoint that does not say how many."""
    serving_max_replicas: int = Field(default=4, ge=1)
    """Most replicas that an endpoint may ask for."""
    serving_slots: int = Field(default=64, ge=1)
    """Adapters that one serving engine holds at once, over all graphs on it."""
    serving_queue: int = Field(default=256, ge=1)
    """Questions that wait in one replica before more get 429."""
    serving_gpus: float = Field(default=0, ge=0)
    """GPUs of a replica, fractions allowed; 0 = it runs on CPU."""
    chat_timeout_s: float = Field(default=300, gt=0)
    """Seconds after which a question that is not answered fails."""

    retain_runs_days: float | None = Field(default=None, gt=0)
    """Days that an ended run is kept with its folder and events, unless something still needs it; None = for ever."""
    retain_checkpoints: int | None = Field(default=None, ge=1)
    """Newest checkpoints that are kept of an ended run, beside its best and those in use; None = all."""
    retain_audit_entries: int = Field(default=100_000, ge=1)
    """Newest entries of the audit log that are kept; one takes about 400 bytes."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severity of the lines that are logged."""
    log_format: Literal["json", "text"] = "json"
    """One JSON object per line, or text for people."""

    @field_validator("base_roots", "task_roots", mode="before")
    @classmethod
    def _split_folders(cls, value: object) -> object:
        return tuple(filter(None, value.split(os.pathsep))) if isinstance(value, str) else value

    @field_validator("bases", "task_code", "allowed_hosts", "cors_origins", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    @field_validator("data_dir", "base_roots", "task_roots")
    @classmethod
    def _resolve(cls, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(path.expanduser().resolve() for path in value)
        return value.expanduser().resolve()

    @field_validator("store_url")
    @classmethod
    def _is_a_store(cls, value: str) -> str:
        if value != "sqlite" and urlsplit(value).scheme not in _STORES:
            raise ValueError("must be sqlite or an address that begins with redis://, rediss:// or unix://")
        return value

    @field_validator("ray_address", "serve_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname:
            raise ValueError("must be an address such as http://127.0.0.1:8265")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _fit_together(self) -> Settings:
        if self.auth == "off" and not self.is_loopback:
            raise ValueError(
                f"auth is off and host is {self.host or 'every address'}: without keys only a loopback address such as "
                "127.0.0.1 may be listened on; leave NEUROMAS_AUTH out, or set NEUROMAS_HOST=127.0.0.1"
            )
        if self.cors_origins and not self.keys_required:
            raise ValueError("cors_origins needs keys (auth): without them pages of these origins could do everything")
        if self.lost_after_s <= 2 * self.heartbeat_s:
            raise ValueError("lost_after_s must be more than two heartbeats (heartbeat_s)")
        if self.serving_replicas > self.serving_max_replicas:
            raise ValueError("serving_replicas is above serving_max_replicas")
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the API."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def keys_required(self) -> bool:
        """Whether a request needs a key."""
        return self.auth == "keys" or (self.auth == "auto" and not self.is_loopback)

    @property
    def uses_sqlite(self) -> bool:
        """Whether the store is a file of this machine."""
        return self.store_url == "sqlite"

    @property
    def sqlite_file(self) -> Path:
        """The SQLite store's file."""
        return self.data_dir / "store.db"

    @property
    def store_place(self) -> str:
        """Where the store is, for people: without a password."""
        if self.uses_sqlite:
            return str(self.sqlite_file)
        parts = urlsplit(self.store_url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()

    @property
    def runs_dir(self) -> Path:
        """Folder of the run folders."""
        return self.data_dir / "runs"

    @property
    def evaluations_dir(self) -> Path:
        """Folder of what evaluations under way write for their own processes; nothing in it outlasts them."""
        return self.data_dir / "evaluations"

    @property
    def uploads_dir(self) -> Path:
        """Folder of the files that people brought along: examples, which specs may name, and adapters."""
        return self.data_dir / "uploads"

    def uploads_of(self, owner: str, project: str | None) -> Path:
        """Return the folder of the files that a project's keys brought along, or one key of no project."""
        return self.uploads_dir / "key" / owner if project is None else self.uploads_dir / "project" / project

    def adapters_of(self, owner: str, project: str | None) -> Path:
        """Return the folder that holds a folder for each adapter of these."""
        return self.uploads_of(owner, project) / "adapters"

    def environment(self) -> dict[str, str]:
        """Return the variables that give a process of the service these settings; secrets are among them."""
        return {_variable(name): _text(getattr(self, name)) for name in Settings.model_fields}


def load_settings(**given: object) -> Settings:
    """Return the settings of this process's environment.

    Args:
        **given: settings that come before the environment's, by name; None is left out.

    Raises:
        SettingsError: a variable with our prefix is no setting, or a value is not allowed; all faults at once.
    """
    known = [_variable(name) for name in Settings.model_fields]
    unknown = [
        f"{variable}: there is no such setting; {suggest(variable, known)}"
        for variable in os.environ
        if variable.startswith(PREFIX) and variable not in CLIENT_VARIABLES and variable not in known
    ]
    if unknown:
        raise SettingsError("\n  ".join(["the environment is not valid:", *unknown]))
    try:
        return Settings(**cast(Any, {name: value for name, value in given.items() if value is not None}))
    except ValidationError as error:
        faults = map(_fault, error.errors(include_url=False, include_context=False))
        raise SettingsError("\n  ".join(["the settings are not valid:", *faults])) from error


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def _fault(details: ErrorDetails) -> str:
    message = details["msg"].removeprefix("Value error, ")
    return f"{_variable(str(details['loc'][0]))}: {message}" if details["loc"] else message


def _text(value: object) -> str:
    """Return a value as its environment variable holds it."""
    if value is None:
        return "none"
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        separator = os.pathsep if any(isinstance(item, Path) for item in value) else ","
        return separator.join(map(str, value))
    return str(value)
