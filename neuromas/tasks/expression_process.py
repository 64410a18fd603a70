"""The process that compares expressions: a pair in JSON a line on stdin, "true" or "false" a line on stdout."""

from __future__ import annotations

import json
import logging
import resource
import sys
from typing import Any, Final

_MEMORY: Final = 2 * 2**30
"""Bytes of address space: an expression may describe a number of any length."""


def main() -> None:
    """Answer until the parent closes the pipe or is gone."""
    from math_verify import LatexExtractionConfig, parse, verify

    logging.disable()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    reads: dict[str, Any] = {"extraction_config": [LatexExtractionConfig()], "parsing_timeout": None}
    for line in sys.stdin:
        right, given = (parse(f"${text}$", **reads) for text in json.loads(line))
        # The parent keeps the time: a limit by signals does not end a computation inside one operation.
        is_equal = bool(right and given and verify(right, given, timeout_seconds=None))
        sys.stdout.write(json.dumps(is_equal) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
