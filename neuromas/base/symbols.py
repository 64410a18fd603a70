"""The symbols of the tiny base and the tokenizer over them: one whitespace-separated word is one token.

The tokenizer is an ordinary Hugging Face fast tokenizer, so text takes the same way to token ids as with any model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from neuromas.tasks.chain import NUM_SYMBOLS
from neuromas.tasks.tree import GATE_NAMES, MODULUS, OPERATORS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, UNK = "<pad>", "<bos>", "<eos>", "<unk>"
TASK_END, SIGNAL, SIGNAL_BODY, PROMPT_END = "@", "|", ":", ">"
MAX_POSITION = 16
_NAMES = sorted(GATE_NAMES)


def symbols() -> tuple[str, ...]:
    """Return the vocabulary; a symbol's place is its token id."""
    digits = [str(digit) for digit in range(MODULUS)]
    return (
        *(PAD, BOS, EOS, UNK),
        *(TASK_END, SIGNAL, SIGNAL_BODY, PROMPT_END),
        *("start", "find", "so", "."),
        *digits,
        *(f"{symbol}:" for symbol in range(NUM_SYMBOLS)),
        *(f"{name}=" for name in _NAMES),
        *_NAMES,
        *(operator + operand for operator in OPERATORS for operand in (*digits, *_NAMES)),
        *(f"{axis}{place}" for axis in "LN" for place in range(1, MAX_POSITION + 1)),
    )


def build_tokenizer(max_length: int) -> PreTrainedTokenizerFast:
    """Return the whole-word tokenizer; it adds no special tokens by itself, prompts spell out ``<bos>``.

    Args:
        max_length: longest sequence the model reads, in tokens.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(WordLevel({symbol: place for place, symbol in enumerate(symbols())}, unk_token=UNK))
    core.pre_tokenizer = WhitespaceSplit()
    core.add_special_tokens([PAD, BOS, EOS, UNK])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )
