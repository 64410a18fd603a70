"""``neuromas base``: lists, gets, imports and shows base models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neuromas.base.chat_template import read_chat_template
from neuromas.base.data_home import bases_home
from neuromas.base.end_tokens import special_tokens
from neuromas.base.linears import count_parameters, linear_names
from neuromas.base.model_wheel import get_model
from neuromas.base.package import PACKAGES
from neuromas.base.resolve import TINY, BaseInfo, check_vllm_cpu, read_base, resolve_base
from neuromas.cli.command import Options, Parser, add_verb, add_verbs
from neuromas.display.console import Console
from neuromas.display.status import StatusLine
from neuromas.errors import BaseModelError
from neuromas.topology.graph import NAME, NAME_RULE

EXAMPLES = """base list
base get smollm2-135m
base import Model.Q4_1.gguf --name my-model
base show smollm2-135m"""
_BLOCK_SIZE = 32
_SWITCHES = ("enable_thinking", "thinking")
"""Variables by which chat templates leave reasoning out."""
_QUESTION, _ANSWER = "2 + 3", "5"


class Arguments(Options):
    """What the command reads."""

    verb: str
    name: str | None
    base: str
    file: Path


def add(parser: Parser) -> None:
    """Add the arguments."""
    verbs = add_verbs(parser)
    add_verb(verbs, "list", "list the bases that specs can name, and those that can be got")
    get = add_verb(verbs, "get", "download and import a known model from the Python package index")
    get.add_argument("base", metavar="NAME", choices=tuple(PACKAGES), help=f"one of {', '.join(PACKAGES)}")
    imported = add_verb(verbs, "import", "import a GGUF file as a base")
    imported.add_argument("file", metavar="FILE", type=Path, help="a model in GGUF")
    imported.add_argument("--name", metavar="NAME", help="name for specs (default: the file's name)")
    show = add_verb(verbs, "show", "show what training needs to know of a base")
    show.add_argument("base", metavar="BASE", help="what a spec may give as base")


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    if arguments.verb == "list":
        _list(console)
    elif arguments.verb == "get":
        folder = bases_home() / arguments.base
        if not folder.is_dir():
            console.say(f"{arguments.base}: {PACKAGES[arguments.base].about}")
            with StatusLine(console) as status:
                status.phase(f"getting {arguments.base}")
                get_model(arguments.base, folder)
        _show(arguments.base, console)
    elif arguments.verb == "import":
        _show(_import(arguments), console)
    else:
        _show(arguments.base, console)
    return 0


def _list(console: Console) -> None:
    home = bases_home()
    imported = sorted(entry.name for entry in home.iterdir() if entry.name[0] != ".") if home.is_dir() else []
    lines = [f"{TINY:<24}shipped with NeuroMAS", *(f"{name:<23} {home / name}" for name in imported)]
    missing = {name: package.about for name, package in PACKAGES.items() if name not in imported}
    lines += [f"{name:<23} not here yet: neuromas base get {name} ({about})" for name, about in missing.items()]
    console.show("\n".join(lines), {"bases": [TINY, *imported], "folder": str(home), "available": missing})


def _import(arguments: Arguments) -> str:
    from neuromas.base.gguf_file import import_gguf

    name = arguments.name or arguments.file.stem.lower()
    if not NAME.fullmatch(name) or name == TINY:
        raise BaseModelError(f"got the name {name!r}; {NAME_RULE}, and not {TINY!r}; give another with --name")
    if not arguments.file.is_file():
        raise BaseModelError(f"{arguments.file} is no file")
    import_gguf(arguments.file, bases_home() / name)
    return name


def _show(name: str, console: Console) -> None:
    facts = base_facts(name)
    lines = [f"{label + ':':<24}{facts[key]}" for key, label in _LABELS.items()]
    for which, prompt in facts["prompts"].items():
        lines += ["", f"what the {which} node of a chain of 2 reads:", *(f"  | {line}" for line in prompt.split("\n"))]
    console.show("\n".join(lines), facts)


_LABELS = {
    "folder": "folder",
    "architecture": "architecture",
    "parameters": "parameters",
    "vocabulary": "vocabulary",
    "positions": "positions",
    "head_size": "head size",
    "linear_layers": "linear layers",
    "end_tokens": "end tokens",
    "renderer": "prompts",
    "thinking": "thinking",
    "vllm_cpu": "vLLM on CPU",
}


def base_facts(name: str) -> dict[str, Any]:
    """Return what training needs to know of a base, as ``show`` prints it.

    Raises:
        BaseModelError: there is no such base, or it cannot be used.
    """
    from neuromas.rollout.prompt import renderer_name
    from neuromas.spec.parts import PromptSpec

    folder = resolve_base(name)
    info = read_base(folder)
    texts = {token_id: text for text, token_id in special_tokens(folder).items()}
    return {
        "folder": str(folder),
        "architecture": info.architecture,
        "parameters": f"{count_parameters(folder):,}",
        "vocabulary": f"{info.vocab_size:,}",
        "positions": "not said" if info.max_positions is None else f"{info.max_positions:,}",
        "head_size": info.head_dim,
        "linear_layers": " ".join(linear_names(folder)),
        "end_tokens": ", ".join(f"{token_id} {texts.get(token_id, '')}".strip() for token_id in info.stop_token_ids),
        "renderer": renderer_name(PromptSpec(), folder),
        "thinking": _thinking(folder),
        "vllm_cpu": _vllm_cpu(info),
        "prompts": _prompts(folder),
    }


def _thinking(folder: Path) -> str:
    template = read_chat_template(folder)
    switch = next((name for name in _SWITCHES if template is not None and name in template.variables), None)
    return "no switch" if switch is None else f"off with prompt.template_kwargs = {{{switch} = false}}"


def _vllm_cpu(info: BaseInfo) -> str:
    try:
        check_vllm_cpu(info, _BLOCK_SIZE)
    except BaseModelError as error:
        return f"no: {error}"
    return "yes"


def _prompts(folder: Path) -> dict[str, str]:
    """Return what the first and the last node of a chain read of one question, control tokens as they are spelled."""
    from neuromas.rollout.prompt import make_renderer
    from neuromas.rollout.token_text import load_tokenizer
    from neuromas.spec.parts import PromptSpec
    from neuromas.tasks.base import Example
    from neuromas.topology.builders import chain

    graph, question = chain(2), Example("x", _QUESTION, _ANSWER)
    renderer, tokenizer = make_renderer(PromptSpec(), folder), load_tokenizer(folder)
    first = renderer.render(graph, "n1", question, [], 8)
    last = renderer.render(graph, "n2", question, [("n1", _ANSWER)], 8)
    return {
        which: tokenizer.decode(ids, skip_special_tokens=False) for which, ids in (("first", first), ("last", last))
    }
