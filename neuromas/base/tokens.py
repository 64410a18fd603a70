"""Lengths of texts in the tokens of a base. Loads the tokenizer alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from neuromas.errors import BaseModelError


def token_counter(base_folder: Path) -> Callable[[Sequence[str]], list[tuple[int, int]]]:
    """Return a function from texts to the (tokens, unknown tokens) of each.

    Raises:
        BaseModelError: the base has no fast tokenizer.
    """
    from tokenizers import Tokenizer

    path = base_folder / "tokenizer.json"
    if not path.is_file():
        raise BaseModelError(f"{path} is missing; a base needs a fast tokenizer (tokenizer.json)")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    unknown = tokenizer.token_to_id(getattr(tokenizer.model, "unk_token", None) or "")

    def count(texts: Sequence[str]) -> list[tuple[int, int]]:
        found = tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [(len(one.ids), 0 if unknown is None else one.ids.count(unknown)) for one in found]

    return count
