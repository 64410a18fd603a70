"""GGUF files as base folders: weights dequantised once, tokenizer, template and end tokens taken from the metadata.

Loads transformers and the package ``gguf``, where a file is imported. Source: the GGUF specification of ggml.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuromas.base.chat_template import read_chat_template
from neuromas.base.draft import base_draft
from neuromas.base.end_tokens import special_tokens
from neuromas.base.fingerprint import fingerprint
from neuromas.errors import BaseModelError, writing

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

_TOKENIZERS = {"llama": {"default"}, "gpt2": {"default", "gpt-2", "smollm", "llama-bpe", "qwen2"}}
"""Kinds of tokenizers (tokenizer.ggml.model), and for each how it may cut text first (tokenizer.ggml.pre)."""
_DIGIT_BY_DIGIT = {"smollm"}
_WANTED = ("eos", "bos", "padding")


def import_gguf(file: Path, folder: Path) -> Path:
    """Write the model in a GGUF file as a base folder (bfloat16 safetensors) and return the folder.

    Raises:
        BaseModelError: the package gguf is missing, the file is broken or of a kind that is not read, or the folder
            exists.
        StorageError: there is no space for it; nothing of it is left.
    """
    if folder.exists():
        raise BaseModelError(f"{folder} exists already; import {file.name} under another name, or delete the folder")
    facts = read_facts(file)
    _check_tokenizer(file, facts)
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with base_draft(folder.parent) as draft:
            _write(file, facts, draft)
            _check_turn_end(draft)
            try:
                draft.rename(folder)
            except OSError:
                if not (folder.is_dir() and fingerprint(folder) == fingerprint(draft)):
                    raise  # else another process was faster with the same file
    return folder


def imported_name(file: Path) -> str:
    """Return the name under which a file that a spec names is imported: its stem and the beginning of its SHA-256."""
    with file.open("rb") as stream:
        return f"{file.stem.lower()}-{hashlib.file_digest(stream, 'sha256').hexdigest()[:12]}"


def read_facts(file: Path) -> Mapping[str, Any]:
    """Return the metadata of a GGUF file by key.

    Raises:
        BaseModelError: the package gguf is missing, or the file is broken.
    """
    try:
        from gguf import GGUFReader
    except ModuleNotFoundError as error:
        raise BaseModelError("reading GGUF files needs the package gguf; pip install gguf") from error
    try:
        return {key: field.contents() for key, field in GGUFReader(file).fields.items()}
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise BaseModelError(f"{file} is no GGUF file that can be read: {error}") from error


def _check_tokenizer(file: Path, facts: Mapping[str, Any]) -> None:
    kind, cut = facts.get("tokenizer.ggml.model"), facts.get("tokenizer.ggml.pre", "default")
    if cut not in _TOKENIZERS.get(str(kind), ()):
        known = "; ".join(f"{name}: {', '.join(sorted(cuts))}" for name, cuts in _TOKENIZERS.items())
        raise BaseModelError(
            f"{file}: its tokenizer is {kind!r} and cuts text by {cut!r}; allowed are {known}. "
            "Give the model's original folder as base instead"
        )
    if "tokenizer.ggml.eos_token_id" not in facts:
        raise BaseModelError(f"{file}: its metadata name no end token (tokenizer.ggml.eos_token_id)")


def _write(file: Path, facts: Mapping[str, Any], folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    place, name = file.resolve().parent, file.name
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, gguf_file=name)
        loaded = AutoModelForCausalLM.from_pretrained(place, gguf_file=name, dtype=torch.float32)
    except (ValueError, KeyError, NotImplementedError, RuntimeError) as error:
        raise BaseModelError(f"{file}: transformers cannot read this model: {error}") from error
    ids = {key: int(facts[entry]) for key in _WANTED if (entry := f"tokenizer.ggml.{key}_token_id") in facts}
    tokens = facts["tokenizer.ggml.tokens"]
    if outside := [token_id for token_id in ids.values() if not 0 <= token_id < len(tokens)]:
        raise BaseModelError(f"{file}: its metadata name the tokens {outside} of a vocabulary of {len(tokens)}")
    _mend_tokenizer(tokenizer, facts, {key: tokens[token_id] for key, token_id in ids.items()})
    model = _plain_model(loaded).to(torch.bfloat16)
    model.generation_config = GenerationConfig(
        eos_token_id=ids["eos"], bos_token_id=ids.get("bos"), pad_token_id=ids.get("padding", ids["eos"])
    )
    for config in (model.config, model.generation_config):
        config.eos_token_id, config.bos_token_id = ids["eos"], ids.get("bos")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _plain_model(loaded: PreTrainedModel) -> PreTrainedModel:
    """Return the model without what says that it was quantised, which keeps it from being saved."""
    settings = loaded.config.to_dict()
    for key in ("quantization_config", "_name_or_path"):
        settings.pop(key, None)
    model = type(loaded)(type(loaded.config)(**settings))
    model.load_state_dict(loaded.state_dict())
    return model


def _mend_tokenizer(tokenizer: PreTrainedTokenizerFast, facts: Mapping[str, Any], named: Mapping[str, str]) -> None:
    """Give a tokenizer the special tokens, the template and the cuts that the metadata name."""
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    tokenizer.eos_token = named["eos"]
    tokenizer.pad_token = named.get("padding", named["eos"])
    if "bos" in named:
        tokenizer.bos_token = named["bos"]
    if template := facts.get("tokenizer.chat_template"):
        tokenizer.chat_template = template
    if facts.get("tokenizer.ggml.pre") in _DIGIT_BY_DIGIT:
        core = tokenizer.backend_tokenizer
        core.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])


def _check_turn_end(folder: Path) -> None:
    """Check that what the chat template writes after a turn is a token of its own."""
    template = read_chat_template(folder)
    if template is not None and template.turn_end(tuple(special_tokens(folder))) is None:
        raise BaseModelError(
            "the chat template in the file ends an assistant's turn with no special token, so messages would not end; "
            "the file is not imported"
        )
