"""Archives: a checkpoint as plain LoRAs in PEFT's layout, packed to one file. No torch in this process.

Adapters whose family makes plain LoRAs of what lies in the checkpoint are written here. Others are maps that torch
evaluates on the base: there the command line's export runs as a process of its own, where torch is installed.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

from neuromas.checkpoints.location import ADAPTERS, verify
from neuromas.checkpoints.trained import TrainedCheckpoint, find_trained
from neuromas.errors import AdapterError, CheckpointError, NeuroMASError
from neuromas.services.api.problems import ApiError, unsupported

Form = Literal["tar", "zip"]
TIMEOUT_S: Final = 600.0
LEFT_S: Final = 86_400.0
"""Age, in seconds, from which on the folder of an archive is no longer in use."""
MEDIA_TYPES: Final[Mapping[Form, str]] = {"tar": "application/x-tar", "zip": "application/zip"}


async def pack(checkpoint: Path, work: Path, name: str, form: Form) -> Path:
    """Write an archive of a checkpoint and return it.

    Args:
        checkpoint: its folder.
        work: an empty folder; the caller removes it.
        name: of the folder inside the archive.
        form: of the archive.

    Raises:
        CheckpointError: the checkpoint is gone or altered.
        ApiError: its adapters cannot be exported here, or it takes too long.
    """
    trained = await asyncio.to_thread(find_trained, checkpoint)
    await asyncio.to_thread(verify, checkpoint)
    folder = work / name
    if await asyncio.to_thread(_export_here, trained, folder):
        pass
    elif find_spec("torch") is None:
        kinds = ", ".join(sorted({section.type for section in trained.spec.adapters.sections.values()}))
        raise unsupported("id", f"adapters of type {kinds} are exported where torch is installed: `neuromas export`")
    else:
        await _export_by_command(checkpoint, folder)
    return await asyncio.to_thread(_archive, folder, work / f"{name}.{form}", form)


def make_work_folder(data_dir: Path) -> Path:
    """Return a new folder for an archive, on the disk of the data; what processes that died have left goes."""
    root = data_dir / "exports"
    root.mkdir(parents=True, exist_ok=True)
    for folder in root.iterdir():
        with suppress(FileNotFoundError):  # another process has just removed it
            if time.time() - folder.stat().st_mtime > LEFT_S:
                remove(folder)
    return Path(tempfile.mkdtemp(dir=root))


def remove(folder: Path) -> None:
    """Delete a folder; one that is gone already is no error."""
    shutil.rmtree(folder, ignore_errors=True)


def _export_here(trained: TrainedCheckpoint, folder: Path) -> bool:
    """Write the checkpoint's adapters; returns whether their family can be written without its map."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    from neuromas.cli.export import write_export

    try:
        state = load_file(trained.checkpoint / ADAPTERS)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"checkpoint {trained.checkpoint.name}: its weights cannot be read") from error
    loras = {}
    for name in trained.topology.adapters:
        lora = trained.spec.adapters.section_of(trained.topology, name).plain_lora(name, state)
        if lora is None:
            return False
        loras[name] = lora
    try:
        write_export(trained, loras, folder)
    except AdapterError as error:
        raise CheckpointError(f"checkpoint {trained.checkpoint.name}: {error}") from error
    return True


async def _export_by_command(checkpoint: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "neuromas", "export", str(checkpoint), "--out", str(folder)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            _, said = await process.communicate()
    except TimeoutError as error:
        raise ApiError(504, "export_timeout", f"the export took longer than {TIMEOUT_S:.0f} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise ExportError(f"the export ended with {process.returncode}: {said.decode(errors='replace')[-2000:]}")


class ExportError(NeuroMASError, RuntimeError):
    """The export's own process failed."""

    code = "export"


def _archive(folder: Path, target: Path, form: Form) -> Path:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    if form == "tar":
        with tarfile.open(target, "w") as tar:
            for file in files:
                tar.add(file, f"{folder.name}/{file.relative_to(folder)}", filter=_anonymous)
    else:
        with zipfile.ZipFile(target, "w") as packed:  # stored: weights do not get smaller
            for file in files:
                packed.write(file, f"{folder.name}/{file.relative_to(folder)}")
    return target


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave out whose files they were on this machine."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o644
    return entry
