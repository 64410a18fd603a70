"""``neuromas runs``: runs of a server."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from neuromas.adapters.export import CONFIG, WEIGHTS
from neuromas.cli.command import Parser, add_verb, add_verbs
from neuromas.cli.options import ServerOptions, add_import, add_limit, add_run_id, add_server, add_set
from neuromas.cli.remote import Document, Remote
from neuromas.cli.watch import follow
from neuromas.display.console import Console
from neuromas.display.status import StatusLine
from neuromas.errors import AdapterError, Fault, SpecError
from neuromas.report.numbers import REWARD_STEPS, percent
from neuromas.run.imports import peft_folders
from neuromas.spec.load import load_document
from neuromas.spec.overrides import apply_overrides
from neuromas.topology.document import topology_from_document
from neuromas.topology.draw import draw_text

_STATES: Final = ("queued", "running", "paused", "succeeded", "failed", "cancelled")
_MOVES: Final = {
    "show": "show a run",
    "watch": "follow a run with a live display",
    "cancel": "end a run",
    "pause": "have a run write a checkpoint and free its place",
    "resume": "have a paused run go on from its checkpoint",
}
_SHOWN: Final = ("train/loss", "time/step_s")

EXAMPLES = """runs submit examples/quickstart.toml --watch
runs list --state running
runs tag RUN baseline seed-1
runs import run.toml exported/adapters --watch
runs grow RUN --append 2 --set task.hops=7 --steps 40"""


class Arguments(ServerOptions):
    """What the command reads."""

    verb: str
    path: Path
    set: list[str]
    state: str | None
    plan_file: Path | None
    append: int | None
    checkpoint: str
    name: str | None
    steps: int | None
    level: int | None
    check: bool
    watch: bool
    folder: Path
    max_error: float
    train: bool
    tag: list[str]
    tags: list[str]
    only: str | None
    yes: bool


def add(parser: Parser) -> None:
    """Add the arguments."""
    verbs = add_verbs(parser)
    submit = add_verb(verbs, "submit", "queue a run spec")
    submit.add_argument("path", metavar="SPEC", type=Path, help="run spec (.toml or .json)")
    add_set(submit)
    submit.add_argument("--watch", action="store_true", help="follow the run until it ends")
    _add_tag(submit)
    brought = add_verb(verbs, "import", "queue a run whose nodes begin with PEFT adapters of this machine")
    _add_import(brought)
    listed = add_verb(verbs, "list", "list runs, newest first")
    listed.add_argument("--state", choices=_STATES, help="only runs in this state")
    listed.add_argument("--tag", dest="only", metavar="TAG", help="only runs that have this tag")
    add_limit(listed)
    moves = [add_verb(verbs, name, summary) for name, summary in _MOVES.items()]
    grow = add_verb(verbs, "grow", "make a new, larger run from a checkpoint of a run")
    tag = add_verb(verbs, "tag", "give a run other tags")
    delete = add_verb(verbs, "delete", "delete a run that has ended, with its checkpoints and files")
    for each in (*moves, grow, tag, delete):
        add_run_id(each)
    tag.add_argument("tags", metavar="TAG", nargs="*", help="take the place of those that it has; none = no tags")
    delete.add_argument("--yes", action="store_true", help="do not ask")
    _add_growth(grow)
    for each in (submit, brought, listed, *moves, grow, tag, delete):
        add_server(each)


def _add_tag(parser: Parser) -> None:
    parser.add_argument(
        "--tag", metavar="TAG", action="append", default=[], help="a word to find the run by; may be repeated"
    )


def _add_import(brought: Parser) -> None:
    add_import(brought)
    brought.add_argument("--train", action="store_true", help="train on from them (else the run ends as they are)")
    brought.add_argument("--watch", action="store_true", help="follow the run until it ends")
    _add_tag(brought)


def _add_growth(grow: Parser) -> None:
    _add_tag(grow)
    how = grow.add_mutually_exclusive_group(required=True)
    how.add_argument(
        "--plan", dest="plan_file", metavar="FILE", type=Path, help="growth plan (.toml or .json): edits and inherit"
    )
    how.add_argument("--append", metavar="N", type=int, help="append N nodes in series after the output")
    grow.add_argument("--checkpoint", default="latest", help='"latest" (default), "best", or a checkpoint\'s id')
    grow.add_argument("--name", help="of the new run (default: the parent's with -grown)")
    grow.add_argument("--steps", metavar="N", type=int, help="optimizer steps (default: the parent's)")
    grow.add_argument("--level", metavar="L", type=int, help="task level (default: the task's target)")
    add_set(grow)
    until = grow.add_mutually_exclusive_group()
    until.add_argument("--check", action="store_true", help="show what the graph would become; start nothing")
    until.add_argument("--watch", action="store_true", help="follow the run until it ends")


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    with Remote(arguments.server) as remote:
        match arguments.verb:
            case "submit":
                document = apply_overrides(load_document(arguments.path), arguments.set)
                return _begun(remote, remote.post("/v1/runs", document, tag=arguments.tag), arguments, console)
            case "import":
                return _begun(remote, _imported(remote, arguments, console), arguments, console)
            case "grow" if arguments.check:
                report = remote.post(f"/v1/runs/{arguments.id}/grow:validate", _growth(arguments))
                console.show(_becomes(report), report)
            case "grow":
                grown = remote.post(f"/v1/runs/{arguments.id}/grow", _growth(arguments), tag=arguments.tag)
                return _begun(remote, grown, arguments, console)
            case "list":
                page = remote.get("/v1/runs", state=arguments.state, tag=arguments.only, limit=arguments.limit)
                console.show("\n".join(map(_line, page["data"])) or "there are no runs", page)
            case "watch":
                return follow(remote, arguments.id, console)
            case "show":
                found = remote.get(f"/v1/runs/{arguments.id}")
                console.show(_text(found), found)
            case "tag":
                tagged = remote.patch(f"/v1/runs/{arguments.id}", {"tags": arguments.tags})
                console.show(_line(tagged), tagged)
            case "delete":
                return _delete(remote, arguments, console)
            case verb:
                moved = remote.post(f"/v1/runs/{arguments.id}/{verb}")
                console.show(f"{moved['id']} is {moved['state']}, wanted: {moved['wanted']}", moved)
    return 0


def _delete(remote: Remote, arguments: Arguments, console: Console) -> int:
    path = f"/v1/runs/{arguments.id}"
    if not arguments.yes:
        found = remote.get(path)
        question = f"delete run {found['id']} ({found['name']}, {found['state']}) with its checkpoints and files?"
        if not console.confirms(question):
            console.say("nothing was deleted")
            return 1
    deleted = remote.delete(path)
    console.show(f"{deleted['id']} is deleted", deleted)
    return 0


def _begun(remote: Remote, run: Document, arguments: Arguments, console: Console) -> int:
    if arguments.watch:
        console.say(f"{run['id']} ({run['name']}) is {run['state']} on {remote.address}")
        return follow(remote, run["id"], console)
    console.show(f"{run['id']} ({run['name']}) is {run['state']}; follow it: neuromas watch {run['id']}", run)
    return 0


def _imported(remote: Remote, arguments: Arguments, console: Console) -> Document:
    """Send the adapters of a folder, each under the run's name and its own, and queue the run."""
    spec = apply_overrides(load_document(arguments.path), arguments.set)
    folders = peft_folders(arguments.folder)
    if missing := [folder for folder in folders.values() if not (folder / WEIGHTS).is_file()]:
        raise AdapterError(f"{missing[0]} has no {WEIGHTS}: weights are read from safetensors alone")
    adapters = {}
    with StatusLine(console) as status:
        for adapter, folder in folders.items():
            adapters[adapter] = name = f"{spec.get('name', 'run')}.{adapter}"
            status.phase(f"sending adapter {name}")
            for file in (CONFIG, WEIGHTS):
                remote.put(f"/v1/adapters/{name}/{file}", folder / file)
    body = {"spec": spec, "adapters": adapters, "max_error": arguments.max_error, "train": arguments.train}
    return remote.post("/v1/runs:import", body, tag=arguments.tag)


def _growth(arguments: Arguments) -> Document:
    if arguments.plan_file is not None:
        plan = load_document(arguments.plan_file)
    else:
        count = arguments.append or 0
        if count < 1:
            raise SpecError("the growth is not valid", [Fault("--append", f"got {count}; allowed is at least 1")])
        plan = {"edits": [{"edit": "append", "layers": [1] * count}]}
    body: Document = {"plan": plan, "checkpoint": arguments.checkpoint}
    body |= {key: value for key in ("name", "level") if (value := getattr(arguments, key)) is not None}
    steps = [] if arguments.steps is None else [f"training.steps={arguments.steps}"]
    body["spec"] = apply_overrides({}, [*steps, *arguments.set])
    return body


def _becomes(report: Document) -> str:
    new = ", ".join(report["new"]) or "none"
    drawing = draw_text(topology_from_document(report["document"]))
    return f"{drawing}\n{report['nodes']} nodes, {len(report['new'])} of them new: {new}\nnothing was started"


def _line(run: Document) -> str:
    progress = run["progress"] or {}
    stage = f"{progress['stage_name']} {progress['step']}/{progress['steps']}" if progress else ""
    reward = "" if run["reward"] is None else f"reward, last {REWARD_STEPS} steps {run['reward']:.3f}"
    accuracy = "" if run["accuracy"] is None else f"accuracy {percent(run['accuracy'])}"
    age = _age(time.time() - run["created"])
    tags = "  ".join([*filter(None, (reward, accuracy)), *(f"#{tag}" for tag in run["tags"])])
    return f"{run['id']}  {run['state']:<10}{age:>6}  {run['name']:<23} {stage:<19} {tags}".rstrip()


def _age(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def _text(run: Document) -> str:
    lines = [_line(run)]
    if run["parent"]:
        lines.append(f"  grown from  {run['parent']['run']} ({run['parent']['checkpoint']})")
    if run["wanted"] != "run":
        lines.append(f"  wanted      {run['wanted']}")
    if run["error"]:
        lines.append(f"  error       {run['error']['code']}: {run['error']['message']}")
    latest = run["latest"] or {}
    lines += [f"  {name:<22}{latest[name]:.4g}" for name in _SHOWN if latest.get(name) is not None]
    if run["verdict"]:
        lines.append(f"  {run['verdict']}")
    return "\n".join(lines)
