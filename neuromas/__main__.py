"""``python -m neuromas`` is the command ``neuromas``."""

from __future__ import annotations

from neuromas.cli.main import be_the_process

be_the_process()
