"""What is left of the garbage collector after libraries were imported."""

import gc
import sys
from collections.abc import Iterator

import pytest

from neuromas.loading import loading_libraries


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.enable()
    gc.unfreeze()


def test_what_libraries_leave_is_not_looked_through_again(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.unfreeze()
    monkeypatch.delitem(sys.modules, "this", raising=False)
    with loading_libraries():
        assert not gc.isenabled()
        import this  # noqa: F401 - any module that nothing else has imported
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


def test_a_call_that_imports_nothing_leaves_the_garbage_of_others_to_be_found() -> None:
    gc.unfreeze()
    with pytest.raises(KeyError), loading_libraries():
        raise KeyError
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_a_collector_that_the_user_turned_off_stays_off() -> None:
    gc.disable()
    with loading_libraries():
        pass
    assert not gc.isenabled()
