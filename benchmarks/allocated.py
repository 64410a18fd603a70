"""How much memory a call takes at most, by torch's own count: the same at any load and with any allocator."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

from torch.profiler import ProfilerActivity, profile


def allocated_peak(call: Callable[[], object]) -> int:
    """Return the most bytes of CPU tensors that stood at once during a call, beyond those that stood before it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        call()
    kineto = profiled.profiler
    assert kineto is not None, "a profile that has ended has its events"
    events = [event for event in kineto.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: int(event.start_ns()))
    return max(accumulate((int(event.nbytes()) for event in events), initial=0))
