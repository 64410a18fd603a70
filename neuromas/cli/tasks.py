"""``neuromas tasks``: the families of tasks, and questions of one with what scores 1 and what does not."""

from __future__ import annotations

from typing import Any, Literal

from neuromas.cli.command import Options, Parser
from neuromas.display.console import Console
from neuromas.errors import SpecError, TaskError
from neuromas.schema.suggest import suggest
from neuromas.spec.overrides import apply_overrides
from neuromas.tasks.base import Example, Task
from neuromas.tasks.judge import judge
from neuromas.tasks.registry import FAMILIES, family, installed, make_task, task_spec

EXAMPLES = """tasks list
tasks show chain --examples 3 --level 2
tasks show file --set train=train.jsonl --set test=test.jsonl --set verifier=number"""


class Arguments(Options):
    """What to show."""

    verb: Literal["list", "show"]
    name: str | None
    examples: int
    level: int | None
    set: list[str]


def add(parser: Parser) -> None:
    """Add the arguments."""
    parser.add_argument("verb", choices=("list", "show"), help="list the families, or show questions of one")
    parser.add_argument("name", metavar="NAME", nargs="?", help="a family; what a run spec has as task.type")
    parser.add_argument("--examples", metavar="N", type=int, default=3, help="how many questions (default: 3)")
    parser.add_argument("--level", metavar="L", type=int, help="task level (default: the task's target)")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="a setting of the task; may be repeated"
    )


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    names = [*FAMILIES, *installed()]
    if arguments.verb == "list":
        about = {name: _about(name) for name in names}
        console.show("\n".join(f"{name:<16}{text}" for name, text in about.items()), {"tasks": about})
        return 0
    if arguments.name is None:
        raise SpecError(f"which family? NAME is one of {', '.join(names)}: neuromas tasks show chain")
    if arguments.name not in names:
        raise SpecError(f"got the task {arguments.name!r}; {suggest(arguments.name, names)}")
    spec = task_spec(apply_overrides({"type": arguments.name}, arguments.set))
    task = make_task(spec, 0)
    shown = [_shown(task, task.example("train", index, arguments.level)) for index in range(arguments.examples)]
    document = {"task": spec.describe(), "levels": list(task.levels), "examples": shown}
    console.show(_text(document), document)
    return 0


def _about(name: str) -> str:
    found = family(name)
    return " ".join((found.__doc__ or "").split()).split(". ")[0].replace("``", "") if found is not None else ""


def _shown(task: Task, example: Example) -> dict[str, Any]:
    return {
        "question": example.prompt,
        "answer": example.answer,
        "level": example.level,
        "scores": {text: _score(task, example, text) for text in (example.answer, f"So: {example.answer}.", "", "zzz")},
    }


def _score(task: Task, example: Example, text: str) -> float | str:
    try:
        return judge(task, example, text).reward
    except TaskError as error:
        return str(error)


def _text(document: dict[str, Any]) -> str:
    levels = document["levels"]
    lines = [f"{document['task']}; {f'levels {levels[0]} to {levels[-1]}' if levels else 'without levels'}"]
    for example in document["examples"]:
        lines += ["", f"question: {example['question']}", f"answer:   {example['answer']}"]
        lines += [f"  {score!s:<5} for {text!r}" for text, score in example["scores"].items()]
    return "\n".join(lines)
