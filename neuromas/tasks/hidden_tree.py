"""The hidden tree task: what is seen of a tree's leaves says how likely another one is; the answer is exact.

A chance begins at 1/2 at the root; each child has its parent's chance plus a random amount, uniform in +-1/5, and a
leaf is 1 with its chance (cut to [0, 1]). Leaves are the more alike the lower their paths join. A question shows most
of the leaves and asks whether a hidden one is more likely 1 or 0; the answer is the decision of exact message passing,
not the leaf's own noisy value, so that a perfect reader is always right. Source of the generator: HyperSPN,
arXiv:2112.00914, section 4 (there of depth 8).
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from pydantic import Field

from neuromas.errors import TaskError
from neuromas.tasks.base import Description, Example, Split, Task
from neuromas.tasks.spec import TaskSpec
from neuromas.tasks.split import draw_in_split
from neuromas.tasks.verify import read_number

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEAST_DEPTH: Final = 3
NOISE: Final = 0.2
UNKNOWN: Final = -1
_SHOWN: Final = 0.8  # of the leaves but for the one that is asked for
_CLEAR: Final = 0.02  # how far from 1/2 a probability must be to be asked for
_CELLS: Final = 20  # of the grid in half a step of noise


class HiddenTreeSpec(TaskSpec):
    """Say whether a hidden leaf of a noisy binary tree is more likely 1 or 0, from the leaves that are seen."""

    target: ClassVar[str | None] = "depth"

    type: Literal["hidden_tree"]
    depth: int = Field(default=4, ge=LEAST_DEPTH, le=8)
    """Target level: a tree of depth d has 2^d leaves. Levels are 3..depth."""

    def make(self, seed: int) -> HiddenTreeTask:
        """Return the task."""
        return HiddenTreeTask(self.depth, seed)

    def levels(self) -> tuple[int, ...]:
        """Depths, the smallest first."""
        return tuple(range(LEAST_DEPTH, self.depth + 1))

    def describe(self) -> str:
        """Return what is trained on."""
        return f"hidden trees of {2**self.depth} leaves"


@dataclass(frozen=True, slots=True)
class HiddenTreeTask(Task):
    """Hidden trees up to a depth. A quarter of all questions, chosen by their text, is held out at every level.

    Attributes:
        depth: of the trees at the target level.
        seed: selects one of many disjointly seeded streams of examples.
    """

    depth: int = 4
    seed: int = 0

    @property
    def name(self) -> str:
        """Registry name of the family."""
        return "hidden_tree"

    @property
    def levels(self) -> tuple[int, ...]:
        """Depths, the smallest first."""
        return tuple(range(LEAST_DEPTH, self.depth + 1))

    @property
    def scoring_timeout_s(self) -> None:
        """Return None: scoring is quick."""
        return None

    def example(self, split: Split, index: int, level: int | None = None) -> Example:
        """Return example ``index`` (>= 0) of the split at a depth (None = the target).

        ``info["probability"]`` is that of a 1 at the leaf asked for, given what is seen.

        Raises:
            TaskError: the level is not one of ``levels``.
        """
        depth = self.depth if level is None else level
        if depth not in self.levels:
            raise TaskError(f"hidden tree task: got level {level}, allowed are {self.levels}; raise depth= for larger")
        rng = Random(f"hidden_tree/{self.seed}/{split}/{depth}/{index}")
        while True:
            seen, asked = draw_in_split(split, lambda: _draw(rng, depth), lambda drawn: _question(*drawn).encode())
            probability = posterior(seen, asked)
            if abs(probability - 0.5) >= _CLEAR:
                name = f"hidden_tree-{depth}/{self.seed}/{split}/{index}"
                return Example(
                    name, _question(seen, asked), str(int(probability > 0.5)), depth, {"probability": probability}
                )

    def size(self, split: Split, level: int | None = None) -> int | None:
        """Return None: the streams are endless."""
        return None

    def chance(self, level: int | None = None) -> float:
        """Return 1/2: a tree is as likely as its mirror image, with 0 and 1 exchanged."""
        return 0.5

    def score(self, example: Example, text: str) -> float:
        """Return 1.0 when the answer, the text's last number or the one it announces, is right, else 0.0."""
        return float(read_number(text) == example.answer)

    def describe(self, example: Example, text: str) -> Description | None:
        """Return which value a message states; None when it states neither 0 nor 1."""
        said = read_number(text)
        return Description(f"says {said}", said == example.answer) if said in ("0", "1") else None


def _draw(rng: Random, depth: int) -> tuple[list[int], int]:
    """Return the leaves that a question shows, and the one that it asks for."""
    leaves = draw_leaves(rng, depth)
    asked = rng.randrange(len(leaves))
    seen = [leaf if rng.random() < _SHOWN else UNKNOWN for leaf in leaves]
    seen[asked] = UNKNOWN
    return seen, asked


def draw_leaves(rng: Random, depth: int) -> list[int]:
    """Return the 2^depth leaves of a random tree."""
    chances = [0.5]
    for _ in range(depth):
        chances = [chance + rng.uniform(-NOISE, NOISE) for chance in chances for _ in range(2)]
    return [int(rng.random() < chance) for chance in chances]


def posterior(seen: list[int], asked: int) -> float:
    """Return the probability that a leaf is 1, given the others; ``UNKNOWN`` marks those that are not seen."""
    import numpy as np

    rows = np.array([seen, seen])
    rows[:, asked] = (0, 1)
    zero, one = likelihoods(rows)
    return float(one / (zero + one))


def likelihoods(rows: NDArray[np.integer], cells: int = _CELLS) -> NDArray[np.float64]:
    """Return the probability of each row of leaves, by message passing from the leaves to the root.

    A message is a function of a node's chance, held on a grid; a parent reads the mean of a child's over the noise.

    Args:
        rows: 0, 1 or ``UNKNOWN``, shape (rows, 2^depth).
        cells: of the grid in half the noise's width; the error falls with its square.
    """
    import numpy as np

    depth = rows.shape[1].bit_length() - 1
    half = cells * depth
    chances = 0.5 + np.arange(-half, half + 1) * (NOISE / cells)
    one = np.clip(chances, 0.0, 1.0)
    messages = np.stack([1 - one, one, np.ones_like(one)])[rows]
    for _ in range(depth):
        # The trapezoidal rule over a window of 2 cells' half widths; what the window lacks is cut off at both ends.
        sums = np.cumsum((messages[..., 1:] + messages[..., :-1]) / 2, axis=-1)
        sums = np.concatenate([np.zeros_like(sums[..., :1]), sums], axis=-1)
        means = (sums[..., 2 * cells :] - sums[..., : -2 * cells]) / (2 * cells)
        messages = means[:, 0::2] * means[:, 1::2]
    found: NDArray[np.float64] = messages[:, 0, 0]
    return found


def _question(seen: list[int], asked: int) -> str:
    shown = " ".join("?" if leaf == UNKNOWN else str(leaf) for leaf in seen)
    return (
        f"A binary tree has {len(seen)} leaves. A chance begins at 1/2 at the root, and changes by a random amount of "
        "at most 1/5 on every branch, for each child on its own. Each leaf is 1 with the chance that reached it, else "
        f"0. From left to right the leaves are: {shown}. Is leaf {asked + 1} more likely 1 or 0?"
    )
