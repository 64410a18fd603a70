"""Answers of OpenAI's Responses API, whole and as its typed events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from typing_extensions import override

from neuromas.serving.answer_form import AnswerForm, all_calls, encode, hidden_tokens, usage
from neuromas.serving.answer_tokens import answer_tokens, output_call
from neuromas.serving.endpoint_error import EndpointError
from neuromas.serving.question import Answered, Question
from neuromas.serving.response_request import ResponseRequest

RESPONSE_ENDS: Final = ("response.completed", "response.incomplete", "response.failed")
"""One of these ends a stream."""
RESPONSE_EVENTS: Final = (
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    *RESPONSE_ENDS,
)
"""Names of the events of a stream, in their order."""
_PLACE: Final = {"output_index": 0, "content_index": 0}


class ResponseForm(AnswerForm):
    """One response with one message; nothing of it is kept."""

    id_prefix = "resp_"
    asked: ResponseRequest

    def __init__(self, asked: ResponseRequest, questions: Sequence[Question]) -> None:
        """Begin to answer a request; see ``AnswerForm``."""
        super().__init__(asked, questions)
        self._message_id = f"msg_{self.id.removeprefix(self.id_prefix)}"
        self._num_events = 0

    @override
    def whole(self, answers: Sequence[Answered]) -> dict[str, Any]:
        answered = answers[0]
        calls = usage(all_calls(answers))
        is_cut = output_call(answered).finish_reason == "length"
        return self._response("incomplete" if is_cut else "completed") | {
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "output": [self._message(answered)],
            "usage": {
                "input_tokens": calls["prompt_tokens"],
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": calls["completion_tokens"],
                "output_tokens_details": {"reasoning_tokens": hidden_tokens(answers)},
                "total_tokens": calls["total_tokens"],
            },
            "neuromas": self.extras(0, answered),
        }

    @override
    def begin(self) -> bytes:
        begun = self._response("in_progress")
        item = self._item("in_progress", [])
        return (
            self._event("response.created", {"response": begun})
            + self._event("response.in_progress", {"response": begun})
            + self._event("response.output_item.added", {"output_index": 0, "item": item})
            + self._event("response.content_part.added", self._of_part({"part": _text_part("", [])}))
        )

    @override
    def piece(self, place: int, text: str) -> bytes:
        return self._event("response.output_text.delta", self._of_part({"delta": text, "logprobs": []}))

    @override
    def end(self, place: int, answered: Answered) -> bytes:
        message = self._message(answered)
        part = message["content"][0]
        ended = {"text": part["text"], "logprobs": part["logprobs"]}
        return (
            self._event("response.output_text.done", self._of_part(ended))
            + self._event("response.content_part.done", self._of_part({"part": part}))
            + self._event("response.output_item.done", {"output_index": 0, "item": message})
        )

    @override
    def close(self, answers: Sequence[Answered]) -> bytes:
        response = self.whole(answers)
        return self._event(f"response.{response['status']}", {"response": response})

    @override
    def failed(self, refusal: EndpointError) -> bytes:
        error = {"code": "server_error", "message": str(refusal)}
        return self._event("response.failed", {"response": self._response("failed") | {"error": error}})

    def _message(self, answered: Answered) -> dict[str, Any]:
        status = "incomplete" if output_call(answered).finish_reason == "length" else "completed"
        logprobs = [token.entry for token in answer_tokens(answered)] if self.asked.wants_logprobs else []
        return self._item(status, [_text_part(answered.rollout.answer, logprobs)])

    def _item(self, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._message_id,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        }

    def _response(self, status: str) -> dict[str, Any]:
        """Return what a response says whatever became of it, the settings that it was asked for among it."""
        asked = self.asked
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created_s,
            "status": status,
            "model": asked.model,
            "error": None,
            "incomplete_details": None,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "metadata": asked.metadata or {},
            "output": [],
            "parallel_tool_calls": False,
            "previous_response_id": None,
            "store": False,
            "temperature": asked.temperature,
            "text": {"format": {"type": "text"}},
            "tool_choice": "none",
            "tools": [],
            "top_p": asked.top_p,
            "truncation": "disabled",
            "usage": None,
            "user": asked.user,
        }

    def _of_part(self, more: dict[str, Any]) -> dict[str, Any]:
        return {"item_id": self._message_id} | _PLACE | more

    def _event(self, kind: str, more: dict[str, Any]) -> bytes:
        body = {"type": kind, "sequence_number": self._num_events} | more
        self._num_events += 1
        return b"event: " + kind.encode() + b"\ndata: " + encode(body) + b"\n\n"


def _text_part(text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}
