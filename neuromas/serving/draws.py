"""Random numbers of requests: the seeds and ids that nobody named.

Not the system's own: each asks the kernel, and whoever asks it beside a busy engine waits for the interpreter again,
70 µs for a number. Nor Python's common generator, which libraries seed as they like.
"""

from __future__ import annotations

import os
from random import Random

_RANDOM = Random()
os.register_at_fork(after_in_child=_RANDOM.seed)


def draw_bits(count: int) -> int:
    """Return a random number of at most so many bits; not for secrets."""
    return _RANDOM.getrandbits(count)
