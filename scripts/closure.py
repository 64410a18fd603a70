"""Walks the requirements of this project through what is installed.

``closure.py lock`` prints constraints.txt from the running environment: every package that an extra needs, pinned, with
the extras that need it behind ``#``. ``closure.py missing EXTRA...`` prints the requirements of these extras that are
not met, one a line. Needs the packages ``packaging`` and this project (metadata only) in the environment.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = "neuromas"
PROFILES = ("cpu", "service", "dev")
# Nothing here imports these. They are large, and pip takes builds of them that do not fit a CPU build of torch.
EXCLUDED = frozenset({"torchvision", "torchaudio", "torchcodec", "triton"})
HEADER = """\
# Exact versions of everything a source install gets, written by `make lock`. After # stand the extras that need it.
# Also of use on its own: pip install -c constraints.txt "neuromas[service]"
"""


def walk(extras: tuple[str, ...]) -> tuple[dict[str, str], list[str]]:
    """Return installed name -> version that the project with ``extras`` needs, and the requirements not met."""
    found: dict[str, str] = {}
    missing: list[str] = []
    seen: set[tuple[str, str]] = set()
    queue = [(PROJECT, extra) for extra in ("", *extras)]
    while queue:
        name, extra = queue.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for text in metadata.requires(name) or ():
            requirement = Requirement(text)
            wanted = canonicalize_name(requirement.name)
            if wanted in EXCLUDED or not _applies(requirement, extra):
                continue
            try:
                version = metadata.version(wanted)
            except metadata.PackageNotFoundError:
                missing.append(f"{requirement.name}{requirement.specifier}")
                continue
            if not requirement.specifier.contains(version, prereleases=True):
                missing.append(f"{requirement.name}{requirement.specifier}")
            found[wanted] = version
            queue += [(wanted, wanted_extra) for wanted_extra in ("", *requirement.extras)]
    return found, sorted(set(missing))


def _applies(requirement: Requirement, extra: str) -> bool:
    if requirement.marker is None:
        return not extra
    # What holds without an extra was queued under the empty one already.
    holds, holds_anyway = (requirement.marker.evaluate({"extra": name}) for name in (extra, ""))
    return holds if not extra else holds and not holds_anyway


def lock() -> str:
    """Return the text of constraints.txt for the running environment."""
    needed_by: dict[str, list[str]] = defaultdict(list)
    versions: dict[str, str] = {}
    for profile in PROFILES:
        found, missing = walk((profile,))
        if missing:
            raise SystemExit(f"cannot lock extra {profile!r}: not installed or too old: {', '.join(missing)}")
        for name, version in found.items():
            versions[name] = version.partition("+")[0]
            needed_by[name].append(profile)
    width = max(len(f"{name}=={version}") for name, version in versions.items())
    lines = (f"{f'{name}=={versions[name]}':<{width}}  # {' '.join(needed_by[name])}" for name in sorted(versions))
    return HEADER + "\n".join(lines) + "\n"


if __name__ == "__main__":
    command, *arguments = sys.argv[1:] or [""]
    if command == "lock":
        sys.stdout.write(lock())
    elif command == "missing":
        sys.stdout.write("".join(f"{line}\n" for line in walk(tuple(arguments))[1]))
    else:
        raise SystemExit("usage: closure.py lock | missing EXTRA...")
