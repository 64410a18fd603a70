"""What a chat completion request may say: the defaults of stock clients pass, what would be ignored is refused."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from neuromas.rollout.answer import AnswerSettings
from neuromas.serving.chat_request import ChatRequest
from neuromas.serving.endpoint_error import first_fault

LEAST = {"model": "g", "messages": [{"role": "user", "content": "hi"}]}


def read(**more: object) -> ChatRequest:
    return ChatRequest.model_validate_json(json.dumps(LEAST | more))


def text_of(**more: object) -> str:
    (text,) = read(**more).texts
    return text


def refused(**more: object) -> dict:
    with pytest.raises(ValidationError) as caught:
        read(**more)
    return first_fault(caught.value).body["error"]


def test_the_least_request_is_greedy_with_the_graphs_own_budget() -> None:
    (question,) = read().questions()
    assert (question.graph, question.text, question.is_greedy) == ("g", "hi", True)
    assert question.answer == AnswerSettings()


@pytest.mark.parametrize(
    "more",
    [
        {"n": 1, "logprobs": False, "top_logprobs": None, "frequency_penalty": 0, "presence_penalty": 0.0},
        {"tools": [], "tool_choice": "none", "parallel_tool_calls": True, "response_format": {"type": "text"}},
        {"logit_bias": {}, "modalities": ["text"], "service_tier": "auto", "store": False, "functions": None},
        {"user": "me", "metadata": {"a": "b"}, "safety_identifier": "x", "prompt_cache_key": "y"},
        {"temperature": None, "top_p": None, "max_tokens": None, "seed": None, "stop": None, "stream": None},
        {"stream_options": None, "neuromas": None},
        {"stream": True, "stream_options": {"include_usage": None, "include_obfuscation": False}},
        {"messages": [{"role": "assistant", "content": "x", "refusal": None, "tool_calls": None, "audio": None}]},
        {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "best_of": 1, "ignore_eos": False, "min_tokens": 0},
        {"reasoning_effort": None, "verbosity": None, "web_search_options": None, "never_heard_of": None},
    ],
)
def test_what_asks_for_nothing_special_is_accepted(more: dict) -> None:
    assert [question.is_greedy for question in read(**more).questions()] == [True]


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"store": True}, "store"),
        ({"top_k": 5}, "top_k"),
        ({"repetition_penalty": 1.1}, "repetition_penalty"),
        ({"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]}, "messages.0.tool_calls"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(more: dict, param: str) -> None:
    error = refused(**more)
    assert (error["param"], error["code"], error["type"]) == (param, "unsupported_value", "invalid_request_error")
    assert "not supported" in error["message"]


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"tempratur": 1}, "tempratur"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"neuromas": {"tracing": True}}, "neuromas.tracing"),
        ({"messages": [{"role": "user", "content": "x", "mood": "good"}]}, "messages.0.mood"),
    ],
)
def test_unknown_keys_are_refused_with_their_path(more: dict, param: str) -> None:
    error = refused(**more)
    assert (error["param"], error["code"]) == (param, "unknown_parameter")


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": 1e-45}, "temperature"),
        ({"temperature": 0.009}, "temperature"),
        ({"top_p": 1e-46}, "top_p"),
        ({"max_tokens": 2**31}, "max_tokens"),
        ({"stop": "x" * 257}, "stop.0"),
        ({"model": "m" * 257}, "model"),
        ({"metadata": {str(number): "x" for number in range(65)}}, "metadata"),
        ({"messages": [{"role": "user", "content": "x"}] * 2049}, "messages"),
        ({"neuromas": {"deadline_s": 1e9}}, "neuromas.deadline_s"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"seed": 2**63}, "seed"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content"),
        ({"neuromas": {"deadline_s": 0}}, "neuromas.deadline_s"),
        ({"n": 0}, "n"),
        ({"n": 17}, "n"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
    ],
)
def test_values_out_of_range_are_refused_with_their_path(more: dict, param: str) -> None:
    assert refused(**more)["param"] == param


def test_half_a_surrogate_pair_is_no_text() -> None:
    body = '{"model": "g", "messages": [{"role": "user", "content": "\\ud83d"}]}'
    with pytest.raises(ValidationError):
        ChatRequest.model_validate_json(body)


def test_one_message_is_the_question_and_several_are_turns() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    user, system = {"role": "user", "content": parts}, {"role": "system", "content": "be brief"}
    assert text_of(messages=[user]) == "ab"
    assert text_of(messages=[{"role": "system", "content": ""}, user]) == "ab"
    assert text_of(messages=[system, user]) == "System: be brief\n\nUser: ab"
    history = [user, {"role": "assistant", "content": "c"}, user]
    assert text_of(messages=history) == "User: ab\n\nAssistant: c\n\nUser: ab"


def test_settings_of_sampling() -> None:
    request = read(temperature=0.7, top_p=0.9, seed=-1, max_tokens=5, max_completion_tokens=4, stop="x")
    (question,) = request.questions()
    assert (question.temperature, question.top_p, question.is_greedy) == (0.7, 0.9, False)
    assert question.seed == 2**63 - 1
    assert question.answer == AnswerSettings(stop=("x",), max_tokens=4)


def test_top_p_alone_asks_for_sampling_and_temperature_zero_for_none() -> None:
    assert not read(top_p=0.9).questions()[0].is_greedy
    assert read(top_p=0.9, temperature=0).questions()[0].is_greedy


def test_several_answers_are_samples_with_seeds_that_count_on() -> None:
    asked = read(n=3, seed=2**63 - 2).questions()
    assert [(question.text, question.is_greedy, question.seed) for question in asked] == [
        ("hi", False, 2**63 - 2),
        ("hi", False, 2**63 - 1),
        ("hi", False, 0),
    ]
    assert all(question.is_greedy for question in read(n=3, temperature=0).questions())


def test_without_a_seed_every_request_is_sampled_anew() -> None:
    seeds = {read(temperature=1).questions()[0].seed for _ in range(8)}
    assert len(seeds) == 8
    assert {int(float(seed)) for seed in seeds} == seeds, "a browser can send each back"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"top_logprobs": 3}, "only allowed with logprobs = true"),
        ({"top_logprobs": 6, "logprobs": True}, "Input should be less than or equal to 5"),
        ({"top_logprobs": -1, "logprobs": True}, "Input should be greater than or equal to 0"),
    ],
)
def test_top_logprobs_are_a_few_beside_the_log_probabilities(more: dict, why: str) -> None:
    error = refused(**more)
    assert (error["param"], error["message"]) == ("top_logprobs", f"top_logprobs: {why}")
    (question,) = read(logprobs=True, top_logprobs=5).questions()
    assert question.answer == AnswerSettings(num_top=5)
