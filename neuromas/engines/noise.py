"""What libraries print while they are imported and load a base: nothing that the user of a run can act on.

One place decides it, for commands and for scripts that call ``neuromas``. What a script or its environment has set
stays, and where the root logger was set to INFO or finer (``-v``, ``logging.basicConfig(level=logging.INFO)``), or a
library's own logger to any level, its user wants to hear it.
"""

from __future__ import annotations

import logging
import os
import warnings
from typing import Final

_LIBRARIES: Final[dict[str, dict[str, str]]] = {
    "accelerate": {},
    "datasets": {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1"},
    "huggingface_hub": {"HF_HUB_DISABLE_PROGRESS_BARS": "1"},  # transformers' bars, too
    "peft": {},
    "ray": {},
    "torch": {"TORCH_CPP_LOG_LEVEL": "ERROR"},
    "transformers": {"TRANSFORMERS_VERBOSITY": "error"},
    "trl": {},
    "vllm": {"VLLM_LOGGING_LEVEL": "ERROR"},
}
"""Names of loggers and packages, and what each reads from the environment when it is imported."""


def quiet_libraries() -> None:
    """Keep libraries from reporting less than errors, here and in processes started from here.

    To be called before they are imported, which is when they read the environment.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if logging.getLogger().isEnabledFor(logging.INFO):
        return
    for name, settings in _LIBRARIES.items():
        logger = logging.getLogger(name)
        if logger.level != logging.NOTSET:
            continue
        logger.setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=rf"{name}(\.|$)", append=True)
        for variable, value in settings.items():
            os.environ.setdefault(variable, value)
        if name == "torch":  # it sets the levels of its loggers anew when it is imported
            logging.getLogger("torch._library.triton").disabled = True
