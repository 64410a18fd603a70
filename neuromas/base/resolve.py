"""From the name of a base model to its folder, and the few facts about it that others need. Loads no torch."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from neuromas.base.data_home import bases_home
from neuromas.base.documents import read_json
from neuromas.base.end_tokens import end_token_ids
from neuromas.base.package import PACKAGES
from neuromas.errors import BaseModelError

TINY = "tiny"
CPU_HEAD_DIMS = frozenset({32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512})
"""Head dimensions that vLLM's CPU attention kernel was compiled for. Source: vllm/v1/attention/backends/cpu_attn.py."""

RendererName = Literal["compact", "plain", "chat"]
_IMPORTED = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
"""Names of imported bases; each is a folder in the user's data folder."""
_HUB_FILES = ["*.json", "*.jinja", "*.safetensors", "*.model", "*.txt"]


@dataclass(frozen=True, slots=True)
class BaseInfo:
    """What a base folder says about its model.

    Attributes:
        folder: where the files are.
        architecture: class name of the model, e.g. ``Qwen3ForCausalLM``.
        head_dim: width of one attention head.
        vocab_size: number of token ids.
        max_positions: longest sequence the model was made for, tokens; None when it does not say.
        stop_token_ids: tokens that end a message; at least one. See ``end_tokens``.
        renderer: prompt format that ``neuromas.json`` declares, None when there is no such file or entry.
    """

    folder: Path
    architecture: str
    head_dim: int
    vocab_size: int
    max_positions: int | None
    stop_token_ids: tuple[int, ...]
    renderer: RendererName | None


def resolve_base(name: str, *, fetch: bool = True) -> Path:
    """Return the folder of the base ``name``: "tiny", a folder, a GGUF file, an imported base or a hub model's id.

    A GGUF file is imported once, into the user's data folder. Imported bases go by their names there
    (``neuromas base list``).

    A hub model is taken from the local cache; one that is not there is downloaded as ``transformers`` would do it, so
    ``HF_HUB_OFFLINE`` and the hub's own settings apply.

    Args:
        name: of the base.
        fetch: False neither imports nor downloads: what is not here yet is not found.

    Raises:
        BaseModelError: nothing is found under the name, or it is no model folder.
    """
    if name == TINY:
        folder = Path(__file__).with_name(TINY)
        missing = "the shipped base is missing from the installation; make it with `neuromas make-base`"
    else:
        folder = Path(name).expanduser()
        missing = (
            "give 'tiny', an existing folder, a GGUF file, an imported base (neuromas base list) or the id of a hub "
            "model (owner/name)"
        )
        if folder.suffix == ".gguf" and folder.is_file():
            return _from_gguf(folder, fetch)
        imported = bases_home() / name
        if _IMPORTED.fullmatch(name) and (imported / "config.json").is_file() and not folder.is_dir():
            return imported
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise BaseModelError(f"base {name!r}: {folder} has no config.json; {missing}")
        return folder.resolve()
    if name in PACKAGES:
        raise BaseModelError(f"base {name!r} is not here yet; get it with `neuromas base get {name}`")
    if name == TINY or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise BaseModelError(f"base {name!r}: {folder} is not a folder; {missing}")
    return _from_hub(name, fetch)


def _from_gguf(file: Path, fetch: bool) -> Path:
    from neuromas.base.gguf_file import import_gguf, imported_name

    folder = bases_home() / imported_name(file)
    if folder.is_dir():
        return folder
    if not fetch:
        raise BaseModelError(f"base {str(file)!r} is not imported here (neuromas base list)")
    return import_gguf(file, folder)


def _from_hub(name: str, fetch: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES, local_files_only=True))
    except LocalEntryNotFoundError as e:
        if not fetch:
            raise BaseModelError(f"base {name!r} is neither a folder nor in the local hub cache") from e
    except HFValidationError as e:
        raise BaseModelError(f"base {name!r} is neither a folder nor a hub id (owner/name)") from e
    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as e:
        raise BaseModelError(
            f"base {name!r} is neither a folder nor in the local hub cache, and could not be downloaded: "
            f"{_download_fault(e)}. Without a way to the hub, copy the model's folder here and give its path"
        ) from e


def _download_fault(error: Exception) -> str:
    """Return what kept the hub from answering, without its advice."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return "HF_HUB_OFFLINE is set"
    return str(error).strip().partition("\n")[0].removeprefix("Got: ").rstrip(".")


def read_base(folder: Path) -> BaseInfo:
    """Return what the files of a base folder say about it.

    Raises:
        BaseModelError: a file is missing or not valid, or no end token is declared.
    """
    config = read_json(folder / "config.json")
    text = config.get("text_config", config)
    try:
        heads, hidden, vocab_size = text["num_attention_heads"], text["hidden_size"], text["vocab_size"]
    except KeyError as e:
        raise BaseModelError(f"{folder / 'config.json'} has no entry {e}; only decoder language models are run") from e
    return BaseInfo(
        folder=folder,
        architecture=(config.get("architectures") or ["unknown"])[0],
        head_dim=text.get("head_dim") or hidden // heads,
        vocab_size=vocab_size,
        max_positions=text.get("max_position_embeddings"),
        stop_token_ids=end_token_ids(folder, vocab_size),
        renderer=declared_renderer(folder),
    )


def check_length(base: BaseInfo, max_model_len: int) -> None:
    """Refuse sequences longer than the base was made for.

    Raises:
        BaseModelError: ``max_model_len`` exceeds the base's positions.
    """
    if base.max_positions is not None and max_model_len > base.max_positions:
        raise BaseModelError(
            f"engine.max_model_len is {max_model_len}, "
            f"base {base.folder.name} reads at most {base.max_positions} tokens"
        )


def check_vllm_cpu(base: BaseInfo, block_size: int) -> None:
    """Refuse what vLLM's CPU build would accept at start and die of at the first batch.

    Raises:
        BaseModelError: the head dimension has no kernel, or the cache block size is no multiple of 32.
    """
    if base.head_dim not in CPU_HEAD_DIMS:
        allowed = ", ".join(map(str, sorted(CPU_HEAD_DIMS)))
        raise BaseModelError(
            f"base {base.folder.name}: head_dim is {base.head_dim}, vLLM on CPU runs {allowed}; "
            "take another base or set engine.type = 'transformers'"
        )
    if block_size % 32:
        raise BaseModelError(f"engine.block_size is {block_size}; vLLM on CPU takes multiples of 32")


def declared_renderer(folder: Path) -> RendererName | None:
    """Return the prompt format that ``neuromas.json`` in a base folder declares, None where it declares none.

    Raises:
        BaseModelError: it declares one that does not exist.
    """
    name = read_json(folder / "neuromas.json", optional=True).get("renderer")
    if name is None or name == "compact" or name == "plain" or name == "chat":
        return name
    raise BaseModelError(f"{folder / 'neuromas.json'}: renderer is {name!r}; allowed: compact, plain, chat")
