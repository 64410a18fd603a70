"""Families whose new adapters may start from rollouts of the graph that they join: their settings for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from typing import ClassVar, Final

from pydantic import Field

from neuromas.adapters.families.contract import AdapterSpec
from neuromas.errors import Fault
from neuromas.schema.bounds import MAX_STEPS

_FROM_ROLLOUTS: Final = frozenset({"eva", "gradient"})
_OWN_STARTS: Final = _FROM_ROLLOUTS | {"random"}
"""Starts that differ between adapters, so that each keeps its own; all others follow from the base."""
_OWN: Final = "of its own for every adapter"


class DataStart(AdapterSpec, ABC):
    """A family of which a start looks at rollouts."""

    no_sizes: ClassVar[frozenset[str]] = frozenset({"batches"})

    batches: int = Field(default=8, ge=1, le=MAX_STEPS)
    """Steps' worth of rollouts that a start from rollouts looks at, at most; "eva" ends earlier where it converges."""

    @property
    def form(self) -> Mapping[str, object]:
        """All but how a look was made, and which start an adapter had that is kept with it."""
        name, value = self.start_setting
        form = {key: setting for key, setting in super().form.items() if key not in ("batches", "tau")}
        return form | {name: _OWN if value in _OWN_STARTS else value}

    @property
    @abstractmethod
    def start_setting(self) -> tuple[str, str]:
        """Name and value of the setting that chooses the start."""

    @property
    def looks_at_rollouts(self) -> bool:
        """Whether new adapters start from rollouts of the graph."""
        return self.start_setting[1] in _FROM_ROLLOUTS

    def idle(self, new: Collection[str]) -> Iterator[Fault]:
        """Yield settings of a look that nothing takes."""
        name, value = self.start_setting
        if not self.looks_at_rollouts and "eva" not in new and not self.is_default("batches"):
            yield Fault("batches", f"got {self.batches}; {name} = {value!r} looks at no rollouts: leave it out")


class InputStart(DataStart, ABC):
    """A family of which a start looks at the inputs of its layers."""

    tau: float = Field(default=0.99, gt=0, le=1)
    """"eva": its singular value decomposition takes in batches until the cosine of every direction before and after a
    batch is at least this."""

    def idle(self, new: Collection[str]) -> Iterator[Fault]:
        """Yield settings of a look that nothing takes."""
        yield from super().idle(new)
        name, value = self.start_setting
        if value != "eva" and "eva" not in new and not self.is_default("tau"):
            yield Fault("tau", f"got {self.tau:g}; {name} = {value!r} does nothing with it: leave it out")
