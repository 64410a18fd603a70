"""Code by name: ``package.module:function``, as specs name a task or a verifier of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from neuromas.errors import TaskError

CODE: Final = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*"
"""Pattern of such a name."""


def load_code(name: str, setting: str) -> Callable[..., Any]:
    """Return the function that ``name`` names; ``setting`` is where it was named.

    Raises:
        TaskError: its module cannot be imported, or has no such function.
    """
    module_name, _, attribute = name.partition(":")
    try:
        module = import_module(module_name)
    except Exception as error:
        raise TaskError(
            f"{setting}: {name} cannot be imported: {error!r}; install its package, or put its folder on PYTHONPATH"
        ) from error
    found: Callable[..., Any] | None = vars(module).get(attribute)
    if found is None or not callable(found):
        raise TaskError(f"{setting}: {module_name} has no function {attribute}")
    return found
