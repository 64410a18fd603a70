import json
import subprocess
import sys
from pathlib import Path

import pytest

from neuromas.base.symbols import symbols
from neuromas.errors import BaseModelError, SpecError, TopologyError
from neuromas.rollout.prompt import make_renderer
from neuromas.spec.parts import PromptSpec
from neuromas.tasks.base import Example
from neuromas.topology.builders import chain, layered
from neuromas.topology.graph import Node, Topology

EXAMPLE = Example("x", "0: 5 1: 3 start 2 find E=", "E= 7")


def words(token_ids: tuple[int, ...]) -> str:
    return " ".join(symbols()[token_id] for token_id in token_ids)


def test_compact_prompt_spells_question_place_and_signals(word_base: Path) -> None:
    renderer = make_renderer(PromptSpec(), word_base)
    topology = layered([2])
    prompt = renderer.render(topology, "n3", EXAMPLE, [("n1", "so A= 3 ."), ("n2", "")])
    assert words(prompt) == "<bos> 0: 5 1: 3 start 2 find E= @ L2 N1 | L1 N1 : so A= 3 . | L1 N2 : >"


def test_compact_prompt_of_a_node_that_does_not_read_the_task(word_base: Path) -> None:
    topology = Topology((Node("a"), Node("b", reads_task=False)), (("a", "b"),), "b")
    renderer = make_renderer(PromptSpec(), word_base)
    assert words(renderer.render(topology, "b", EXAMPLE, [("a", "7")])) == "<bos> @ L2 N1 | L1 N1 : 7 >"


def test_pinned_positions_are_shown_instead_of_computed_ones(word_base: Path) -> None:
    topology = Topology((Node("a"), Node("b", reads_task=False, position=(5, 2))), (("a", "b"),), "b")
    renderer = make_renderer(PromptSpec(), word_base)
    assert words(renderer.render(topology, "b", EXAMPLE, [("a", "7")])) == "<bos> @ L5 N2 | L1 N1 : 7 >"


def test_long_signals_keep_their_end(word_base: Path) -> None:
    renderer = make_renderer(PromptSpec(max_signal_tokens=2), word_base)
    prompt = renderer.render(chain(2), "n2", EXAMPLE, [("n1", "so A= 3 .")])
    assert words(prompt).endswith("| L1 N1 : 3 . >")


def test_decode_drops_special_tokens(word_base: Path) -> None:
    renderer = make_renderer(PromptSpec(), word_base)
    place = symbols().index
    assert renderer.decode((place("so"), place("7"), place("<eos>"))) == "so 7"
    assert renderer.decode(()) == ""


def test_a_position_without_a_word_is_refused(word_base: Path) -> None:
    renderer = make_renderer(PromptSpec(), word_base)
    with pytest.raises(TopologyError, match="layer 17"):
        renderer.render(chain(17), "n17", EXAMPLE, [("n16", "7")])


def test_compact_refuses_settings_it_does_not_use(word_base: Path) -> None:
    with pytest.raises(SpecError, match="not used by"):
        make_renderer(PromptSpec(instruction="Be brief."), word_base)


def test_chat_needs_a_template(word_base: Path) -> None:
    with pytest.raises(BaseModelError, match="no chat template"):
        make_renderer(PromptSpec(renderer="chat"), word_base)


@pytest.fixture
def letter_base(tmp_path: Path) -> Path:
    """A tokenizer whose tokens are single characters, so that a prompt can be read back exactly."""
    from tokenizers import Regex, Tokenizer
    from tokenizers.decoders import Fuse
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split

    letters = {chr(code): code for code in range(256)} | {"<end>": 256}
    core = Tokenizer(WordLevel(letters, unk_token="?"))
    core.pre_tokenizer = Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = Fuse()
    core.add_special_tokens(["<end>"])
    core.save(str(tmp_path / "tokenizer.json"))
    shape = {"num_attention_heads": 2, "hidden_size": 64, "vocab_size": 257, "eos_token_id": 256}
    (tmp_path / "config.json").write_text(json.dumps(shape))
    return tmp_path


def test_plain_prompt_of_the_output_node(letter_base: Path) -> None:
    spec = PromptSpec(instruction="Layer {layer} of {depth}, seat {index}.", answer_format="one letter")
    renderer = make_renderer(spec, letter_base)
    prompt = renderer.render(chain(2), "n2", Example("x", "Which?", "B"), [("n1", "Maybe B.")], max_tokens=4)
    assert "".join(map(chr, prompt)) == (
        "Layer 2 of 2, seat 1.\n\nState the answer as one letter.\n\nTask:\nWhich?\n\n"
        "Message from layer 1, position 1:\nMaybe B.\n\nAnswer:"
    )


def test_default_plain_prompt_states_the_budget_and_no_persona(letter_base: Path) -> None:
    renderer = make_renderer(PromptSpec(), letter_base)
    text = "".join(map(chr, renderer.render(chain(2), "n1", Example("x", "Which?", "B"), [], max_tokens=9)))
    assert "position 1 of layer 1" in text
    assert "at most 9 tokens" in text
    assert "You are" not in text
    assert text.endswith("Message:")


def test_signals_cannot_smuggle_special_tokens(letter_base: Path) -> None:
    renderer = make_renderer(PromptSpec(), letter_base)
    assert renderer.decode(tuple(map(ord, "so <end> 7"))) == "so  7"


def test_plain_prompts_load_no_torch(letter_base: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from neuromas.rollout.prompt import make_renderer;"
        "from neuromas.spec.parts import PromptSpec; import neuromas.rollout.client, neuromas.rollout.dataflow;"
        f"make_renderer(PromptSpec(), Path({str(letter_base)!r})).decode((65,));"
        "print(sorted({'torch', 'transformers', 'vllm', 'ray', 'trl', 'peft'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
