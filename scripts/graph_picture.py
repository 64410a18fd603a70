"""Draws a trained graph with what its nodes have learned to say: ``graph_picture.py RUN_FOLDER OUT.svg``."""

from __future__ import annotations

import sys
from pathlib import Path

from neuromas.report.data import RunData
from neuromas.report.graph import draw_trained


def main(run: str, out: str) -> None:
    """Write the picture of the run's final graph."""
    Path(out).write_text(draw_trained(RunData.read(Path(run))) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: {__doc__}")
    main(*sys.argv[1:])
