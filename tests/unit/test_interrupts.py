from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from neuromas.cli.interrupts import interruptible


@pytest.fixture(autouse=True)
def heeded() -> Iterator[None]:
    """Heed Ctrl-C and the end of the terminal, which shells and nohup have processes in their background ignore."""
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGHUP: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def _shape() -> None:
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        raise ValueError("could not determine the shape") from None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_interrupts_and_what_was_there_is_back_afterwards(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_an_error_that_a_library_makes_of_an_interrupt_is_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt) as raised, interruptible() as interrupts, interrupts.prevailing():
        _shape()
    assert isinstance(raised.value.__cause__, ValueError)


def test_ctrl_c_after_the_last_word_changes_no_exit_code() -> None:
    lines = (
        "import atexit, os, signal, sys",
        "atexit.register(os.kill, os.getpid(), signal.SIGINT)",
        "sys.argv = ['neuromas']",
        "from neuromas.cli.main import be_the_process",
        "be_the_process()",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage" in done.stdout


def test_an_error_without_an_interrupt_stays_what_it_is() -> None:
    with pytest.raises(ValueError, match="7"), interruptible() as interrupts, interrupts.prevailing():
        raise ValueError(7)
