"""``python -m neuromas`` is the command ``neuromas``."""

from __future__ import annotations

import sys

from neuromas.cli.main import main

sys.exit(main())
