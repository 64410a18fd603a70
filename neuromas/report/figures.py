"""The curves of a report: reward, what each Node does over time, and where the seconds of a step go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from neuromas.journal import lines as journal
from neuromas.journal.folder import METRICS_FILE
from neuromas.report.chart import Mark, Mean, Point, Series, line_chart
from neuromas.report.data import RunData, StageData
from neuromas.report.markup import Markup, element
from neuromas.report.numbers import percent

MAX_NODE_LINES = 16
# Metric prefix, heading, unit and a sentence on how to read it.
NODE_METRICS = (
    ("train/entropy", "Entropy", "nats per token", "falls as a node becomes sure of what to say"),
    ("rollout/length_mean", "Message length", "tokens", "the end-of-sequence token included"),
    ("train/grad_norm", "Gradient norm", "before clipping", "a node whose norm stays near 0 is not learning"),
    ("train/budget_share", "Parts in training", "share", "where the budget of the graph went: to what lowers the loss"),
    ("train/kl", "KL to the base", "nats per token", "how far a node has moved from the frozen model"),
    ("train/clip_fraction", "Clipped tokens", "share", "tokens whose ratio left the clip range"),
)
STEP_PARTS = (
    ("time/rollout_s", "rollouts"),
    ("time/sync_s", "sync"),
)


def reward_figure(data: RunData) -> Markup:
    """Return the reward per step with its moving mean, validation accuracy as dots and the stages as marks."""
    series = [
        *_levels(data),
        Series(
            "reward of each step",
            data.curve("rollout/reward_mean"),
            "faint",
            mean=Mean("moving mean", [stage.offset for stage in data.stages] or [0]),
        ),
        Series("validation accuracy, greedy", _held_out(data, "greedy"), "dots", "var(--greedy)"),
        Series("validation accuracy, sampled", _held_out(data, "sampled"), "rings", "var(--sampled)"),
    ]
    return line_chart(
        series,
        title="Reward",
        note="of each step, and validation accuracy",
        y_range=(0.0, 1.05),
        marks=stage_marks(data),
        height=320,
        form="percent",
        tools=True,
    )


def _levels(data: RunData) -> list[Series]:
    """Return what a guess is worth, and what the final graph answers on the bare base, as level lines."""
    accuracy, last = data.result.get("accuracy", {}), sum(stage.steps for stage in data.stages)
    named = (("untrained", "greedy"), ("untrained_sampled", "sampled"))
    untrained = [
        Series(
            f"untrained, {mode}, {percent(accuracy[key]['value'])}",
            [(0.0, accuracy[key]["value"]), (float(last), accuracy[key]["value"])],
            "level",
            f"var(--{mode})",
        )
        for key, mode in named
        if key in accuracy and last
    ]
    return [Series("chance", data.curve("stage/chance"), "level", "var(--soft)"), *untrained]


def stage_marks(data: RunData) -> list[Mark]:
    """Return a mark at the beginning of each stage; none for a run of one."""
    if len(data.stages) < 2:
        return []
    return [Mark(stage.offset, _stage_label(stage)) for stage in data.stages]


def arms_figure(folder: Path, group: Mapping[str, Any]) -> Markup:
    """Return the moving mean of each arm's reward over the node calls it has spent, a line per seed."""
    trained = [arm for arm in group["arms"] if arm.get("calls") and not arm.get("of")]
    series = [
        Series(
            str(arm["title"]),
            _reward_by_calls(folder / run["folder"]),
            rank=(rank, len(trained)),
            mean=Mean(str(arm["title"]), only=True),
        )
        for rank, arm in enumerate(trained)
        for run in arm["runs"]
    ]
    return line_chart(
        series,
        title="Reward by calls spent",
        note="moving means, a line per seed",
        x_label="thousand node calls",
        y_range=(0.0, 1.05),
        form="percent",
        tools=True,
    )


def _reward_by_calls(folder: Path) -> list[Point]:
    rows = [row for row in journal.read(folder / METRICS_FILE) if "rollout/reward_mean" in row]
    spent = accumulate(float(row.get("rollout/calls", 0)) / 1000 for row in rows)
    return [(calls, float(row["rollout/reward_mean"])) for calls, row in zip(spent, rows, strict=True)]


def node_figures(data: RunData) -> list[Markup]:
    """Return one figure per metric that is measured per node; constant zeros are left out."""
    figures = []
    for prefix, heading, unit, reading in NODE_METRICS:
        curves = data.curves(prefix)
        if not any(value != 0 for points in curves.values() for _, value in points):
            continue
        series = node_series(curves)
        note = f"{unit}; {reading}"
        if len(curves) > MAX_NODE_LINES:
            note += f"; the first {MAX_NODE_LINES} of {len(curves)} nodes"
        figures.append(line_chart(series, title=heading, note=note, marks=_bare(stage_marks(data)), height=220))
    return figures


def node_series(curves: Mapping[str, Sequence[Point]]) -> list[Series]:
    """Return a line per node, each in the node's own colour."""
    shown = list(curves.items())[:MAX_NODE_LINES]
    return [Series(node, points, "thin", rank=(rank, len(curves))) for rank, (node, points) in enumerate(shown)]


def time_figure(data: RunData) -> Markup:
    """Return a bar of where a step's seconds go, by the median step: what is neither waiting nor sync is the update."""
    step_s = _median([value for _, value in data.curve("time/step_s")])
    if step_s <= 0:
        return Markup("")
    parts = [(label, _median([value for _, value in data.curve(name)])) for name, label in STEP_PARTS]
    rest = step_s - sum(seconds for _, seconds in parts)
    parts = [part for part in [*parts, ("update", rest)] if part[1] > 0.005 * step_s]
    bars = (
        element("span", class_=f"part part-{index}", style=f"flex-grow:{1000 * seconds / step_s:.0f}", title=label)
        for index, (label, seconds) in enumerate(parts)
    )
    names = (
        element(
            "li", element("span", class_=f"key part-{index}"), f"{label} {seconds:.2f} s ({percent(seconds / step_s)})"
        )
        for index, (label, seconds) in enumerate(parts)
    )
    caption = element("figcaption", element("strong", f"{step_s:.2f} s"), " a step (median)")
    return element(
        "figure", caption, element("div", bars, class_="parts"), element("ul", names, class_="legend"), class_="time"
    )


def _held_out(data: RunData, mode: str) -> list[Point]:
    points = {}
    for event in data.events_of("evaluated"):
        if event.get("mode") == mode and event.get("examples"):
            points[data.step_of(event)] = float(event["correct"]) / float(event["examples"])
    return sorted(points.items())


def _stage_label(stage: StageData) -> str:
    nodes = 0 if stage.topology is None else len(stage.topology.nodes)
    parts = [f"{nodes} node" + "s" * (nodes != 1)] if nodes else []
    if stage.level is not None:
        parts.append(f"level {stage.level}")
    return ", ".join(parts)


def _bare(marks: Sequence[Mark]) -> list[Mark]:
    return [Mark(mark.x, "") for mark in marks]


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else 0.0
