import json
from pathlib import Path

import pytest

from neuromas.base.resolve import check_length, check_vllm_cpu, read_base, resolve_base
from neuromas.errors import BaseModelError

CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "num_attention_heads": 4,
    "hidden_size": 64,
    "vocab_size": 100,
    "max_position_embeddings": 256,
    "eos_token_id": 2,
}


def write(folder: Path, name: str, document: dict[str, object]) -> None:
    (folder / name).write_text(json.dumps(document))


def test_the_shipped_base_runs_on_every_engine() -> None:
    base = read_base(resolve_base("tiny"))
    assert base.renderer == "compact"
    assert base.stop_token_ids == (2,)
    check_vllm_cpu(base, block_size=32)


def test_a_folder_describes_itself(tmp_path: Path) -> None:
    write(tmp_path, "config.json", CONFIG)
    base = read_base(resolve_base(str(tmp_path)))
    assert (base.architecture, base.head_dim, base.vocab_size, base.max_positions) == ("Qwen3ForCausalLM", 16, 100, 256)
    assert (base.stop_token_ids, base.renderer) == ((2,), None)


def test_generation_config_may_name_several_stop_tokens(tmp_path: Path) -> None:
    write(tmp_path, "config.json", CONFIG)
    write(tmp_path, "generation_config.json", {"eos_token_id": [7, 2]})
    assert read_base(tmp_path).stop_token_ids == (7, 2)


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "gpt", "a/b/c"])
def test_what_is_neither_folder_nor_hub_id_is_refused(name: str) -> None:
    with pytest.raises(BaseModelError, match="is not a folder"):
        resolve_base(name)


def test_a_known_model_that_is_not_here_is_told_how_to_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(BaseModelError, match=r"not here yet; get it with `neuromas base get smollm2-135m`$"):
        resolve_base("smollm2-135m")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"no config\.json"):
        resolve_base(str(tmp_path))


def test_documents_that_say_nothing_useful_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(BaseModelError, match="not valid JSON"):
        read_base(tmp_path)
    write(tmp_path, "config.json", {key: value for key, value in CONFIG.items() if key != "eos_token_id"})
    with pytest.raises(BaseModelError, match="eos_token_id"):
        read_base(tmp_path)
    write(tmp_path, "config.json", CONFIG)
    write(tmp_path, "neuromas.json", {"renderer": "poem"})
    with pytest.raises(BaseModelError, match="'poem'; allowed: compact, plain, chat"):
        read_base(tmp_path)


def test_what_vllm_would_die_of_is_refused_before(tmp_path: Path) -> None:
    write(tmp_path, "config.json", CONFIG)
    small = read_base(tmp_path)
    with pytest.raises(BaseModelError, match=r"head_dim is 16.*engine\.type"):
        check_vllm_cpu(small, block_size=32)
    write(tmp_path, "config.json", CONFIG | {"head_dim": 64})
    fitting = read_base(tmp_path)
    check_vllm_cpu(fitting, block_size=64)
    with pytest.raises(BaseModelError, match="block_size is 48"):
        check_vllm_cpu(fitting, block_size=48)
    check_length(fitting, 256)
    with pytest.raises(BaseModelError, match="at most 256 tokens"):
        check_length(fitting, 257)
