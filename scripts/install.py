"""Makes the virtual environment of a source checkout: ``install.py [--venv DIR] [EXTRA...]``. Standard library only.

Every package comes from constraints.txt at its exact version, through the pip configuration of this machine, without
asking for anything that is not listed there. A stamp file remembers what was installed, so a second call costs
nothing; an interrupted call is repeated by the next one. Asked for the extra ``gpu``, pip resolves it itself, with
constraints.txt as bounds, because CUDA packages differ from machine to machine.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
OLDEST_PYTHON = (3, 11)
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
SHARES = 2
"""Calls of pip beside the one for torch: each unpacks on one processor."""
UNUSED = ("torchvision", "torchaudio", "torchcodec")
NOT_A_REPORT = ("already satisfied", "WARNING", "Looking in", "Obtaining", "Preparing", "Successfully installed")
# Imported once after the install, each group in a process of its own: this proves that the packages fit together, and
# leaves byte code of the 7,000 files that matter. pip would compile all 27,000, which takes as long as the download.
FIRST_IMPORTS = {
    "cpu": (
        ("vllm", "vllm.v1.engine.llm_engine", "vllm.v1.worker.cpu_worker", "vllm.model_executor.models.qwen3"),
        ("peft", "datasets", "accelerate", "transformers.models.qwen3.modeling_qwen3"),
        ("ray", "ray.serve", "ray.tune", "ray.train.torch", "ray.rllib.env.multi_agent_env"),
        ("ray._private.workers.default_worker", "ray.dashboard.dashboard"),
    ),
    "gpu": (("vllm",), ("peft", "ray", "ray.serve", "ray.tune", "ray.train.torch", "datasets", "accelerate")),
    "service": (("fastapi", "uvicorn", "redis"),),
    "dev": (("pytest", "hypothesis"),),
}


class InstallError(Exception):
    """The environment cannot be made; the message says what the user can do."""


class Progress:
    """One line of progress on a terminal, one line every 15 s elsewhere; everything pip says goes to a log file."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.started_s = time.monotonic()
        self.is_terminal = sys.stdout.isatty()
        self.failure: list[str] = []
        self._shown_s = 0.0
        self._counts: Counter[str] = Counter()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        clear = "\r\033[K" if self.is_terminal else ""
        sys.stdout.write(f"{clear}[{self._elapsed_s():4.0f} s] {text}\n")
        sys.stdout.flush()

    def show(self, text: str) -> None:
        """Print a line that the next one replaces."""
        now_s = self._elapsed_s()
        if self.is_terminal:
            width = shutil.get_terminal_size().columns - 10
            sys.stdout.write(f"\r\033[K[{now_s:4.0f} s] {text[:width]}")
            sys.stdout.flush()
        elif now_s - self._shown_s >= 15:
            self._shown_s = now_s
            self.say(text[:100])

    def run(self, command: list[str], what: str, total: int = 0) -> int:
        """Run pip or a tool of the environment, count the packages it names, and return its exit status.

        Threads may do so beside each other: what they call the same is counted together, and one log has all lines.
        """
        lines = []
        with self.log.open("a", encoding="utf-8", buffering=1) as log:
            log.write(f"$ {' '.join(command)}\n")
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
            assert process.stdout is not None
            for line in process.stdout:
                log.write(line)
                lines.append(line.rstrip())
                self._counts[what] += line.startswith(("Collecting", "Requirement already satisfied"))
                self._echo(line.strip(), what, self._counts[what], total)
        if process.wait() != 0:
            self.failure = lines
        return process.returncode

    def _echo(self, line: str, what: str, count: int, total: int) -> None:
        if line.startswith("Installing collected packages"):
            packages = f" {count} packages (the longest part)" if count > 1 else ""
            self.show(f"{what}: unpacking{packages}")
        elif line and not any(mark in line for mark in NOT_A_REPORT):
            counted = f" {count}/{total}" if total else ""
            self.show(f"{what}{counted}: {line}")

    def _elapsed_s(self) -> float:
        return time.monotonic() - self.started_s


def main() -> int:
    """Make or complete the environment; return a process exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="folder of the environment")
    parser.add_argument("extras", nargs="*", default=["cpu"], help="cpu, gpu, service, dev")
    arguments = parser.parse_args()
    if sys.version_info < OLDEST_PYTHON:
        return _continue_with_newer_python()
    try:
        install(arguments.venv.absolute(), sorted(set(arguments.extras)))
    except InstallError as error:
        sys.stderr.write(f"\ninstall: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\ninstall: interrupted; the same command goes on where this one stopped\n")
        return 130
    return 0


def install(venv: Path, extras: list[str]) -> None:
    """Bring ``venv`` to the state that constraints.txt and pyproject.toml ask for with ``extras``."""
    stamp = venv / "neuromas.stamp"
    done = stamp.read_text(encoding="utf-8").split() if stamp.exists() else [""]
    state = _fingerprint()
    if done[0] == state and set(extras) <= set(done[1:]):
        return
    extras = sorted({*extras, *done[1:]})
    is_new = make_venv(venv)
    stamp.unlink(missing_ok=True)
    progress = Progress(venv / "install.log")
    progress.say(f"installing NeuroMAS[{','.join(extras)}] into {venv}")
    python = str(venv / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-compile"]
    if "gpu" in extras:
        install_resolved(progress, pip, extras)
    else:
        install_pinned(progress, pip, extras, is_new=is_new)
        install_missing(progress, python, pip, extras)
    remove_broken(progress, python)
    import_once(progress, python, extras)
    stamp.write_text(" ".join([state, *extras]) + "\n", encoding="utf-8")
    progress.say(f"done: {venv}")


def make_venv(venv: Path) -> bool:
    """Create the environment unless a working one is there; return whether it is new."""
    python = venv / "bin" / "python"
    asked = [str(python), "-m", "pip", "--version"]
    if python.exists() and subprocess.run(asked, capture_output=True, check=False).returncode == 0:
        return False
    if venv.exists() and any(venv.iterdir()) and not (venv / "pyvenv.cfg").exists():
        raise InstallError(f"{venv} exists and is no virtual environment; name another folder with VENV=...")
    command = [sys.executable, "-m", "venv", "--clear", str(venv)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise InstallError(
            f"{sys.executable} -m venv failed: {(made.stdout + made.stderr).strip()}\n"
            f"On Debian and Ubuntu: apt-get install python3-venv. PYTHON=... names another Python."
        )
    return True


def install_pinned(progress: Progress, pip: list[str], extras: list[str], *, is_new: bool) -> None:
    """Install the lines of constraints.txt that belong to ``extras``, then the project itself.

    Into a new environment in shares beside each other. Where packages are replaced, one share after the other: pip
    removes a folder that is empty without the old version, and another pip may be about to put something there.
    """
    pins = ["setuptools==78.1.1", *(line.partition("#")[0].strip() for line in _lines(extras))]
    jobs = []
    torch = next((pin for pin in pins if pin.startswith("torch==")), None)
    if torch is not None:
        pins.remove(torch)
        jobs.append(partial(install_torch, progress, pip, torch))
    jobs += [partial(install_share, progress, pip, pins[share::SHARES], len(pins)) for share in range(SHARES)]
    with ThreadPoolExecutor(len(jobs) if is_new else 1) as pool:
        for job in [pool.submit(job) for job in jobs]:
            job.result()
    _install_project(progress, pip)


def install_share(progress: Progress, pip: list[str], pins: list[str], total: int) -> None:
    """Install some of ``total`` packages."""
    if progress.run([*pip, "--no-deps", *pins], "packages", total) != 0:
        raise _failed(progress)


def install_torch(progress: Progress, pip: list[str], pin: str) -> None:
    """Install the CPU build of torch: from where pip is configured to look, else from PyTorch's own CPU index."""
    if sys.platform != "linux":
        if progress.run([*pip, "--no-deps", pin], pin) != 0:
            raise _failed(progress)
        return
    local = f"{pin}+cpu"
    if progress.run([*pip, "--no-deps", local], local) == 0:
        return
    if progress.run([*pip, "--no-deps", "--index-url", CPU_INDEX, local], local) != 0:
        raise _failed(progress)


def install_missing(progress: Progress, python: str, pip: list[str], extras: list[str]) -> None:
    """Install what this Python or platform needs beyond the list, which was written on another."""
    closure = [python, str(ROOT / "scripts" / "closure.py"), "missing", *extras]
    found = subprocess.run(closure, capture_output=True, text=True, cwd=ROOT, check=False)
    if found.returncode != 0:
        raise InstallError(f"the installed packages cannot be read: {found.stderr.strip()}")
    missing = found.stdout.splitlines()
    if missing and progress.run([*pip, "-c", str(CONSTRAINTS), *missing], "further packages") != 0:
        raise _failed(progress)


def install_resolved(progress: Progress, pip: list[str], extras: list[str]) -> None:
    """Let pip resolve the extras within constraints.txt."""
    wanted = f"{ROOT}[{','.join(extras)}]"
    if progress.run([*pip, "-c", str(CONSTRAINTS), "--editable", wanted], "packages") != 0:
        raise _failed(progress)


def remove_broken(progress: Progress, python: str) -> None:
    """Remove torchvision and its siblings where one does not import: it breaks transformers, and nothing needs it."""
    check = "import importlib.util as u\nfor n in {names!r}:\n    if u.find_spec(n): __import__(n)"
    tried = subprocess.run([python, "-c", check.format(names=UNUSED)], capture_output=True, text=True, check=False)
    if tried.returncode == 0:
        return
    progress.say("removing a torchvision or sibling of it that does not fit this torch (nothing here needs it)")
    progress.run([python, "-m", "pip", "uninstall", "--yes", *UNUSED], "removing")


def import_once(progress: Progress, python: str, extras: list[str]) -> None:
    """Import the packages of the extras and leave their byte code behind."""
    progress.show("first import of the packages")
    progress.failure = []
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["VLLM_LOGGING_LEVEL"] = "ERROR"
    with progress.log.open("a", encoding="utf-8") as log:
        running = [
            subprocess.Popen([python, "-c", f"import {', '.join(names)}"], stdout=log, stderr=log, env=environment)
            for extra in extras
            for names in FIRST_IMPORTS.get(extra, ())
        ]
        codes = [process.wait() for process in running]
    if any(codes):
        raise _failed(progress)


def _install_project(progress: Progress, pip: list[str]) -> None:
    command = [*pip, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
    if progress.run(command, "neuromas") != 0:
        raise _failed(progress)


def _lines(extras: list[str]) -> list[str]:
    chosen = []
    for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines():
        pin, _, tags = line.partition("#")
        if pin.strip() and set(tags.split()) & set(extras):
            chosen.append(line)
    return chosen


def _fingerprint() -> str:
    content = CONSTRAINTS.read_bytes() + (ROOT / "pyproject.toml").read_bytes() + platform.python_version().encode()
    return hashlib.sha256(content).hexdigest()


def _failed(progress: Progress) -> InstallError:
    lines = progress.failure or progress.log.read_text(encoding="utf-8").splitlines()
    tail = "\n".join([line for line in lines if not line.startswith("WARNING")][-12:])
    remedy = "The same command goes on where this one stopped."
    return InstallError(f"a step failed; the end of {progress.log}:\n{tail}\n{remedy}")


def _continue_with_newer_python() -> int:
    for minor in (13, 12, 11):
        newer = shutil.which(f"python3.{minor}")
        if newer:
            return subprocess.run([newer, *sys.argv], env=os.environ, check=False).returncode
    version = platform.python_version()
    sys.stderr.write(f"install: Python 3.11 or newer is needed, this is {version}; PYTHON=... names one\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
