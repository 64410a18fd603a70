"""Answers as lists of choices: chat completions, and the older completions of a text."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from typing_extensions import override

from neuromas.serving.answer_form import AnswerForm, all_calls, event, finish_reason, hidden_tokens, usage
from neuromas.serving.answer_tokens import answer_tokens, output_call
from neuromas.serving.endpoint_error import EndpointError
from neuromas.serving.question import Answered

DONE: Final = b"data: [DONE]\n\n"
"""The last event of a stream."""


class ChoicesForm(AnswerForm):
    """A choice for each answer; what NeuroMAS adds stands beside a single one, and in each of several."""

    whole_kind: ClassVar[str]
    chunk_kind: ClassVar[str]

    @abstractmethod
    def said(self, text: str) -> dict[str, Any]:
        """Return how a choice tells its text."""

    @abstractmethod
    def more_said(self, text: str | None) -> dict[str, Any]:
        """Return how a choice of a chunk tells its piece of text; None = it has none."""

    @abstractmethod
    def logprobs(self, answered: Answered) -> dict[str, Any]:
        """Return how a choice tells the log probabilities of its tokens."""

    @override
    def whole(self, answers: Sequence[Answered]) -> dict[str, Any]:
        choices = [self._choice(place, answered) for place, answered in enumerate(answers)]
        extras = [self.extras(place, answered) for place, answered in enumerate(answers)]
        body = self._head | {
            "object": self.whole_kind,
            "system_fingerprint": answers[0].graph.fingerprint,
            "choices": choices,
            "usage": self._usage(answers),
        }
        if len(answers) == 1:
            return body | {"neuromas": extras[0]}
        for choice, extra in zip(choices, extras, strict=True):
            choice["neuromas"] = extra
        return body

    @override
    def begin(self) -> bytes:
        return b""

    @override
    def piece(self, place: int, text: str) -> bytes:
        return self.chunk(self.more_said(text) | {"index": place, "finish_reason": None, "logprobs": None})

    @override
    def end(self, place: int, answered: Answered) -> bytes:
        choice = self._ended(place, answered) | self.more_said(None)
        extras = {"system_fingerprint": answered.graph.fingerprint, "neuromas": self.extras(place, answered)}
        return self.chunk(choice, **extras)

    @override
    def close(self, answers: Sequence[Answered]) -> bytes:
        if not self.asked.includes_usage:
            return DONE
        fingerprint = answers[0].graph.fingerprint
        return self._event({"choices": [], "usage": self._usage(answers), "system_fingerprint": fingerprint}) + DONE

    @override
    def failed(self, refusal: EndpointError) -> bytes:
        return event(refusal.body)  # OpenAI's clients raise what they find in an event of this shape

    def chunk(self, choice: dict[str, Any], **more: Any) -> bytes:
        """Return one event of a stream."""
        return self._event({"choices": [choice]} | more)

    @property
    def _head(self) -> dict[str, Any]:
        return {"id": self.id, "created": self.created_s, "model": self.asked.model}

    def _event(self, body: dict[str, Any]) -> bytes:
        unknown = {"usage": None} if self.asked.includes_usage else {}
        return event(self._head | {"object": self.chunk_kind} | unknown | body)

    def _choice(self, place: int, answered: Answered) -> dict[str, Any]:
        return self._ended(place, answered) | self.said(answered.rollout.answer)

    def _ended(self, place: int, answered: Answered) -> dict[str, Any]:
        reason = finish_reason(output_call(answered).finish_reason)
        logprobs = self.logprobs(answered) if self.asked.wants_logprobs else None
        return {"index": place, "finish_reason": reason, "logprobs": logprobs}

    def _usage(self, answers: Sequence[Answered]) -> dict[str, Any]:
        """Return the tokens of all Nodes and answers."""
        return {
            **usage(all_calls(answers)),
            "completion_tokens_details": {"reasoning_tokens": hidden_tokens(answers)},
        }


class ChatForm(ChoicesForm):
    """Answers of ``POST /v1/chat/completions``."""

    id_prefix = "chatcmpl-"
    whole_kind = "chat.completion"
    chunk_kind = "chat.completion.chunk"

    @override
    def begin(self) -> bytes:
        opening = {"delta": {"role": "assistant", "content": "", "refusal": None}, "finish_reason": None}
        places = range(len(self.questions))
        return b"".join(self.chunk({"index": place, "logprobs": None} | opening) for place in places)

    @override
    def said(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    @override
    def more_said(self, text: str | None) -> dict[str, Any]:
        return {"delta": {} if text is None else {"content": text}}

    @override
    def logprobs(self, answered: Answered) -> dict[str, Any]:
        return {"content": [token.entry for token in answer_tokens(answered)], "refusal": None}


class CompletionForm(ChoicesForm):
    """Answers of ``POST /v1/completions``."""

    id_prefix = "cmpl-"
    whole_kind = chunk_kind = "text_completion"

    @override
    def said(self, text: str) -> dict[str, Any]:
        return {"text": text}

    @override
    def more_said(self, text: str | None) -> dict[str, Any]:
        return {"text": text or ""}

    @override
    def logprobs(self, answered: Answered) -> dict[str, Any]:
        tokens = answer_tokens(answered)
        return {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [dict(reversed(token.tops)) for token in tokens] if self.asked.num_top else None,
            "text_offset": [token.offset for token in tokens],
        }
