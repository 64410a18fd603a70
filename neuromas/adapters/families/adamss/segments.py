"""k-means over rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 100


def cluster(rows: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return a label in [0, count) for each row, shape (rows,); no label is left without a row.

    Lloyd's algorithm from k-means++ centres (Arthur and Vassilvitskii 2007) with a fixed seed, until no label changes.
    """
    rng = np.random.default_rng(0)
    points = rows.astype(np.float64)
    centres = _spread(points, count, rng)
    labels = np.full(len(points), -1)
    for _ in range(_ROUNDS):
        distances = _squared_distances(points, centres)
        found = distances.argmin(1)
        nearest = distances[np.arange(len(points)), found]
        for label in range(count):
            if not (found == label).any():  # the point that is worst off begins a segment of its own
                farthest = int(np.where(np.bincount(found, minlength=count)[found] > 1, nearest, -1).argmax())
                found[farthest], nearest[farthest] = label, 0.0
        if (found == labels).all():
            break
        labels = found
        centres = np.stack([points[labels == label].mean(0) for label in range(count)])
    return labels.astype(np.int64)


def _spread(points: NDArray[np.float64], count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    centres = [points[rng.integers(len(points))]]
    for _ in range(count - 1):
        nearest = _squared_distances(points, np.stack(centres)).min(1)
        total = nearest.sum()
        weights = nearest / total if total > 0 else None
        centres.append(points[rng.choice(len(points), p=weights)])
    return np.stack(centres)


def _squared_distances(points: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    squares: NDArray[np.float64] = (points**2).sum(1)[:, None] - 2 * points @ centres.T + (centres**2).sum(1)
    return squares.clip(min=0.0)
