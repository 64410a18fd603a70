"""What the workers of a parallel test run get: see distribution.py."""

from __future__ import annotations

from distribution import ROOT, TOGETHER, next_scope, starts_cluster

SERVICE, REDIS, RUNTIME, LIGHT, LAST = (
    "tests/integration/service",
    "tests/integration/test_service_redis.py",
    "tests/contract/test_runtime.py",
    "tests/unit/test_stops.py",
    "tests/unit/test_verify.py",
)


def test_files_that_start_a_cluster_are_known_by_their_marks() -> None:
    assert [starts_cluster(scope) for scope in (SERVICE, REDIS, RUNTIME)] == [True, True, True]
    assert [starts_cluster(scope) for scope in (LIGHT, LAST)] == [False, False]
    assert all(list((ROOT / folder).glob("test_*.py")) for folder in TOGETHER)


def test_one_cluster_too_many_waits_while_there_is_something_lighter() -> None:
    waiting = [RUNTIME, LIGHT, LAST]
    assert next_scope(waiting, [SERVICE], 2) == RUNTIME
    assert next_scope(waiting, [SERVICE, LIGHT], 2) == RUNTIME
    assert next_scope(waiting, [SERVICE, REDIS], 3) == RUNTIME
    assert next_scope(waiting, [SERVICE, REDIS], 2) == LIGHT
    assert next_scope([RUNTIME], [SERVICE, REDIS], 2) == RUNTIME
