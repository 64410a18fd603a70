"""Bases without weights whose tokens are single characters, so that a prompt can be read back exactly."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split

FIRST_SPECIAL = 256
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHATML_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def write_letter_base(
    folder: Path,
    specials: Sequence[str] = ("<end>",),
    template: str | None = None,
    config: Mapping[str, object] | None = None,
    generation: Mapping[str, object] | None = None,
    tokenizer: Mapping[str, object] | None = None,
) -> Path:
    """Write a base of 256 characters, then ``specials`` from id 256 on; the first of them ends a message.

    Args:
        folder: made where it is missing.
        specials: contents of the special tokens.
        template: chat template.
        config: entries of config.json beside the shape, or instead of it.
        generation: generation_config.json.
        tokenizer: further entries of tokenizer_config.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    letters = {chr(code): code for code in range(FIRST_SPECIAL)}
    core = Tokenizer(
        WordLevel(letters | {text: FIRST_SPECIAL + place for place, text in enumerate(specials)}, unk_token="?")
    )
    core.pre_tokenizer = Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = Fuse()
    core.add_special_tokens(list(specials))
    core.save(str(folder / "tokenizer.json"))
    shape = {
        "architectures": ["LlamaForCausalLM"],
        "num_attention_heads": 2,
        "hidden_size": 64,
        "vocab_size": FIRST_SPECIAL + len(specials),
        "eos_token_id": FIRST_SPECIAL,
    }
    (folder / "config.json").write_text(json.dumps(shape | dict(config or {})))
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    own = dict(tokenizer or {}) | ({} if template is None else {"chat_template": template})
    if own:
        (folder / "tokenizer_config.json").write_text(json.dumps(own))
    return folder


def spelled(token_ids: Sequence[int], specials: Sequence[str] = ("<end>",)) -> str:
    """Return a prompt as text; control tokens are written in double brackets, so that text cannot look like one."""
    return "".join(
        chr(token) if token < FIRST_SPECIAL else f"[[{specials[token - FIRST_SPECIAL]}]]" for token in token_ids
    )
