"""Every number that a request may hold has bounds, every text and list a length: by the schemas of all bodies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from neuromas.services.api.app import make_app
from neuromas.services.settings import Settings
from neuromas.services.store.open import open_store


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"))
    found: dict[str, Any] = make_app(settings, open_store(settings)).openapi()
    return found


def unbounded(schema: dict[str, Any], schemas: dict[str, Any], path: str, seen: frozenset[str]) -> Iterator[str]:
    """Yield the paths of what has no bound in a schema."""
    if "enum" in schema or "const" in schema:
        return
    if (reference := schema.get("$ref", "").rpartition("/")[2]) and reference not in seen:
        yield from unbounded(schemas[reference], schemas, path or reference, seen | {reference})
    for key in ("anyOf", "oneOf", "allOf"):
        for variant in schema.get(key, ()):
            yield from unbounded(variant, schemas, path, seen)
    yield from (f"{path}: {fault}" for fault in faults_of(schema))
    for item in [schema[key] for key in ("items",) if key in schema] + schema.get("prefixItems", []):
        yield from unbounded(item, schemas, f"{path}[]", seen)
    for name, inner in schema.get("properties", {}).items():
        yield from unbounded(inner, schemas, f"{path}.{name}", seen)
    if isinstance(inner := schema.get("additionalProperties"), dict):
        yield from unbounded(inner, schemas, f"{path}.*", seen)


def faults_of(schema: dict[str, Any]) -> Iterator[str]:
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if {"integer", "number"} & set(kinds):
        has_low = {"minimum", "exclusiveMinimum"} & schema.keys()
        has_high = {"maximum", "exclusiveMaximum"} & schema.keys()
        if not (has_low and has_high):
            yield "a number without bounds"
    if "string" in kinds and "maxLength" not in schema and not is_short(schema.get("pattern", "")):
        yield "a text without a length"
    if "array" in kinds and "maxItems" not in schema:
        yield "a list without a length"
    if isinstance(schema.get("additionalProperties"), dict) and "maxProperties" not in schema:
        yield "a table without a length"


def is_short(pattern: str) -> bool:
    """Whether a text that matches has a length: a pattern from its beginning to its end without an open repetition."""
    inside = re.sub(r"\[[^]]*\]", "x", pattern)
    return pattern[:1] == "^" and pattern[-1:] == "$" and not re.search(r"[*+]|,\}", inside)


def test_every_body_is_bounded(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    bodies = [
        (f"{method} {path}", content["application/json"]["schema"])
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if "application/json" in (content := operation.get("requestBody", {}).get("content", {}))
    ]
    streams = [
        f"{method} {path}"
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if "requestBody" in operation and "application/json" not in operation["requestBody"]["content"]
    ]
    assert len(bodies) >= 8
    assert streams == ["put /v1/adapters/{name}/{file}"]  # test_api_adapters says how long it may be
    assert [f"{name}: {fault}" for name, body in bodies for fault in unbounded(body, schemas, "", frozenset())] == []


def test_every_parameter_is_bounded(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    parameters = [
        (f"{method} {path} {parameter['name']}", parameter["schema"])
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        for parameter in operation.get("parameters", ())
    ]
    assert len(parameters) >= 20
    assert [fault for name, schema in parameters for fault in unbounded(schema, schemas, name, frozenset())] == []


@pytest.mark.parametrize(
    ("schema", "is_bounded"),
    [
        ({"type": "integer", "minimum": 1}, False),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 2}, True),
        ({"type": ["string", "null"]}, False),
        ({"type": "string", "pattern": "^[a-z]+$"}, False),
        ({"type": "string", "pattern": "^[a-z+]{1,9}$"}, True),
        ({"type": "array", "maxItems": 3, "items": {"type": "string"}}, False),
        ({"anyOf": [{"type": "null"}, {"type": "array", "items": {"enum": [1]}}]}, False),
        ({"type": "object", "additionalProperties": {"type": "boolean"}}, False),
    ],
)
def test_what_has_no_bound_is_seen(schema: dict[str, Any], is_bounded: bool) -> None:
    assert (not list(unbounded(schema, {}, "x", frozenset()))) == is_bounded
