"""Study: a question about a trained graph, answered where its learner and its rollout workers are. Loads no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuromas.training.workplace import Workplace


class Study(ABC):
    """A question about a trained graph; picklable, as it may go to another process."""

    @abstractmethod
    def __call__(self, place: Workplace) -> dict[str, Any]:
        """Return what was found, as plain data for JSON; what is under way goes to ``place.emit`` as phases.

        Raises:
            NeuroMASError: it could not be found out.
        """
