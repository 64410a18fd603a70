"""From arguments to an exit code: parses, runs one command, and turns errors into one clear line and a code."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from neuromas.cli.command import Command, Options, Parser
from neuromas.cli.interrupts import Interrupts, ignore_interrupts, interruptible
from neuromas.cli.program import make_parser
from neuromas.display.console import Console
from neuromas.engines.noise import quiet_libraries
from neuromas.errors import NeuroMASError, StorageError, refusal

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def be_the_process() -> NoReturn:
    """Run ``neuromas`` and end this process with its code, though Ctrl-C may come after its last word."""
    code = main()
    ignore_interrupts()
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``neuromas`` with the given arguments (None = this process's) and return the exit code."""
    words = sys.argv[1:] if argv is None else argv
    parser = make_parser()
    if not words:
        parser.print_help()
        return OK
    with interruptible() as interrupts:
        return _run(parser, words, interrupts)


def _run(parser: Parser, words: Sequence[str], interrupts: Interrupts) -> int:
    console, verbose = Console(), False
    try:
        arguments = parser.parse_args(words, namespace=Options())
        console, verbose = Console(as_json=arguments.json, verbose=arguments.verbose), arguments.verbose
        _set_up_logging(verbose)
        command: Command = import_module(arguments.module)
        with interrupts.prevailing():
            return command.run(arguments, console)
    except NeuroMASError as error:
        return _report(console, error, verbose)
    except KeyboardInterrupt:
        console.fail("interrupted", "interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except ModuleNotFoundError as error:
        hint = "install NeuroMAS with its extras: pip install 'neuromas[cpu,service]'"
        console.fail("missing_package", f"the package {error.name} is not installed; {hint}")
        return BAD_INPUT
    except Exception as error:  # noqa: BLE001 - the outermost boundary: a crash still ends with a code and a hint
        if verbose:
            traceback.print_exc()
        if (why := refusal(error)) is not None:
            place = error.filename if isinstance(error, OSError) else None
            console.fail(StorageError.code, f"{place or 'the output'}: {why}")
            return FAILED
        hint = "" if verbose else " (run again with -v for the traceback)"
        console.fail("internal", f"{type(error).__name__}: {error}{hint}")
        return FAILED


def _report(console: Console, error: NeuroMASError, verbose: bool) -> int:
    if verbose:
        traceback.print_exc()
    console.fail_with(error)
    # Errors about what was given refine ValueError or OSError; errors of work under way refine RuntimeError.
    return FAILED if isinstance(error, RuntimeError) else BAD_INPUT


def _set_up_logging(verbose: bool) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )
    quiet_libraries()
    if verbose:
        return
    # The process is the command's, so that its warnings are silenced wherever they come from.
    warnings.simplefilter("ignore")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    os.environ.setdefault("TQDM_DISABLE", "1")
