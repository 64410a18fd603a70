"""The report's script: the modules that the dashboard loads one by one, as one text that needs no other file."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_IMPORT = re.compile(r'^import \{([^}]+)\} from "\./(\w+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const|let) (\w+))", re.MULTILINE)


def asset(name: str) -> str:
    """Return the text of a file under ``assets``."""
    return files("neuromas.report").joinpath("assets", name).read_text(encoding="utf-8")


@cache
def script(entry: str = "report") -> str:
    """Return a module and all that it imports as one classic script.

    Each module becomes a function that returns what it exports, so that their private names stay apart.
    """
    ordered: dict[str, str] = {}
    _gather(entry, ordered)
    return '"use strict";\n' + "".join(ordered.values())


def _gather(name: str, ordered: dict[str, str]) -> None:
    """Put a module behind those that it imports."""
    text = asset(f"{name}.js")
    for _, imported in _IMPORT.findall(text):
        if imported not in ordered:
            _gather(imported, ordered)
    body = _EXPORT.sub("", _IMPORT.sub(lambda found: f"const {{{found[1]}}} = module_{found[2]};\n", text))
    exported = ", ".join(_EXPORT.findall(text))
    ordered[name] = f"const module_{name} = (() => {{\n{body}return {{ {exported} }};\n}})();\n"
