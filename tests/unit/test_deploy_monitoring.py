"""Prometheus and Grafana: what they ask for is what the service tells."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy_files import DEPLOY, ROOT, documents
from prometheus_client.parser import text_string_to_metric_families
from stored import a_run

from neuromas.services.api.instruments import Instruments
from neuromas.services.store.sqlite import SqliteStore

(PROMETHEUS,) = documents(DEPLOY / "prometheus" / "prometheus.yml")
(ALERTS,) = documents(DEPLOY / "prometheus" / "alerts.yml")
(COMPOSE,) = documents(ROOT / "docker-compose.yml")
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "neuromas.json").read_text(encoding="utf-8"))
NAME = re.compile(r"\b((?:neuromas|ray)_[a-z_]+)\b(?:\{([^}]*)\})?")


def expressions() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", []))
    for group in ALERTS["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


async def told(folder: Path) -> dict[str, set[str]]:
    """Samples that the API tells, with the names of their labels, while a run works and an endpoint answers."""
    store, instruments = SqliteStore(folder / "store.db"), Instruments()
    latest = {"time/step_s": 2.0, "rollout/reward_mean": 0.5, "rollout/calls": 64, "rollout/tokens": 100}
    await store.create(a_run(state="running", created=1, started=3, latest=latest))
    instruments.requests.labels("GET", "/v1/runs", "200").inc()
    instruments.seconds.labels("GET", "/v1/runs").observe(0.1)
    instruments.chat_seconds.labels("poet").observe(0.1)
    instruments.chat_tokens.labels("poet", "completion").inc(3)
    text = await instruments.exposition(store)
    await store.close()
    families = text_string_to_metric_families(text)
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


def told_by_ray() -> set[str]:
    """Names in the source of what reports on Ray's nodes."""
    spec = importlib.util.find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).parent / "dashboard" / "modules" / "reporter" / "reporter_agent.py"
    return {f"ray_{name}" for name in re.findall(r'^    "(\w+)": Gauge\(', source.read_text("utf-8"), re.MULTILINE)}


def test_every_metric_that_is_asked_for_is_told(tmp_path: Path) -> None:
    known = asyncio.run(told(tmp_path))
    known |= {name: {"instance", "GpuIndex"} for name in told_by_ray()}
    asked: dict[str, set[str]] = {}
    for expression in expressions():
        for name, selector in NAME.findall(expression):
            asked.setdefault(name, set()).update(re.findall(r"(\w+)\s*(?:=|!)", selector))
    assert asked.keys() - known.keys() == set()
    assert {name: labels - known[name] for name, labels in asked.items() if labels - known[name]} == {}
    # And what the API tells is shown.
    shown = {re.sub(r"_(bucket|count|sum|total|created)$", "", name) for name in asked}
    ours = {re.sub(r"_(bucket|count|sum|total|created)$", "", name) for name in known if name.startswith("neuromas_")}
    assert ours - shown == set()


def test_targets_are_services_that_tell() -> None:
    jobs = {job["job_name"]: job for job in PROMETHEUS["scrape_configs"]}
    ((target,),) = [config["targets"] for config in jobs["neuromas"]["static_configs"]]
    assert target == f"api:{COMPOSE['services']['api']['environment']['NEUROMAS_PORT']}"
    (ray,) = jobs["ray"]["dns_sd_configs"]
    for name in ray["names"]:
        assert f"--metrics-export-port={ray['port']}" in COMPOSE["services"][name]["command"]
    secret = Path(jobs["neuromas"]["authorization"]["credentials_file"])
    assert secret.parent == Path("/run/secrets")
    assert COMPOSE["services"]["prometheus"]["secrets"] == [secret.name]
    assert PROMETHEUS["rule_files"] == ["alerts.yml"]


def test_the_dashboard_is_provisioned_with_its_source() -> None:
    ((source,),) = [
        document["datasources"] for document in documents(next((DEPLOY / "grafana" / "provisioning").glob("data*/*")))
    ]
    assert source["url"] == "http://prometheus:9090"
    used = {json.dumps(target["datasource"]) for panel in DASHBOARD["panels"] for target in panel.get("targets", [])}
    assert used == {json.dumps({"type": source["type"], "uid": source["uid"]})}
    ((provider,),) = [
        document["providers"] for document in documents(next((DEPLOY / "grafana" / "provisioning").glob("dash*/*")))
    ]
    mounts = dict(mount.split(":")[:2] for mount in COMPOSE["services"]["grafana"]["volumes"])
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    home = COMPOSE["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/neuromas.json"


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    panels: list[dict[str, Any]] = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["targets"]
