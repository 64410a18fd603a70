"""GGUF files: what is not read is refused by its reason before any weight is."""

from pathlib import Path

import pytest

from neuromas.base.gguf_file import _check_tokenizer, import_gguf, imported_name
from neuromas.errors import BaseModelError

FILE = Path("model.gguf")
KNOWN = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.eos_token_id": 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer.ggml.pre": "deepseek-llm"}, r"cuts text by 'deepseek-llm'; allowed are .*gpt2: .*smollm"),
        ({"tokenizer.ggml.model": "rwkv"}, r"its tokenizer is 'rwkv'.*original folder as base"),
        ({"tokenizer.ggml.model": None}, "its tokenizer is None"),
    ],
)
def test_a_tokenizer_that_would_be_read_otherwise_is_refused(change: dict[str, object], message: str) -> None:
    _check_tokenizer(FILE, KNOWN)
    with pytest.raises(BaseModelError, match=message):
        _check_tokenizer(FILE, KNOWN | change)


def test_a_file_without_an_end_token_is_refused() -> None:
    without = {key: value for key, value in KNOWN.items() if not key.endswith("eos_token_id")}
    with pytest.raises(BaseModelError, match="name no end token"):
        _check_tokenizer(FILE, without)


def test_a_folder_that_is_there_is_kept(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"exists already; import model\.gguf under another name"):
        import_gguf(FILE, tmp_path)


def test_a_file_goes_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "M.gguf").write_bytes(b"abc")
    assert imported_name(tmp_path / "M.gguf") == "m-ba7816bf8f01"
