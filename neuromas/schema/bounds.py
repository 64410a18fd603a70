"""Bounds of amounts that have no natural one: far above what anybody uses, far below what breaks a machine."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

MAX_STEPS: Final = 10**9
"""Steps, and what is counted beside them."""
MAX_EXAMPLES: Final = 10**8
MAX_WEIGHT: Final = 1e6
"""Weights of terms of a loss, and other factors."""
MAX_WAIT_S: Final = 30 * 86_400.0
MAX_RANK: Final = 512
MAX_SIZE: Final = 2**16
"""Rows, columns or parts of a matrix."""
MAX_DIMENSION: Final = 2**30
"""Length of a trained vector."""
MAX_PATH: Final = 4096
"""Characters of a path or an address."""
MAX_TEXT: Final = 2**16
"""Characters of a text that prompts hold."""
MAX_KEY: Final = 256
"""Characters of a name that is not one of ours."""

Key = Annotated[str, Field(max_length=MAX_KEY)]
Reference = Annotated[str, Field(max_length=MAX_PATH)]
"""A path, or what stands for one."""
Number = Annotated[int, Field(ge=-(2**63), le=2**63)]
Count = Annotated[int, Field(ge=1, le=MAX_STEPS)]
