"""Connections whose request does not arrive in time are closed; those that work, wait or stream are not."""

from __future__ import annotations

from dataclasses import dataclass, field

from neuromas.serving.http_server import BODY_S, HEADERS_S, LateConnections


@dataclass
class Cycle:
    response_complete: bool = False
    more_body: bool = False


@dataclass
class Transport:
    is_closed: bool = False

    def close(self) -> None:
        self.is_closed = True


@dataclass(eq=False)
class Connection:
    """A connection as uvicorn's protocols have it."""

    cycle: Cycle | None = None
    transport: Transport = field(default_factory=Transport)
    num_body_bytes: int = 0


def closed_after(connection: Connection, *times: float) -> bool:
    late = LateConnections()
    for now_s in times:
        late.close({connection}, now_s)
    return connection.transport.is_closed


def test_headers_have_ten_seconds_and_bodies_thirty() -> None:
    assert (HEADERS_S, BODY_S) == (10, 30)
    for cycle, limit_s in ((None, 10), (Cycle(response_complete=True), 10), (Cycle(more_body=True), 30)):
        assert not closed_after(Connection(cycle), 100, 100 + limit_s)
        assert closed_after(Connection(cycle), 100, 100 + limit_s + 1)


def test_a_body_that_keeps_coming_has_thirty_seconds_for_every_mebibyte() -> None:
    late, connection = LateConnections(), Connection(Cycle(more_body=True))
    for now_s, come in ((0, 0), (29, 2**20), (58, 2**21), (88, 2**21 + 2**20 - 1)):
        connection.num_body_bytes = come
        late.close({connection}, now_s)
        assert not connection.transport.is_closed, now_s
    late.close({connection}, 89)
    assert connection.transport.is_closed


def test_an_answer_may_take_as_long_as_it_wants() -> None:
    assert not closed_after(Connection(Cycle()), 0, 10_000)


def test_every_request_of_a_connection_has_its_own_time() -> None:
    late, connection = LateConnections(), Connection(Cycle(response_complete=True))
    late.close({connection}, 0)
    connection.cycle = Cycle()
    late.close({connection}, 9)
    connection.cycle = Cycle(response_complete=True)
    late.close({connection}, 18)
    late.close({connection}, 27)
    assert not connection.transport.is_closed
    late.close({connection}, 29)
    assert connection.transport.is_closed
