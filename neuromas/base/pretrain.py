"""Makes a tiny base from nothing: seeded weights, seeded questions, one optimizer through the stages of a Recipe."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import tokenizers
import torch
import transformers
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import Qwen3Config, Qwen3ForCausalLM

from neuromas.base.card import BaseCard, hash_weights
from neuromas.base.curriculum import VALUE_WEIGHT, draw_row
from neuromas.base.pack import PackedRows, pack_rows
from neuromas.base.recipe import Architecture, PracticeStage, Recipe
from neuromas.base.skills import skills_table
from neuromas.base.symbols import BOS, EOS, PAD, build_tokenizer, symbols

_LOSS_MEMORY = 0.98
_MASTERY_MEMORY = 0.95


@dataclass(frozen=True, slots=True)
class PretrainingProgress:
    """State after one optimizer step.

    Attributes:
        stage: name of the stage.
        step: optimizer steps done.
        num_steps: steps of the whole recipe at most; stages may end early.
        loss: exponential mean of the loss per branch, in nats.
        right: exponential mean, within the stage, of the share of values predicted right.
        cpu_s: processor seconds spent so far.
    """

    stage: str
    step: int
    num_steps: int
    loss: float
    right: float
    cpu_s: float


def make_base(
    recipe: Recipe, out: Path, on_progress: Callable[[PretrainingProgress], None] = lambda _: None
) -> BaseCard:
    """Make a base by a recipe and write it to a folder, its card last.

    One torch thread does the work. The recipe, the library versions and the processor's instruction set determine the
    weights.

    Args:
        recipe: sizes, stages and seed.
        out: folder to write; created if missing, files of an older base are replaced.
        on_progress: called after every optimizer step.

    Returns:
        The card, with the measured skills.
    """
    started = time.process_time()
    with _one_thread():
        model = new_model(recipe.architecture, recipe.seed)
        practise(model, recipe, on_progress)
    cpu_s = time.process_time() - started
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    build_tokenizer(recipe.architecture.max_length).save_pretrained(out)
    card = BaseCard(
        renderer="compact",
        weights_sha256=hash_weights(out),
        num_parameters=model.num_parameters(),
        cpu_s=round(cpu_s, 1),
        num_threads=1,
        recipe=asdict(recipe),
        skills=skills_table(model, recipe.skill_questions),
        versions={
            "python": platform.python_version(),
            "tokenizers": tokenizers.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    )
    card.write(out)
    return card


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute in one thread: several add numbers up in another order, to other weights, and save little time here."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def new_model(architecture: Architecture, seed: int) -> Qwen3ForCausalLM:
    """Return a Qwen3 model with random weights; the global random state is left as it was."""
    vocabulary = symbols()
    config = Qwen3Config(
        vocab_size=len(vocabulary),
        hidden_size=architecture.hidden,
        intermediate_size=architecture.mlp,
        num_hidden_layers=architecture.layers,
        num_attention_heads=architecture.heads,
        num_key_value_heads=architecture.heads,
        head_dim=architecture.head_dim,
        max_position_embeddings=architecture.max_length,
        initializer_range=architecture.init_std,
        tie_word_embeddings=True,
        rope_theta=1e4,
        pad_token_id=vocabulary.index(PAD),
        bos_token_id=vocabulary.index(BOS),
        eos_token_id=vocabulary.index(EOS),
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config)


def practise(
    model: Qwen3ForCausalLM, recipe: Recipe, on_progress: Callable[[PretrainingProgress], None] = lambda _: None
) -> None:
    """Train a new model in place through all stages of a recipe; ``on_progress`` is called after every step."""
    ids = {symbol: place for place, symbol in enumerate(symbols())}
    rng = Random(recipe.seed)
    optimizers = _make_optimizers(model)
    started, step, mean_loss = time.process_time(), 0, 0.0
    model.train()
    for stage in recipe.stages:
        right = 0.0
        for stage_step in range(stage.steps):
            done = stage_step / stage.steps if stage is recipe.stages[-1] else 0.0
            loss, share = _optimize(model, optimizers, learning_rate(recipe, step, done), _draw_batch(rng, stage, ids))
            mean_loss = loss if step == 0 else _blend(mean_loss, loss, _LOSS_MEMORY)
            right = _blend(right, share, _MASTERY_MEMORY)
            step += 1
            spent = time.process_time() - started
            on_progress(PretrainingProgress(stage.name, step, recipe.num_steps, mean_loss, right, spent))
            if stage.mastery is not None and right >= stage.mastery:
                break
    model.eval()


def learning_rate(recipe: Recipe, step: int, last_stage_done: float) -> float:
    """Return the rate of an optimizer step: linear warm-up, a plateau, a linear fall.

    Args:
        recipe: gives the peak and the shape.
        step: optimizer steps already done.
        last_stage_done: share of the last stage already done, 0 in the stages before it.
    """
    warm = min(1.0, (step + 1) / recipe.warmup_steps)
    fall = 1.0 if last_stage_done < recipe.hold else max(0.02, (1 - last_stage_done) / (1 - recipe.hold))
    return recipe.learning_rate * warm * fall


def packed_loss(model: Qwen3ForCausalLM, batch: PackedRows) -> tuple[Tensor, Tensor]:
    """Return the weighted cross-entropy per branch, in nats, and the share of values predicted right (scalars)."""
    hidden = model.model(
        input_ids=batch.input_ids, attention_mask=batch.mask, position_ids=batch.position_ids, use_cache=False
    ).last_hidden_state
    learnt = batch.weights > 0
    logits, targets, weights = model.lm_head(hidden[learnt]), batch.targets[learnt], batch.weights[learnt]
    losses = cross_entropy(logits, targets, reduction="none")
    right = (logits.argmax(-1) == targets)[weights == VALUE_WEIGHT].float().mean()
    return (losses * weights).sum() / batch.num_branches, right


def _draw_batch(rng: Random, stage: PracticeStage, ids: dict[str, int]) -> PackedRows:
    return pack_rows([draw_row(rng, stage.lessons, stage.branches) for _ in range(stage.rows)], ids)


def _make_optimizers(model: Qwen3ForCausalLM) -> tuple[torch.optim.Optimizer, ...]:
    """Return Muon for the matrices of the layers and AdamW for embeddings and norms.

    Muon (orthogonalised momentum) forms the arithmetic table in a third of the steps that AdamW needs; its updates are
    scaled to the size of AdamW's, so that both take one rate. Source: arXiv:2502.16982, section 2.2.
    """
    embedding = model.get_input_embeddings().weight
    matrices = [weight for weight in model.parameters() if weight.ndim == 2 and weight is not embedding]
    others = [weight for weight in model.parameters() if weight.ndim != 2 or weight is embedding]
    return (
        torch.optim.Muon(matrices, lr=0.0, momentum=0.95, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=0.0, betas=(0.9, 0.98), weight_decay=0.01),
    )


def _optimize(
    model: Qwen3ForCausalLM, optimizers: Sequence[torch.optim.Optimizer], rate: float, batch: PackedRows
) -> tuple[float, float]:
    loss, right = packed_loss(model, batch)
    model.zero_grad()
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    return loss.item(), right.item()


def _blend(mean: float, new: float, memory: float) -> float:
    return memory * mean + (1 - memory) * new
