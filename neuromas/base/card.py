"""The card of a base: what it is, how it was made, what it can do. Reading and verifying it loads no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neuromas.errors import BaseModelError

CARD_FILE = "neuromas.json"
WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True, slots=True)
class BaseCard:
    """Provenance of a base folder, stored as ``neuromas.json`` beside the weights.

    Attributes:
        renderer: name of the prompt renderer that the base was trained to read.
        weights_sha256: SHA-256 of ``model.safetensors``, in hex.
        num_parameters: trainable parameters, tied embeddings counted once.
        cpu_s: processor seconds spent on training.
        num_threads: torch threads that trained it; with the recipe and the versions they determine the weights.
        recipe: the resolved Recipe.
        skills: what was measured after training, see ``neuromas.base.skills``.
        versions: version by library.
    """

    renderer: str
    weights_sha256: str
    num_parameters: int
    cpu_s: float
    num_threads: int
    recipe: dict[str, Any]
    skills: dict[str, Any]
    versions: dict[str, str]

    @classmethod
    def read(cls, folder: Path) -> BaseCard:
        """Return the card of a base folder.

        Raises:
            BaseModelError: there is no card, or it is not one.
        """
        path = folder / CARD_FILE
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise BaseModelError(f"got no {CARD_FILE} in {folder}, expected the folder of a base made here") from error
        except (json.JSONDecodeError, TypeError) as error:
            raise BaseModelError(f"got an unreadable card {path}: {error}; make the base again") from error

    def write(self, folder: Path) -> None:
        """Write the card; do so last, so that a folder with a card is complete."""
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False)
        (folder / CARD_FILE).write_text(text + "\n", encoding="utf-8")

    def verify(self, folder: Path) -> None:
        """Check the weights in a folder against the card.

        Raises:
            BaseModelError: the weights are missing or are not those the card was written for.
        """
        got = hash_weights(folder)
        if got != self.weights_sha256:
            raise BaseModelError(
                f"got weights with SHA-256 {got} in {folder}, the card says {self.weights_sha256}; make the base again"
            )


def hash_weights(folder: Path) -> str:
    """Return the SHA-256 of a folder's weights, in hex.

    Raises:
        BaseModelError: there are no weights.
    """
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise BaseModelError(f"got no {WEIGHTS_FILE} in {folder}, expected the folder of a base made here")
    return hashlib.sha256(path.read_bytes()).hexdigest()
