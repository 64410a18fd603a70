"""Log lines are JSON objects that say which request and run they belong to."""

from __future__ import annotations

import json
import logging

from neuromas.services.logs import JsonFormatter, TextFormatter, about_run, request_id


def record(message: str, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("neuromas.services.api", logging.INFO, "file", 1, message, (), None)
    vars(made).update(extra)
    return made


def test_a_line_is_one_object_with_its_fields_and_ids() -> None:
    token = request_id.set("req_1")
    try:
        with about_run("run_1"):
            line = JsonFormatter().format(record("request", status=200, path="/a\n/b"))
    finally:
        request_id.reset(token)
    found = json.loads(line)
    assert "\n" not in line
    assert found["message"] == "request"
    assert (found["request_id"], found["run_id"], found["status"], found["path"]) == ("req_1", "run_1", 200, "/a\n/b")


def test_outside_of_requests_and_runs_there_are_no_ids() -> None:
    assert {"request_id", "run_id"}.isdisjoint(json.loads(JsonFormatter().format(record("start"))))


def test_what_a_client_sent_cannot_begin_a_line_of_its_own() -> None:
    assert "\n" not in TextFormatter().format(record("request", path="/a\nINFO forged"))


def test_an_exception_is_part_of_the_object() -> None:
    try:
        raise ValueError("broken")
    except ValueError as error:
        made = logging.LogRecord("x", logging.ERROR, "f", 1, "crashed", (), (ValueError, error, error.__traceback__))
    assert "ValueError: broken" in json.loads(JsonFormatter().format(made))["exception"]
