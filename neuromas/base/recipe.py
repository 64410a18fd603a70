"""How a tiny base is made: its size, and the stages of practice it goes through. Plain data; loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from neuromas.base.curriculum import Lesson, Mixture


@dataclass(frozen=True, slots=True)
class Architecture:
    """Sizes of a Qwen3 model with tied embeddings.

    Attributes:
        hidden: width of the residual stream.
        layers: number of decoder layers.
        heads: attention heads; each has its own key and value head.
        head_dim: width of a head. vLLM's CPU attention refuses less than 32.
        mlp: inner width of the feed-forward block.
        max_length: longest sequence in tokens.
        init_std: standard deviation of the initial weights.
    """

    hidden: int = 64
    layers: int = 4
    heads: int = 2
    head_dim: int = 32
    mlp: int = 176
    max_length: int = 256
    init_std: float = 0.06


@dataclass(frozen=True, slots=True)
class PracticeStage:
    """Optimizer steps on one mix of lessons.

    Attributes:
        name: shown in progress.
        steps: optimizer steps at most.
        rows: questions per step.
        branches: branches per question.
        lessons: what the rows are drawn from.
        mastery: running share of right values at which the stage ends early; None always takes all steps. A circuit
            that is not there yet when the next stage needs it hardly forms any more.
    """

    name: str
    steps: int
    rows: int
    branches: int
    lessons: tuple[Lesson, ...]
    mastery: float | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that determines the weights, apart from library versions and the number of threads.

    Attributes:
        stages: practice in order; one optimizer goes through all of them.
        architecture: sizes of the model.
        seed: of the initial weights and of the questions.
        learning_rate: peak rate of AdamW.
        warmup_steps: steps over which the rate rises from 0.
        hold: share of the last stage before the rate starts to fall linearly to 2 % of its peak.
    """

    stages: tuple[PracticeStage, ...]
    architecture: Architecture = Architecture()
    seed: int = 0
    learning_rate: float = 4e-3
    warmup_steps: int = 50
    hold: float = 0.6

    @property
    def num_steps(self) -> int:
        """Optimizer steps of all stages together, if none ends early."""
        return sum(stage.steps for stage in self.stages)

    @classmethod
    def tiny(cls) -> Recipe:
        """Return the recipe of the shipped base: chains of up to 9 hops and trees of up to 3 layers."""
        circuits = tuple(
            PracticeStage(f"circuits-{pairs[-1]}", steps, 48, 4, (_gates(1), _combine(), _lookup(*pairs)))
            for pairs, steps in (((2,), 200), ((3, 4), 120), ((5, 6), 80), ((8,), 80))
        )
        shallow = PracticeStage(
            "shallow", 400, 24, 8, (_tree(2), _chain(2, 3, 4, 5), _gates(1, 2, 4, weight=0.1), _combine(0.1))
        )
        deep = PracticeStage(
            "deep",
            1400,
            24,
            8,
            (_tree(2, weight=0.1), _tree(3), _chain(*range(2, 10), weight=0.25), _chain(9, weight=0.25)),
        )
        return cls((*circuits, shallow, deep))

    @classmethod
    def smoke(cls) -> Recipe:
        """Return a recipe that takes seconds and learns next to nothing; for tests of the machinery."""
        architecture = Architecture(layers=1, mlp=64)
        stage = PracticeStage("circuits", 12, 8, 2, (_gates(1), _combine(), _lookup(2)))
        deep = PracticeStage("deep", 4, 4, 4, (_tree(3), _chain(3)))
        return cls((stage, deep), architecture, warmup_steps=4)


def _gates(*numbers: int, weight: float = 0.25) -> Lesson:
    return Lesson("gates", numbers, weight, Mixture((0,), copy=0.0, jump=0.0, wrong=0.0))


def _combine(weight: float = 0.25) -> Lesson:
    # The operands are always stated and never what is to be said; E and F are operands only where G is asked.
    result_only = {**dict.fromkeys("ABCD", 0.0), "G": 1000.0}
    mixture = Mixture((2,), copy=0.0, jump=0.0, wrong=0.0, coherent=1.0, step_weights=result_only)
    return Lesson("combine", (1,), weight, mixture)


def _lookup(*pairs: int, weight: float = 0.5) -> Lesson:
    return Lesson("lookup", pairs, weight, Mixture((0, 1, 1, 2), copy=0.3, jump=0.0, wrong=1.0))


def _chain(*hops: int, weight: float = 0.5) -> Lesson:
    # Repeating a message and starting again outweigh the next step: an untrained chain of Nodes gets nowhere.
    return Lesson("chain", hops, weight, Mixture((0, 1, 1, 2), copy=0.35, jump=0.25, wrong=0.4))


def _tree(depth: int, weight: float = 0.5) -> Lesson:
    # The root is stated outright only rarely: a guess pays one time in ten, and a base that guesses never learns more.
    jumps = {"E": 6.0, "F": 6.0, "G": 2.0}
    steps = {"E": 4.0, "F": 4.0, "G": 6.0}
    mixture = Mixture(
        (0, 1, 2, 2, 2, 2), copy=0.1, jump=0.45, wrong=0.2, coherent=0.35, jump_weights=jumps, step_weights=steps
    )
    return Lesson("tree", (depth,), weight, mixture)
