"""What OpenAI's own client asks beside a plain chat: older completions, responses, samples, log probabilities.

The engine is the scripted one of ``served_graph``, so every answer and every log probability is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import openai
import pytest
from served_graph import LOGPROBS, STEPS, WAIT_S, World, body, world
from waiting import until

from neuromas.rollout.prompt import make_renderer
from neuromas.rollout.renderer import Renderer
from neuromas.serving import graph_server
from neuromas.serving.load import ServerLimits
from neuromas.spec.parts import PromptSpec

ANSWER = "0 so 1 2 3"
TOKENS = ["0", " so", " 1", " 2", " 3"]
ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/responses")


@pytest.fixture(scope="module")
def renderer(word_base: Path) -> Renderer:
    return make_renderer(PromptSpec(), word_base)


@pytest.fixture(scope="module")
def shared(renderer: Renderer) -> Iterator[World]:
    with world(renderer) as made:
        yield made


@pytest.fixture(scope="module")
def client(shared: World) -> openai.OpenAI:
    return stock(shared)


def stock(made: World) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{made.url}/v1", api_key="none", max_retries=0, timeout=WAIT_S)


def asked(path: str, **more: Any) -> dict[str, Any]:
    """Return the least body of a route."""
    question = {"messages": [{"role": "user", "content": "find"}], "prompt": "find", "input": "find"}
    key = dict(zip(ROUTES, question, strict=True))[path]
    return {"model": "g", key: question[key], **more}


def last_prompt(shared: World) -> tuple[int, ...]:
    """Return what the first node of the last question read."""
    return next(call for _, call in reversed(shared.engine.history) if call.id.endswith("n1")).prompt_token_ids


def test_a_completion_answers_a_text(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="g", prompt="find", max_tokens=3, temperature=0, echo=False, best_of=1)
    assert (answer.object, answer.choices[0].text, answer.choices[0].finish_reason) == (
        "text_completion",
        "0 so 1",
        "length",
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 9


def test_a_completion_streams_and_tells_its_usage_last(client: openai.OpenAI) -> None:
    chunks = list(
        client.completions.create(model="g", prompt="find", stream=True, stream_options={"include_usage": True})
    )
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == ANSWER
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 2) + ["stop"]
    assert chunks[-1].usage == client.completions.create(model="g", prompt="find").usage


def test_several_prompts_are_answered_in_their_order(client: openai.OpenAI, shared: World) -> None:
    before = shared.server.load.answered
    answer = client.completions.create(model="g", prompt=["find", "so"], n=2, temperature=1, seed=5, logprobs=0)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert [choice.model_extra["neuromas"]["seed"] for choice in answer.choices if choice.model_extra] == [5, 6, 7, 8]
    assert shared.server.load.answered == before + 4


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1], [2]]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a"] * 9, "n": 2}, "n"),
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"best_of": 2}, "best_of"),
        ({"suffix": "end"}, "suffix"),
        ({"echo": True}, "echo"),
        ({"messages": []}, "messages"),
    ],
)
def test_a_completion_refuses_by_name_what_it_cannot_do(shared: World, more: dict[str, Any], param: str) -> None:
    answer = httpx.post(f"{shared.url}/v1/completions", json=asked("/v1/completions") | more, timeout=WAIT_S)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_a_response_answers_a_text(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="g", input="find", temperature=0, metadata={"a": "b"}, store=False)
    assert (answer.object, answer.status, answer.output_text, answer.error) == ("response", "completed", ANSWER, None)
    assert answer.metadata == {"a": "b"}
    usage, chat = answer.usage, client.chat.completions.create(**body()).usage
    assert usage is not None
    assert chat is not None
    assert (usage.input_tokens, usage.output_tokens) == (chat.prompt_tokens, chat.completion_tokens)
    assert usage.output_tokens_details.reasoning_tokens == 6
    assert answer.model_extra is not None
    assert answer.model_extra["neuromas"]["usage_by_node"]["n2"]["completion_tokens"] == 6


def test_a_response_that_its_budget_cuts_is_incomplete(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="g", input="find", max_output_tokens=2)
    assert (answer.status, answer.output_text, answer.output[0].status) == ("incomplete", "0 so", "incomplete")
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    with client.responses.stream(model="g", input="find", max_output_tokens=2) as stream:
        assert [event.type for event in stream][-1] == "response.incomplete"


def test_a_conversation_is_the_same_question_by_every_route(client: openai.OpenAI, shared: World) -> None:
    history = [{"role": "user", "content": "find"}, {"role": "assistant", "content": "so"}]
    client.chat.completions.create(
        model="g", messages=[{"role": "system", "content": "count"}, *history, {"role": "user", "content": "1"}]
    )
    by_chat = last_prompt(shared)
    first = client.responses.create(model="g", input="find")
    for earlier in (history[1], first.output[0].to_dict() | {"content": [{"type": "output_text", "text": "so"}]}):
        parts = [{"type": "input_text", "text": "1"}]
        client.responses.create(
            model="g", instructions="count", input=[history[0], earlier, {"role": "user", "content": parts}]
        )
        assert last_prompt(shared) == by_chat
    client.completions.create(model="g", prompt="System: count\n\nUser: find\n\nAssistant: so\n\nUser: 1")
    assert last_prompt(shared) == by_chat


def test_the_events_of_a_response_are_what_the_client_reads(renderer: Renderer) -> None:
    with world(renderer) as made:
        made.engine.is_free = False
        made.engine.allowed.release(STEPS + 4)
        stream = stock(made).responses.create(model="g", input="find", stream=True)
        events = [next(stream) for _ in range(5)]
        made.engine.let_go()
        events += stream
    pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * len(pieces),
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert ("".join(pieces), len(pieces) > 1) == (ANSWER, True)
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == ANSWER


def test_the_clients_stream_helper_puts_a_response_together(client: openai.OpenAI) -> None:
    with client.responses.stream(model="g", input="find") as stream:
        response = stream.get_final_response()
    assert (response.status, response.output_text) == ("completed", ANSWER)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"truncation": "auto"}, "truncation"),
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"top_logprobs": 6, "include": ["message.output_text.logprobs"]}, "top_logprobs"),
        ({"include": ["file_search_call.results"]}, "include.0"),
        ({"text": {"format": {"type": "json_object"}}}, "text"),
        ({"input": []}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input.0.content"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input.0.role"),
        ({"n": 2}, "n"),
    ],
)
def test_a_response_refuses_by_name_what_it_cannot_do(shared: World, more: dict[str, Any], param: str) -> None:
    answer = httpx.post(f"{shared.url}/v1/responses", json=asked("/v1/responses") | more, timeout=WAIT_S)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_several_answers_are_as_many_choices_each_with_its_seed(client: openai.OpenAI) -> None:
    one = client.chat.completions.create(**body())
    answer = client.chat.completions.create(**body(n=3, seed=2**53, temperature=1))
    assert [(choice.index, choice.message.content) for choice in answer.choices] == [
        (0, ANSWER),
        (1, ANSWER),
        (2, ANSWER),
    ]
    extras = [choice.model_extra["neuromas"] for choice in answer.choices if choice.model_extra]
    assert [extra["seed"] for extra in extras] == [2**53, 2**53 + 1, 2**53 + 2]
    assert answer.usage is not None
    assert one.usage is not None
    assert answer.usage.total_tokens == 3 * one.usage.total_tokens


def test_several_answers_stream_side_by_side(renderer: Renderer) -> None:
    with world(renderer) as made, ThreadPoolExecutor(1) as pool:
        made.engine.is_free = False
        options = {"stream": True, "stream_options": {"include_usage": True}}
        opening = pool.submit(stock(made).chat.completions.create, **body(n=2, **options))
        until(lambda: made.server.load.running + made.server.load.waiting == 2)
        made.engine.allowed.release(STEPS + 4)  # neither can end by these
        stream = opening.result()
        chunks, begun = [], set()
        while begun != {0, 1}:
            chunks.append(next(stream))
            begun |= {choice.index for choice in chunks[-1].choices if choice.delta.content}
        made.engine.let_go()
        chunks += stream
    texts, roles, ends = {0: "", 1: ""}, [], []
    for chunk in chunks[:-1]:
        (choice,) = chunk.choices
        texts[choice.index] += choice.delta.content or ""
        roles += [choice.index] * (choice.delta.role == "assistant")
        ends += [choice.index] * (choice.finish_reason == "stop")
    assert roles == [0, 1]
    assert texts == {0: ANSWER, 1: ANSWER}
    assert sorted(ends) == [0, 1]
    assert chunks[-1].usage is not None


def test_several_answers_count_as_many_requests_and_all_or_none_is_taken_on(renderer: Renderer) -> None:
    with world(renderer, ServerLimits(max_running=1, max_waiting=2)) as made:
        made.engine.is_free = False
        refused = made.ask(n=4)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
        until(lambda: made.engine.allowed.release() or made.server.load.cancelled == 3)
        made.engine.let_go()
        assert len(made.ask(n=3).json()["choices"]) == 3


def test_log_probabilities_are_those_of_the_answers_tokens(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(**body(logprobs=True, top_logprobs=0)).choices[0]
    assert answer.logprobs is not None
    assert answer.logprobs.content is not None
    assert [entry.token for entry in answer.logprobs.content] == TOKENS
    assert [entry.logprob for entry in answer.logprobs.content] == list(LOGPROBS[:5])
    assert [bytes(entry.bytes or []).decode() for entry in answer.logprobs.content] == TOKENS
    older = client.completions.create(model="g", prompt="find", logprobs=0).choices[0].logprobs
    assert older is not None
    assert (older.tokens, older.token_logprobs, older.top_logprobs) == (TOKENS, list(LOGPROBS[:5]), None)
    assert older.text_offset == [0, 1, 4, 6, 8]
    response = client.responses.create(model="g", input="find", include=["message.output_text.logprobs"])
    assert response.output[0].type == "message"
    part = response.output[0].content[0]
    assert part.type == "output_text"
    assert [(entry.token, entry.logprob) for entry in part.logprobs or []] == list(zip(TOKENS, LOGPROBS, strict=False))


def test_the_most_probable_tokens_come_in_the_place_of_each(client: openai.OpenAI) -> None:
    expected = [[(token, value), ("<eos>", value - 1)] for token, value in zip(TOKENS, LOGPROBS, strict=False)]
    answer = client.chat.completions.create(**body(logprobs=True, top_logprobs=2)).choices[0].logprobs
    assert answer is not None
    assert [[(top.token, top.logprob) for top in entry.top_logprobs] for entry in answer.content or []] == expected
    assert bytes((answer.content or [])[1].top_logprobs[0].bytes or []) == b" so"
    older = client.completions.create(model="g", prompt="find", logprobs=2).choices[0].logprobs
    assert older is not None
    assert older.top_logprobs == [dict(place) for place in expected]
    response = client.responses.create(
        model="g", input="find", include=["message.output_text.logprobs"], top_logprobs=2
    )
    part = response.output[0].content[0]  # type: ignore[union-attr]
    assert [[(top.token, top.logprob) for top in entry.top_logprobs] for entry in part.logprobs] == expected  # type: ignore[union-attr]


def test_only_the_answers_tokens_come_with_others(client: openai.OpenAI, shared: World) -> None:
    client.chat.completions.create(**body(logprobs=True, top_logprobs=5))
    asked = {call.id.partition(".")[2]: call.sampling.num_top for _, call in shared.engine.history[-2:]}
    assert asked == {"n1": 0, "n2": 5}


def test_log_probabilities_end_where_a_stop_text_ends_the_answer(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(**body(logprobs=True, stop="2")).choices[0]
    assert answer.message.content == "0 so 1 "
    assert answer.logprobs is not None
    assert answer.logprobs.content is not None
    assert [entry.token for entry in answer.logprobs.content][:3] == TOKENS[:3]
    assert len(answer.logprobs.content) <= 4


def test_a_streams_log_probabilities_come_with_its_end(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="g", messages=[{"role": "user", "content": "find"}], logprobs=True
    ) as stream:
        choice = stream.get_final_completion().choices[0]
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    assert [(entry.token, entry.logprob) for entry in choice.logprobs.content] == list(
        zip(TOKENS, LOGPROBS, strict=False)
    )


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    "more",
    [
        {"frequency_penalty": 0, "presence_penalty": None, "logit_bias": None, "service_tier": "auto", "store": False},
        {"top_k": -1, "min_p": 0, "repetition_penalty": 1.0, "user": "me", "never_heard_of": None},
    ],
)
def test_every_route_takes_what_asks_for_nothing(shared: World, path: str, more: dict[str, Any]) -> None:
    answer = httpx.post(f"{shared.url}{path}", json=asked(path) | more, timeout=WAIT_S)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("path", ROUTES)
def test_every_route_refuses_in_the_one_shape(shared: World, path: str) -> None:
    url = f"{shared.url}{path}"
    answers = {
        "model_not_found": httpx.post(url, json=asked(path) | {"model": "other"}, timeout=WAIT_S),
        "unknown_parameter": httpx.post(url, json=asked(path, tempratur=1), timeout=WAIT_S),
        "unsupported_value": httpx.post(url, json=asked(path, store=True), timeout=WAIT_S),
        None: httpx.put(url, json=asked(path), timeout=WAIT_S),
    }
    assert {code: answer.status_code for code, answer in answers.items()} == {
        "model_not_found": 404,
        "unknown_parameter": 400,
        "unsupported_value": 400,
        None: 405,
    }
    for code, answer in answers.items():
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        assert answer.json()["error"]["code"] == code


@pytest.mark.parametrize("path", ROUTES)
def test_a_question_that_is_too_long_is_told_by_its_parameter(renderer: Renderer, path: str) -> None:
    with world(renderer, max_model_len=64) as made:
        key = {"messages": "messages", "prompt": "prompt", "input": "input"}
        name = next(name for name in asked(path) if name in key)
        question: Any = "find " * 100
        more = {name: [{"role": "user", "content": question}] if name == "messages" else question}
        error = httpx.post(f"{made.url}{path}", json=asked(path) | more, timeout=WAIT_S).json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", name)


def test_a_response_that_breaks_off_says_so_as_its_last_event(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world(renderer) as made, ThreadPoolExecutor(1) as pool:
        made.engine.is_free = False
        made.engine.allowed.release(STEPS + 4)
        stream = stock(made).responses.create(model="g", input="find", stream=True)
        assert next(stream).type == "response.created"
        closing = pool.submit(made.server.close, 0)
        until(lambda: not made.server.is_alive)
        monkeypatch.setattr(graph_server, "monotonic", lambda: monotonic() + 600)  # its next look is due
        made.engine.allowed.release(1)
        last = list(stream)[-1]
        closing.result(WAIT_S)
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert (last.response.status, last.response.error.code) == ("failed", "server_error")
    assert "the server is shutting down" in last.response.error.message


@pytest.mark.parametrize("path", ["/health", "/healthz", "/v1/models", "/v1/models/g"])
def test_head_is_get_without_a_body(shared: World, path: str) -> None:
    head, get = shared.client.head(f"{shared.url}{path}"), shared.client.get(f"{shared.url}{path}")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(get.content))
