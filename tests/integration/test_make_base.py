import hashlib
import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from neuromas.base.card import BaseCard
from neuromas.base.curriculum import draw_row
from neuromas.base.pack import pack_rows
from neuromas.base.pretrain import PretrainingProgress, learning_rate, make_base, new_model, packed_loss
from neuromas.base.recipe import Architecture, Recipe
from neuromas.base.resolve import resolve_base
from neuromas.base.skills import Probe, measure_endings, measure_skill
from neuromas.base.symbols import build_tokenizer, symbols
from neuromas.cli.main import main
from neuromas.errors import BaseModelError
from neuromas.tasks.chain import ChainTask
from neuromas.tasks.tree import TreeTask

SHIPPED = resolve_base("tiny")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BaseCard, list[PretrainingProgress]]:
    folder, seen = tmp_path_factory.mktemp("smoke"), []
    return folder, make_base(Recipe.smoke(), folder, seen.append), seen


@pytest.fixture(scope="module")
def shipped() -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(SHIPPED).eval()


def test_the_same_recipe_gives_the_same_weights(
    smoke: tuple[Path, BaseCard, list[PretrainingProgress]], tmp_path: Path
) -> None:
    _, card, _ = smoke
    torch.manual_seed(12345)
    assert make_base(Recipe.smoke(), tmp_path).weights_sha256 == card.weights_sha256


def test_another_seed_makes_another_base_and_its_card_says_so(
    smoke: tuple[Path, BaseCard, list[PretrainingProgress]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["make-base", "--out", str(tmp_path / "other"), "--smoke", "--seed", "1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["recipe"]["seed"] == 1
    assert document["weights_sha256"] != smoke[1].weights_sha256


def test_a_negative_seed_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["make-base", "--seed", "-1"])
    assert "got -1; allowed are whole numbers from 0 on" in capsys.readouterr().err


def test_a_base_is_made_in_one_thread_and_the_process_keeps_its_own_number(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    before = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(before))
    torch.set_num_threads(2)
    seen: set[int] = set()
    make_base(Recipe.smoke(), tmp_path, lambda _: seen.add(torch.get_num_threads()))
    assert (seen, torch.get_num_threads()) == ({1}, 2)


def test_progress_is_told_after_every_step_and_the_loss_falls(
    smoke: tuple[Path, BaseCard, list[PretrainingProgress]],
) -> None:
    _, _, seen = smoke
    assert [progress.step for progress in seen] == list(range(1, 17))
    assert [progress.stage for progress in seen] == ["circuits"] * 12 + ["deep"] * 4
    assert seen[-1].loss < seen[0].loss


def test_a_base_is_an_ordinary_folder_of_the_hub_format(
    smoke: tuple[Path, BaseCard, list[PretrainingProgress]],
) -> None:
    folder, card, _ = smoke
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert type(model).__name__ == "Qwen3ForCausalLM"
    assert model.num_parameters() == card.num_parameters
    text = "<bos> " + ChainTask(5).example("test", 0).prompt + " @ L2 N1 | L1 N1 : so A= 7 . >"
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids) == text
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(tokenizer("so A= 7 . <eos>").input_ids, skip_special_tokens=True) == "so A= 7 ."
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id == model.config.eos_token_id


def test_every_task_text_is_in_the_vocabulary() -> None:
    tokenizer = build_tokenizer(256)
    for task in (ChainTask(9, cycles="any"), TreeTask(4)):
        for level in task.levels:
            for index in range(30):
                example = task.example("train", index, level)
                assert tokenizer.unk_token_id not in tokenizer(f"{example.prompt} {example.answer}").input_ids


def test_branches_of_a_packed_row_are_scored_as_if_each_were_alone() -> None:
    model = new_model(Architecture(layers=2, mlp=32), seed=3).eval()
    ids = {symbol: place for place, symbol in enumerate(symbols())}
    rng, lessons = Random(0), Recipe.tiny().stages[-1].lessons
    rows = [draw_row(rng, lessons, 5) for _ in range(4)]
    with torch.no_grad():
        packed, _ = packed_loss(model, pack_rows(rows, ids))
        total = 0.0
        for row in rows:
            for branch in row.branches:
                words = [*row.question, *branch.prompt, *branch.completion]
                logits = model(torch.tensor([[ids[word] for word in words]])).logits[0].log_softmax(-1)
                start = len(words) - len(branch.completion)
                total -= sum(
                    weight * logits[start + k - 1, ids[word]].item()
                    for k, (word, weight) in enumerate(zip(branch.completion, branch.weights, strict=True))
                )
    assert packed.item() == pytest.approx(total / 20, rel=1e-5)


def test_the_learning_rate_rises_holds_and_falls() -> None:
    recipe = Recipe.smoke()
    assert learning_rate(recipe, 0, 0.0) == pytest.approx(1e-3)
    assert learning_rate(recipe, 5, 0.5) == pytest.approx(4e-3)
    assert learning_rate(recipe, 12, 0.8) == pytest.approx(1.6e-3)
    assert learning_rate(recipe, 15, 0.999) == pytest.approx(8e-5)


def test_an_altered_base_is_refused(smoke: tuple[Path, BaseCard, list[PretrainingProgress]], tmp_path: Path) -> None:
    folder, card, _ = smoke
    BaseCard.read(folder).verify(folder)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    with pytest.raises(BaseModelError, match="make the base again"):
        card.verify(tmp_path)
    with pytest.raises(BaseModelError, match=r"got no neuromas\.json"):
        BaseCard.read(tmp_path)
    (tmp_path / "neuromas.json").write_text(json.dumps({"renderer": "compact"}))
    with pytest.raises(BaseModelError, match="unreadable card"):
        BaseCard.read(tmp_path)


def test_reading_a_card_loads_no_torch() -> None:
    code = (
        "import sys; from neuromas.base.card import BaseCard; from neuromas.base.resolve import resolve_base; "
        "folder = resolve_base('tiny'); BaseCard.read(folder).verify(folder); "
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=SHIPPED.parents[2])


def test_the_shipped_base_is_what_its_card_says() -> None:
    card = BaseCard.read(SHIPPED)
    assert card.renderer == "compact"
    assert card.weights_sha256 == hashlib.sha256((SHIPPED / "model.safetensors").read_bytes()).hexdigest()
    assert 150_000 <= card.num_parameters <= 260_000
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 1_200_000


@pytest.mark.parametrize(
    "probe",
    [Probe("chain", 9, "", "A"), *(Probe("chain", 9, a, b) for a, b in zip("ABCDEFGH", "BCDEFGHI", strict=True))],
    ids=lambda probe: probe.label,
)
def test_the_shipped_base_can_do_every_single_hop(shipped: torch.nn.Module, probe: Probe) -> None:
    assert measure_skill(shipped, probe, 128).value >= 0.97


@pytest.mark.parametrize(
    ("stated", "wanted", "least"),
    [("", "A", 0.97), ("", "D", 0.97), ("AB", "E", 0.95), ("DC", "F", 0.95), ("EF", "G", 0.75)],
)
def test_the_shipped_base_can_do_every_single_gate(
    shipped: torch.nn.Module, stated: str, wanted: str, least: float
) -> None:
    assert measure_skill(shipped, Probe("tree", 3, stated, wanted), 128).value >= least


@pytest.mark.parametrize("probe", [Probe("chain", 5, "", "E"), Probe("chain", 9, "", "I"), Probe("tree", 3, "", "G")])
def test_the_shipped_base_cannot_do_the_task_in_one_call(shipped: torch.nn.Module, probe: Probe) -> None:
    assert measure_skill(shipped, probe, 256).value <= 0.55


def test_the_shipped_base_writes_one_fact_and_stops(shipped: torch.nn.Module) -> None:
    endings = measure_endings(shipped, "chain", 5, 64)
    assert endings.one_fact >= 0.97
    assert endings.two_facts <= 0.02
