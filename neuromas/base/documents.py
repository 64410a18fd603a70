"""Reads the JSON documents of a base folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuromas.errors import BaseModelError


def read_json(path: Path, optional: bool = False) -> Mapping[str, Any]:
    """Return the object in a file; an empty one where an optional file is missing.

    Raises:
        BaseModelError: the file is missing, is not valid JSON or holds no object.
    """
    if not path.is_file():
        if optional:
            return {}
        raise BaseModelError(f"{path} is missing; a base folder holds config.json, model.safetensors and a tokenizer")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as e:
        raise BaseModelError(f"{path} is not valid JSON: {e}") from e
    if not isinstance(document, dict):
        raise BaseModelError(f"{path} holds a {type(document).__name__}, expected an object")
    return document
