"""The OpenAPI document tells the whole contract: every error, every example, Idempotency-Key on every POST."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from neuromas.services.api.app import make_app
from neuromas.services.settings import Settings
from neuromas.services.store.open import open_store
from neuromas.spec.parse import parse_run_spec
from neuromas.topology.document import topology_from_document

Operation = tuple[str, str, dict[str, Any]]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), auth="keys")
    found: dict[str, Any] = make_app(settings, open_store(settings)).openapi()
    return found


def operations(document: dict[str, Any]) -> list[Operation]:
    return [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_every_operation_says_what_it_does_and_which_errors_it_may_have(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        place = f"{method} {path}"
        assert operation["description"], place
        if path.startswith("/v1"):
            assert {"401", "403", "422", "429", "503"} <= set(operation["responses"]), place
            assert operation["security"] == [{"key": []}], place
        if "requestBody" in operation:
            content = operation["requestBody"]["content"]
            if method == "put":
                assert {"400", "409", "411", "413", "507"} <= set(operation["responses"]), place
                assert content == {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
            else:
                assert {"400", "409", "413", "415"} <= set(operation["responses"]), place
                assert content["application/json"]["schema"]["$ref"], place
        if "{" in path:
            assert "404" in operation["responses"], place


def test_errors_have_one_shape(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        for status, response in operation["responses"].items():
            if path.startswith("/v1") and status >= "400":
                schema = response["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ErrorBody"}, f"{method} {path} {status}"


def test_every_post_takes_an_idempotency_key(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        names = [parameter["name"] for parameter in operation.get("parameters", ())]
        assert ("Idempotency-Key" in names) == (method == "post"), f"{method} {path}"


def test_all_references_lead_somewhere(document: dict[str, Any]) -> None:
    known = set(document["components"]["schemas"])

    def look(value: object) -> None:
        if isinstance(value, dict):
            target = value.get("$ref")
            if isinstance(target, str):
                assert target.removeprefix("#/components/schemas/") in known
            for item in value.values():
                look(item)
        elif isinstance(value, list):
            for item in value:
                look(item)

    look(document)


def test_examples_are_valid_by_their_schemas_and_by_the_readers(document: dict[str, Any]) -> None:
    seen = 0
    for method, path, operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        for name, example in content.get("examples", {}).items():
            schema = {**content["schema"], "components": document["components"]}
            jsonschema.validate(example["value"], schema, cls=jsonschema.Draft202012Validator)
            seen += 1
            if path == "/v1/topologies":
                topology_from_document(example["value"])
            elif path == "/v1/runs" and isinstance(example["value"]["topology"], dict):
                parse_run_spec(example["value"])
            assert example["summary"], f"{method} {path} {name}"
    assert seen >= 8


def test_without_keys_the_document_asks_for_none(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    found = make_app(settings, open_store(settings)).openapi()
    assert "securitySchemes" not in found["components"]
    assert all("security" not in operation for _, _, operation in operations(found))
