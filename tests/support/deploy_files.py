"""What the tests of deploy/ share: the files as data, and what stands in them for variables of the user's shell."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from neuromas.services.settings import CLIENT_VARIABLES, PREFIX, Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
VARIABLE = re.compile(r"\$\{(?P<name>[A-Z_]+)(?::(?P<kind>[-?])(?P<text>[^}]*))?\}")
SECRET = re.compile(r"PASSWORD|TOKEN|SECRET|_KEY$")
SETTINGS = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def documents(path: Path) -> list[dict[str, Any]]:
    """The documents of a YAML file."""
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def pinned_version(package: str) -> str:
    """The version of a package in constraints.txt."""
    match = re.search(rf"^{package}==(\S+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert match is not None, package
    return match[1]


def with_defaults(text: str) -> str:
    """A text of the compose file where no variable is set but those that must be."""
    return VARIABLE.sub(lambda match: (match["text"] or "") if match["kind"] == "-" else "word", text)


def images(document: Any) -> Iterator[str]:
    """Every image that a document names."""
    if isinstance(document, Mapping):
        for key, value in document.items():
            if key == "image" and isinstance(value, str):
                yield value
            else:
                yield from images(value)
    elif isinstance(document, list):
        for item in document:
            yield from images(item)


def is_pinned(image: str) -> bool:
    """Whether an image has a version to the last number."""
    return re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+[a-z0-9.-]*", image) is not None


def unknown_settings(names: Mapping[str, Any]) -> set[str]:
    """Variables with our prefix that are no settings."""
    return {name for name in names if name.startswith(PREFIX)} - SETTINGS - CLIENT_VARIABLES
