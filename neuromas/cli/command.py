"""What a command is and how its words are parsed: each module owns its arguments. Loads nothing but argparse."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeAlias

if TYPE_CHECKING:
    from neuromas.display.console import Console

Verbs: TypeAlias = "argparse._SubParsersAction[Parser]"


class Options(argparse.Namespace):
    """Options that every command has; a command's own class names what it reads besides."""

    module: str
    json: bool
    verbose: bool


class Command(Protocol):
    """A module of a command."""

    EXAMPLES: str
    """One per line, without the program's name."""

    def add(self, parser: Parser) -> None:
        """Add its arguments."""

    def run(self, arguments: Any, console: Console) -> int:
        """Run it, with arguments of its own class, and return the exit code."""


class Parser(argparse.ArgumentParser):
    """Parser that says what a mistyped word may have meant, and takes no beginning of an option for the whole."""

    def __init__(self, **settings: Any) -> None:
        self._given: Sequence[str] = ()
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Exit with 2 after the usage and one line, which names the word that was mistyped where there is one."""
        unknown = [word for word in self._given if word.startswith("--") and word not in self._options()]
        if found := re.match(r"(?s)(.*invalid choice: '(.*?)') \(choose from (.*)\)", message):
            meant = _suggestion(found[2], re.findall(r"'(.*?)'", found[3]))
            message = found[1] + meant if meant else message
        elif "required" in message and (meant := next(filter(None, map(self._meant, unknown)), "")):
            message = meant
        self.print_usage(sys.stderr)
        text = f"{self.prog}: error: {message}"
        if sys.stderr.isatty():
            from neuromas.display.console import wrapped

            text = wrapped(text, get_terminal_size().columns)
        self.exit(2, f"{text}\n")

    def _meant(self, word: str) -> str:
        meant = _suggestion(word, self._options())
        return meant and f"unrecognized arguments: {word}{meant}"

    def _options(self) -> list[str]:
        return [name for name in self._option_string_actions if name.startswith("--")]

    def refuse_unknown(self, words: Sequence[str]) -> None:
        """Exit where words are left that nobody asked for."""
        if words:
            self.error(f"unrecognized arguments: {' '.join(words)}{_suggestion(words[0], self._options())}")


class CommandParser(Parser):
    """Parser of one command, whose module is loaded when it is the command that is meant."""

    def __init__(self, *, module: str = "", **settings: Any) -> None:
        self._module = module
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **settings)
        self.set_defaults(module=module)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse what follows the command's name; a command of several verbs that is given none prints its help."""
        command: Command = import_module(self._module)
        self.epilog = "examples:\n" + "\n".join(f"  neuromas {line}" for line in command.EXAMPLES.splitlines())
        command.add(self)
        if self._subparsers is None:
            add_output(self)
        elif not args:
            self.print_help()
            self.exit()
        self._given = args or ()
        found, rest = super().parse_known_args(args, namespace)
        self.refuse_unknown(rest)
        return found, rest


class VerbParser(Parser):
    """Parser of one verb of a command."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse what follows the verb."""
        self._given = args or ()
        found, rest = super().parse_known_args(args, namespace)
        self.refuse_unknown(rest)
        return found, rest


def add_verbs(parser: Parser) -> Verbs:
    """Make a command one of several verbs; the chosen one is ``verb``."""
    return parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=VerbParser)


def add_verb(verbs: Verbs, name: str, summary: str) -> Parser:
    """Add a verb and return its parser."""
    parser: Parser = verbs.add_parser(name, help=summary, description=sentence(summary))
    add_output(parser)
    return parser


def add_output(parser: Parser) -> None:
    """Add the options that every command has."""
    parser.add_argument("--json", action="store_true", help="write the result as one JSON document to stdout")
    parser.add_argument("-v", "--verbose", action="store_true", help="show details, tracebacks and library warnings")


def sentence(summary: str) -> str:
    """Return a summary as a sentence."""
    return summary[0].upper() + summary[1:] + "."


def _suggestion(word: str, choices: Sequence[str]) -> str:
    close = get_close_matches(word, choices, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
