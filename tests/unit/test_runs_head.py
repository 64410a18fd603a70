"""The ports of an embedded service: known before anybody listens there, so nobody else may come to have them."""

from __future__ import annotations

import socket

import pytest

from neuromas.services.runs.head import LOOPBACK, free_port


def test_a_free_port_is_none_that_the_system_or_ray_gives_to_who_takes_any() -> None:
    # ip(7): ip_local_port_range is 32768 to 60999; Ray's workers have 10002 to 19999.
    assert all(20_000 <= free_port() < 32_768 for _ in range(50))


def test_a_port_that_is_taken_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        taken, other = listener.getsockname()[1], free_port()
        tries = iter((taken, other))
        monkeypatch.setattr("secrets.randbelow", lambda number: next(tries) - 20_000)
        assert free_port() == other
