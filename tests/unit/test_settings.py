"""The service's settings: what the environment gives, what is refused, and what reaches child processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from neuromas.services.settings import Settings, SettingsError, load_settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith("NEUROMAS_")]:
        monkeypatch.delenv(variable)


def test_without_any_variable_the_service_stays_on_this_machine() -> None:
    settings = load_settings()
    assert (settings.host, settings.keys_required, settings.uses_sqlite) == ("127.0.0.1", False, True)
    assert settings.data_dir == Path.cwd() / "neuromas-data"
    assert settings.sqlite_file == settings.data_dir / "store.db"


def test_variables_are_read_when_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEUROMAS_PORT", "0")
    monkeypatch.setenv("NEUROMAS_TASK_ROOTS", f"{tmp_path}{os.pathsep}{tmp_path / 'more'}")
    monkeypatch.setenv("NEUROMAS_BASES", "tiny, owner/model")
    monkeypatch.setenv("NEUROMAS_RETAIN_RUNS_DAYS", "none")
    settings = load_settings()
    assert settings.port == 0
    assert settings.task_roots == (tmp_path, tmp_path / "more")
    assert settings.bases == ("tiny", "owner/model")
    assert settings.retain_runs_days is None


def test_given_settings_come_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROMAS_PORT", "8081")
    assert load_settings(port=8082).port == 8082
    assert load_settings(port=None).port == 8081


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_a_loopback_address_needs_no_keys(host: str) -> None:
    assert not load_settings(host=host).keys_required
    assert not load_settings(host=host, auth="off").keys_required
    assert load_settings(host=host, auth="keys").keys_required


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1", "example.org"])
def test_any_other_address_needs_keys(host: str) -> None:
    assert load_settings(host=host).keys_required
    with pytest.raises(SettingsError, match="only a loopback address"):
        load_settings(host=host, auth="off")


def test_an_unknown_variable_is_refused_with_the_nearest_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROMAS_MAX_RUNING", "2")
    with pytest.raises(SettingsError, match="did you mean 'NEUROMAS_MAX_RUNNING'"):
        load_settings()


def test_variables_of_the_client_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROMAS_SERVER", "http://127.0.0.1:1")
    monkeypatch.setenv("NEUROMAS_API_KEY", "nmk_a_b")
    assert load_settings() == Settings()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("port", 65536, "NEUROMAS_PORT: Input should be less than or equal to 65535"),
        ("max_running", 0, "NEUROMAS_MAX_RUNNING: "),
        ("store_url", "mysql://db", "NEUROMAS_STORE_URL: must be sqlite or an address that begins with redis://"),
        ("ray_address", "127.0.0.1:8265", "NEUROMAS_RAY_ADDRESS: must be an address such as http://"),
        ("lost_after_s", 10, "lost_after_s must be more than two heartbeats"),
        ("serving_replicas", 5, "serving_replicas is above serving_max_replicas"),
        ("retain_checkpoints", 0, "NEUROMAS_RETAIN_CHECKPOINTS: "),
        ("max_graph_nodes", 10_001, "NEUROMAS_MAX_GRAPH_NODES: "),
    ],
)
def test_a_wrong_value_is_refused_with_the_variable_that_sets_it(name: str, value: object, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(**{name: value})
    assert message in str(caught.value)


def test_all_faults_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROMAS_PORT", "many")
    monkeypatch.setenv("NEUROMAS_POLL_S", "0")
    with pytest.raises(SettingsError, match=r"(?s)NEUROMAS_PORT.*NEUROMAS_POLL_S"):
        load_settings()


def test_a_password_is_never_shown() -> None:
    settings = load_settings(store_url="redis://user:hunter2@db:6379/0", store_password="hunter3")
    assert settings.store_place == "redis://db:6379/0"
    assert "hunter" not in f"{settings!r} {settings} {settings.store_place}"
    with pytest.raises(SettingsError) as caught:
        load_settings(store_url="postgres://user:hunter2@db")
    assert "hunter2" not in str(caught.value)


def test_a_child_process_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = load_settings(
        data_dir=tmp_path,
        store_url="redis://db:6379/1",
        store_password="s3cret",
        base_roots=(tmp_path / "a", tmp_path / "b"),
        bases=("tiny", "x/y"),
        retain_checkpoints=3,
        serving_gpus=0.5,
    )
    monkeypatch.setenv("NEUROMAS_MAX_RUNNING", "7")  # what the child inherits does not count
    for variable, text in settings.environment().items():
        monkeypatch.setenv(variable, text)
    assert load_settings() == settings


def test_every_setting_says_what_it_means() -> None:
    fields = Settings.model_fields
    assert [name for name, field in fields.items() if not field.description] == []
    unit = {name for name in fields if name.endswith("_s")}
    assert [name for name in unit if "Seconds" not in (fields[name].description or "")] == []
