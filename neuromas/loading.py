"""How large libraries are imported: without a search for garbage among what they leave."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading_libraries() -> Iterator[None]:
    """Keep the garbage collector still while libraries are imported, and away from what they left ever after.

    torch, transformers and TRL leave half a million objects. The collector looks through them again and again while
    they grow, which is a fifth of what their import takes, and finds next to nothing.
    """
    was_enabled, modules = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > modules:
            gc.freeze()
        if was_enabled:
            gc.enable()
