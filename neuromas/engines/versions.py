"""Which adapter versions an engine holds, and the rules of publishing. Loads no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.errors import AdapterError


class VersionTable:
    """Versions are new names: each is published at most once, held in a slot, and retired when no call uses it."""

    def __init__(self, num_slots: int, max_rank: int) -> None:
        self._num_slots = num_slots
        self._max_rank = max_rank
        self._slots: dict[AdapterRef, int] = {}
        self._ever_published: set[AdapterRef] = set()
        self._num_calls: Counter[AdapterRef] = Counter()

    def __contains__(self, ref: AdapterRef) -> bool:
        return ref in self._slots

    def slot(self, ref: AdapterRef) -> int:
        """Return the slot of a held version, 0 <= slot < number of slots."""
        return self._slots[ref]

    def enter(self, ref: AdapterRef | None) -> None:
        """Note that a call uses the version."""
        if ref is not None:
            self._num_calls[ref] += 1

    def leave(self, ref: AdapterRef | None) -> None:
        """Note that a call has ended."""
        if ref is not None:
            self._num_calls[ref] -= 1

    def retirable(self, retire: Sequence[AdapterRef]) -> list[AdapterRef]:
        """Return the held ones among ``retire``; versions that are not held are ignored."""
        return [ref for ref in dict.fromkeys(retire) if ref in self._slots]

    def check(self, adapters: Mapping[AdapterRef, PlainLora], retire: Sequence[AdapterRef]) -> None:
        """Refuse a publish that breaks a rule, before anything has changed.

        Raises:
            AdapterError: a version was published before, is used by an unfinished call, has too large a rank, holds
                numbers that are not finite, or does not find a slot.
        """
        leaving = self.retirable(retire)
        for ref in leaving:
            if self._num_calls[ref]:
                raise AdapterError(f"adapter {ref} cannot be retired: {self._num_calls[ref]} calls still use it")
        for ref, lora in adapters.items():
            if ref in self._ever_published:
                raise AdapterError(f"adapter {ref} was published before; a version is never used twice, count it up")
            if lora.rank > self._max_rank:
                raise AdapterError(f"adapter {ref} has rank {lora.rank}, the engine was started for {self._max_rank}")
            if (tensor := lora.broken()) is not None:
                raise AdapterError(
                    f"adapter {ref}: {tensor} holds NaN or infinite numbers; the training step before this version "
                    "made them: lower training.learning_rate"
                )
        num_held = len(self._slots) - len(leaving) + len(adapters)
        if num_held > self._num_slots:
            raise AdapterError(
                f"{num_held} adapter versions would be held, the engine has {self._num_slots} slots; "
                "retire old versions first"
            )

    def exchange(self, adapters: Sequence[AdapterRef], retire: Sequence[AdapterRef]) -> None:
        """Give the retired versions' slots back and assign the lowest free ones; call ``check`` first."""
        for ref in self.retirable(retire):
            del self._slots[ref]
        taken = set(self._slots.values())
        free = (slot for slot in range(self._num_slots) if slot not in taken)
        for ref in adapters:
            self._slots[ref] = next(free)
            self._ever_published.add(ref)
