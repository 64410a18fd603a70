"""docker-compose.yml and the Dockerfiles: valid, pinned, without secrets, and in accord with the service's settings."""

from __future__ import annotations

import importlib.resources
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
from deploy_files import DEPLOY, PROJECT, ROOT, SECRET, VARIABLE, documents, is_pinned, unknown_settings, with_defaults

from neuromas.services.settings import load_settings

FILE = ROOT / "docker-compose.yml"
(COMPOSE,) = documents(FILE)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)
DOCKERFILES = sorted(DEPLOY.glob("*/Dockerfile"))
SECRETS = {"NEUROMAS_STORE_PASSWORD", "RAY_AUTH_TOKEN", "GRAFANA_PASSWORD"}


def words(service: dict[str, Any]) -> list[str]:
    return " ".join(service["command"]).split()


def option(service: str, name: str) -> str:
    (value,) = [word.partition("=")[2] for word in words(SERVICES[service]) if word.startswith(f"--{name}=")]
    return str(value)


def test_the_file_is_valid_compose() -> None:
    source = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(source.read_text(encoding="utf-8"))
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [f"{list(error.absolute_path)}: {error.message}" for error in validator.iter_errors(COMPOSE)] == []


def test_compose_itself_accepts_the_file() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not installed")
    environment = {**os.environ, **dict.fromkeys(SECRETS | {"METRICS_KEY"}, "word")}
    command = [docker, "compose", "-f", str(FILE), "config", "--quiet"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_everything_of_the_production_start_is_there() -> None:
    expected = {"redis", "api", "supervisor", "ray-head", "ray-worker", "prometheus", "grafana"}
    assert set(SERVICES) == expected
    (device,) = SERVICES["ray-worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_watched_confined_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    assert is_pinned(with_defaults(service["image"]))
    # A digest can take the place of a tag that others move.
    assert name in OURS or VARIABLE.fullmatch(service["image"]), name
    assert {"mem_limit", "pids_limit"} <= set(service)
    assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert service["restart"] == "unless-stopped"
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service


def test_what_a_service_needs_exists() -> None:
    volumes = set(COMPOSE["volumes"])
    for name, service in SERVICES.items():
        assert set(service.get("depends_on", {})) <= set(SERVICES), name
        assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"]), name
        for mount in service.get("volumes", []):
            source = with_defaults(mount).split(":")[0]
            if source.startswith("./deploy"):
                assert (ROOT / source).exists(), mount
            elif not source.startswith("./"):
                assert source in volumes, mount
    for name in OURS:
        build = SERVICES[name]["build"]
        assert (ROOT / build["context"] / build["dockerfile"]).is_file()


def test_secrets_come_from_the_environment_only() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if SECRET.search(variable):
                assert VARIABLE.fullmatch(value), f"{name}: {variable}"
    assert all(set(source) == {"environment"} for source in COMPOSE["secrets"].values())
    needed = {match["name"] for match in VARIABLE.finditer(FILE.read_text(encoding="utf-8")) if match["kind"] == "?"}
    assert needed == SECRETS


def test_nothing_but_the_api_can_be_published_beyond_this_machine() -> None:
    ports = {name: with_defaults(port) for name, service in SERVICES.items() for port in service.get("ports", [])}
    assert set(ports) == {"api", "ray-head", "grafana"}
    assert all(port.startswith("127.0.0.1:") for port in ports.values())


@pytest.mark.parametrize("name", ["api", "supervisor", "ray-head", "ray-worker"])
def test_a_service_gets_settings_that_fit_the_others(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {key: with_defaults(value) for key, value in SERVICES[name]["environment"].items()}
    assert unknown_settings(environment) == set()
    for variable in [variable for variable in os.environ if variable.startswith("NEUROMAS_")]:
        monkeypatch.delenv(variable)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    settings = load_settings()
    mounts = [with_defaults(mount).split(":")[1] for mount in SERVICES[name]["volumes"]]
    for folder in (settings.data_dir, *settings.base_roots, *settings.task_roots):
        assert str(folder) in mounts
    store, ray, serve = map(urlsplit, (settings.store_url, settings.ray_address, settings.serve_url))
    assert (store.hostname, store.port) == ("redis", 6379)
    assert (ray.hostname, ray.port) == ("ray-head", int(option("ray-head", "dashboard-port")))
    assert (serve.hostname, serve.port) == ("ray-head", 8000)
    if name == "api":
        assert settings.keys_required
        assert settings.port == int(with_defaults(SERVICES["api"]["ports"][0]).rpartition(":")[2])
    else:
        assert environment["RAY_AUTH_MODE"] == "token"


def test_nodes_join_the_head_where_it_listens() -> None:
    assert option("ray-worker", "address") == f"ray-head:{option('ray-head', 'port')}"


def test_redis_keeps_what_must_not_be_lost() -> None:
    lines = (DEPLOY / "redis" / "redis.conf").read_text(encoding="utf-8").splitlines()
    settings = dict(line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))
    assert (settings["appendonly"], settings["appendfsync"]) == ("yes", "always")
    assert settings["maxmemory-policy"] == "noeviction"
    assert "requirepass" not in settings
    assert "requirepass $$NEUROMAS_STORE_PASSWORD" in " ".join(SERVICES["redis"]["command"])


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_an_image_is_pinned_built_in_stages_and_runs_as_nobody_special(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = [line.strip() for line in text.splitlines() if line and not line.startswith("#")]
    (base,) = re.findall(r"^ARG PYTHON=(\S+)$", text, re.MULTILINE)
    assert is_pinned(base)
    assert [line for line in lines if line.startswith("FROM")] == ["FROM ${PYTHON} AS build", "FROM ${PYTHON}"]
    final = lines[lines.index("FROM ${PYTHON}") :]
    assert [line for line in final if line.startswith("USER")] == ["USER 10001:10001"]
    assert any(line.startswith("HEALTHCHECK") for line in final)
    for build in (service["build"] for service in SERVICES.values() if "build" in service):
        assert with_defaults(build["args"]["PYTHON"]) == base
        assert VARIABLE.fullmatch(build["args"]["PYTHON"])
    installs = re.findall(r"pip (install [^&\n]+)", text.replace("\\\n", ""))
    listed, project = (" ".join(command.split()) for command in installs)
    assert "--require-hashes" in listed
    assert "--no-deps --only-binary=:all:" in listed
    assert listed.endswith(f"-r deploy/{path.parent.name}/requirements.txt")
    # What the list leaves to the profile is bounded; the API's list leaves nothing.
    assert "-c constraints.txt" in project if path.parent.name == "worker" else "--no-deps" in project
    (extras,) = re.findall(r'"\.\[([^\]]+)\]"', text)
    offered = set(PROJECT["optional-dependencies"])
    assert {"gpu" if extra == "${PROFILE}" else extra for extra in extras.split(",")} <= offered
    assert ("gpu" in text) == (path.parent.name == "worker")


def test_an_image_gets_the_source_and_nothing_else() -> None:
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {rule[1:] for rule in rules if rule.startswith("!")}
    assert rules[1] == "*"
    lists = {f"deploy/{path.parent.name}/requirements.txt" for path in DOCKERFILES}
    sources = {"LICENSE", "README.md", "constraints.txt", "examples", "pyproject.toml", "neuromas", "services"}
    assert kept == sources | lists
    assert all((ROOT / name).exists() for name in kept)
