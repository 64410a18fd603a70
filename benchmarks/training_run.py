"""One `neuromas train` of a study: a process of its own, resumed where it was broken off."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Document = dict[str, Any]


def train(spec: Mapping[str, Any], out: Path, settings: Sequence[str] = ()) -> Document | None:
    """Train a spec into ``<out>/runs/<name>`` and return its result.json; None, with a line on stderr, where it fails.

    What it prints is added to ``<out>/<name>.log``.

    Args:
        spec: a run spec with a name.
        out: folder of the study.
        settings: further ``--set`` arguments.
    """
    name, runs = spec["name"], out / "runs"
    file, result = out / f"{name}.json", runs / name / "result.json"
    out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(spec, indent=1) + "\n")
    command = [sys.executable, "-m", "neuromas", "train", str(file), "--out", str(runs)]
    command += [argument for setting in settings for argument in ("--set", setting)]
    command += ["--resume"] if (runs / name / "spec.resolved.json").is_file() else []
    with (out / f"{name}.log").open("a") as log:
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0 or not result.is_file():
        print(f"failed {name}: exit code {done.returncode}, see {out / name}.log", file=sys.stderr)
        return None
    return dict(json.loads(result.read_text()))
