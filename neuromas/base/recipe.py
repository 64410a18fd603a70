"""How a tiny base is made: its size, and the stages of practice it goes through. Plain data; loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from neuromas.base.curriculum import BranchMixture, Lesson


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
    """Everything that determines the weights, apart from library versions and the processor's instruction set.

    Attributes:
        stages: practice in order; one optimizer goes through all of them.
        architecture: sizes of the model.
        seed: of the initial weights and of the questions.
        learning_rate: peak rate of both optimizers.
        warmup_steps: steps over which the rate rises from 0.
        hold: share of the last stage before the rate starts to fall linearly to 2 % of its peak.
        skill_questions: questions per situation when the finished base is measured.
    """

    stages: tuple[PracticeStage, ...]
    architecture: Architecture = Architecture()
    seed: int = 0
    learning_rate: float = 4e-3
    warmup_steps: int = 50
    hold: float = 0.5
    skill_questions: int = 512

    @property
    def num_steps(self) -> int:
        """Optimizer steps of all stages together, if none ends early."""
        return sum(stage.steps for stage in self.stages)

    @classmethod
    def tiny(cls) -> Recipe:
        """Return the recipe for chains of up to 9 hops and trees of up to 4 layers.

        The shipped base was made by an earlier one, kept in its card: trees of up to 3 layers, half as many questions
        of them. On another processor, which rounds otherwise, that one left gates unlearned; see docs/base.md.
        """
        return cls((*_circuits(), *_whole_questions()))

    @classmethod
    def smoke(cls) -> Recipe:
        """Return a recipe that takes seconds and learns next to nothing; for tests of the machinery."""
        architecture = Architecture(layers=1, mlp=64)
        stage = PracticeStage("circuits", 12, 8, 2, (_gates(1), _combine(0.25), _lookup(2)))
        deep = PracticeStage("deep", 4, 4, 4, (_tree(3, weight=0.5), _chain(3, weight=0.5)))
        return cls((stage, deep), architecture, warmup_steps=4, skill_questions=8)


def _circuits() -> tuple[PracticeStage, ...]:
    """Lookup from few to many symbols, arithmetic on literals, and which name belongs to which value."""
    lookups = tuple(
        PracticeStage(f"lookup {symbols[-1]}", steps, 48, 4, (_lookup(*symbols),), mastery)
        for symbols, steps, mastery in (
            ((2,), 300, 0.88),
            ((3,), 150, 0.86),
            ((4,), 150, 0.86),
            ((5, 6), 150, 0.88),
            ((8,), 150, 0.93),
        )
    )
    names = tuple(
        PracticeStage(
            f"names {hops[-1]}", steps, 32, 6, (_named_chain(*hops, weight=0.8), _gates(1, 2, 4, weight=0.2)), 0.96
        )
        for hops, steps in (((2, 3), 120), ((3, 4, 5), 160), ((5, 6, 7, 8, 9), 300))
    )
    gates = PracticeStage("gates", 250, 96, 2, (_gates(1, weight=0.85), _lookup(8, weight=0.15)), 0.96)
    review = (_gates(1, 2, 4, 8, weight=0.15), _named_chain(5, 7, 9, weight=0.1))
    combine = PracticeStage("combine", 700, 48, 4, (_combine(0.75), *review), 0.95)
    return (*lookups, gates, *names, combine)


def _whole_questions() -> tuple[PracticeStage, ...]:
    """The two tasks themselves: first what single steps need, then the mixture that graphs are to start from."""
    trees = (
        _tree_steps(2, jump=0.0, weight=0.1),
        _tree_steps(3, jump=0.2, weight=0.2),
        _tree_steps(4, jump=0.2, weight=0.5),
    )
    steps = PracticeStage("steps", 900, 24, 8, (_combine(0.2), *trees, _named_chain(5, 7, 9, weight=0.1)))
    # Short rows without messages: two gates at once are far cheaper to learn here than among everything else.
    direct = PracticeStage("direct", 300, 128, 1, (_tree_direct(2, weight=0.8), _gates(4, weight=0.2)), 0.85)
    chain = (_chain(*range(2, 10), weight=0.1), _chain(9, weight=0.1))
    trees = (_tree(4, weight=0.5), _tree(3, weight=0.2), _tree(2, weight=0.1))
    final = PracticeStage("final", 2000, 24, 8, (*trees, *chain))
    return (steps, direct, final)


def _gates(*numbers: int, weight: float = 0.25) -> Lesson:
    return Lesson("gates", numbers, weight, BranchMixture((0,), copy=0.0, jump=0.0, wrong=0.0))


def _combine(weight: float) -> Lesson:
    # The operands are always stated and never what is to be said: of two names, the one that is nearer to the root.
    result_only = {**dict.fromkeys("ABCDHIJK", 0.0), **dict.fromkeys("GN", 1e3), "O": 1e6}
    mixture = BranchMixture((2,), copy=0.0, jump=0.0, wrong=0.0, coherent=1.0, step_weights=result_only)
    return Lesson("combine", (1,), weight, mixture)


def _lookup(*symbols: int, weight: float = 0.5) -> Lesson:
    return Lesson("lookup", symbols, weight, BranchMixture((0, 1, 1), copy=0.0, jump=0.0, wrong=1.0))


def _named_chain(*hops: int, weight: float = 0.25) -> Lesson:
    # Repeating a fact and stepping on from it differ only by the name that has been written.
    mixture = BranchMixture((0, 1, 1, 2), copy=0.35, jump=0.0, wrong=0.6, step_weights={"A": 0.5})
    return Lesson("chain", hops, weight, mixture)


def _chain(*hops: int, weight: float) -> Lesson:
    # Repeating a message and starting again outweigh the next step: an untrained chain of Nodes gets nowhere.
    return Lesson("chain", hops, weight, BranchMixture((0, 1, 1, 2), copy=0.35, jump=0.25, wrong=0.4))


_TREE_JUMPS = {**dict.fromkeys("EFLM", 6.0), **dict.fromkeys("GN", 2.0), "O": 1.0}
_TREE_STEPS = {**dict.fromkeys("EFLM", 4.0), **dict.fromkeys("GNO", 6.0)}


def _tree_steps(depth: int, jump: float, weight: float) -> Lesson:
    mixture = BranchMixture(
        (0, 2, 2, 2), 0.1, jump, 0.4, coherent=0.7, jump_weights=_TREE_JUMPS, step_weights=_TREE_STEPS
    )
    return Lesson("tree", (depth,), weight, mixture)


def _tree_direct(depth: int, weight: float) -> Lesson:
    return Lesson(
        "tree", (depth,), weight, BranchMixture((0,), copy=0.0, jump=1.0, wrong=0.0, jump_weights=_TREE_JUMPS)
    )


def _tree(depth: int, weight: float) -> Lesson:
    # The root is stated outright only rarely: a guess pays one time in ten, and a base that guesses never learns more.
    messages = (0, 1, 2, 2, 2, 2)
    mixture = BranchMixture(messages, 0.1, 0.45, 0.2, coherent=0.35, jump_weights=_TREE_JUMPS, step_weights=_TREE_STEPS)
    return Lesson("tree", (depth,), weight, mixture)
