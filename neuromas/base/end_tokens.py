"""The tokens that end a message of a base, from everything that says so. Loads no torch.

What serves and what trains stop at the same tokens: the union of those that the generation config, the config and the
tokenizer declare, and of the one that the chat template writes after an assistant's turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from neuromas.base.chat_template import TOKENIZER_CONFIG, read_chat_template, token_text
from neuromas.base.documents import read_json
from neuromas.errors import BaseModelError

TOKENIZER = "tokenizer.json"
_KEY = "eos_token_id"


def end_token_ids(folder: Path, vocab_size: int) -> tuple[int, ...]:
    """Return the ids, each once, at least one.

    Raises:
        BaseModelError: none is declared, or what is declared is no token of the base.
    """
    found = list(dict.fromkeys(_declared(folder, vocab_size)))
    if not found:
        raise BaseModelError(
            f"{folder}: no end token: neither {_KEY} in generation_config.json or config.json, nor eos_token in "
            f"{TOKENIZER_CONFIG}, nor the chat template names one; set {_KEY} in config.json"
        )
    return tuple(found)


def special_tokens(folder: Path) -> dict[str, int]:
    """Return text -> id of the tokens that are no text; empty without a tokenizer.json."""
    added = read_json(folder / TOKENIZER, optional=True).get("added_tokens", [])
    return {entry["content"]: int(entry["id"]) for entry in added if entry.get("special")}


def _declared(folder: Path, vocab_size: int) -> Iterator[int]:
    config = read_json(folder / "config.json")
    text = config.get("text_config")
    for name, document in (
        ("generation_config.json", read_json(folder / "generation_config.json", optional=True)),
        ("config.json", config),
        ("config.json", text if isinstance(text, Mapping) else {}),
    ):
        yield from _ids(folder / name, document.get(_KEY), vocab_size)
    specials = special_tokens(folder)
    eos = token_text(read_json(folder / TOKENIZER_CONFIG, optional=True).get("eos_token"))
    if eos is not None and eos in specials:
        yield specials[eos]
    template = read_chat_template(folder)
    if template is not None and specials:
        end = template.turn_end(tuple(specials))
        if end is not None:
            yield specials[end]


def _ids(file: Path, value: Any, vocab_size: int) -> Iterator[int]:
    for entry in value if isinstance(value, list) else [] if value is None else [value]:
        if not isinstance(entry, int) or isinstance(entry, bool) or not 0 <= entry < vocab_size:
            raise BaseModelError(f"{file}: {_KEY} holds {entry!r}; allowed are token ids from 0 to {vocab_size - 1}")
        yield entry
