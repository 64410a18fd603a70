"""A base's chat template: how it writes turns, what it demands, and the token it ends an assistant's turn with.

Written with Jinja in a sandbox, as transformers does it, but without torch and without today's date: a prompt is the
same in training and months later in serving.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from neuromas.base.documents import read_json
from neuromas.errors import BaseModelError

if TYPE_CHECKING:
    from jinja2 import Template
    from jinja2.sandbox import ImmutableSandboxedEnvironment

TEMPLATE_FILE = "chat_template.jinja"
TOKENIZER_CONFIG = "tokenizer_config.json"
RESERVED = frozenset({"messages", "add_generation_prompt", "tools", "documents", "bos_token", "eos_token"})
"""Variables that are not the user's to set."""
_TODAY = date(2024, 7, 26)
"""Shown by templates that ask for the date; the one with which Llama's own fall back."""
_SPOT = "0spot0"
_OTHER_SPOT = "Two spots, 3 words: x?"
_NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TurnFrame:
    """The text around one user turn, up to where the model begins to write."""

    before: str
    after: str


class ChatTemplate:
    """The chat template of a base."""

    def __init__(self, source: str, tokens: Mapping[str, str], base: str) -> None:
        """Take a template.

        Args:
            source: in Jinja.
            tokens: texts of the named special tokens, such as ``bos_token``.
            base: named in errors.
        """
        self._source = source
        self._tokens = tokens
        self._base = base

    @cached_property
    def variables(self) -> frozenset[str]:
        """Names that the template reads and that ``prompt.template_kwargs`` may set."""
        from jinja2 import TemplateError, meta

        try:
            found = meta.find_undeclared_variables(_environment().parse(self._source))
        except TemplateError as error:
            raise self._broken(error) from error
        return frozenset(found) - RESERVED - {"raise_exception", "strftime_now"} - set(_NAMED_TOKENS)

    def frame(self, system: str | None = None, settings: Mapping[str, Any] | None = None) -> TurnFrame:
        """Return the text around a user's turn.

        Args:
            system: text of a system turn before it; None = no such turn.
            settings: further variables of the template, such as ``enable_thinking``.

        Raises:
            BaseModelError: the template does not show the turn, or demands, refuses or ignores a system turn.
        """
        settings = {} if settings is None else settings
        if unknown := settings.keys() - self.variables:
            known = ", ".join(sorted(self.variables)) or "none"
            raise BaseModelError(
                f"prompt.template_kwargs sets {', '.join(sorted(unknown))}, which the chat template of base "
                f"{self._base} does not read; it reads {known}"
            )
        frame = self._framed(system, settings)
        if system is not None and frame.before.count(system.strip()) < 1:
            raise BaseModelError(
                f"the chat template of base {self._base} shows no system turn; leave out prompt.system"
            )
        return frame

    def turn_end(self, specials: Sequence[str]) -> str | None:
        """Return the special token that follows an assistant's text; None where none does, or the template fails."""
        user = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _SPOT}]
        for system in (None, "a"):
            for content in (_as_text, _as_parts):
                try:
                    written = self._write(_with_system(system, user), content, {}, opens=False)
                except BaseModelError:
                    continue
                if _SPOT in written:
                    tail = written.rpartition(_SPOT)[2].lstrip()
                    return max((text for text in specials if tail.startswith(text)), key=len, default=None)
        return None

    def _framed(self, system: str | None, settings: Mapping[str, Any]) -> TurnFrame:
        refusal: BaseModelError | None = None
        for content in (_as_text, _as_parts):
            try:
                frame = self._around(_SPOT, system, content, settings)
                other = self._around(_OTHER_SPOT, system, content, settings)
            except BaseModelError as error:
                refusal = refusal or error
                continue
            if frame is not None and frame == other:
                return frame
        if refusal is None:
            raise BaseModelError(
                f"the chat template of base {self._base} does not show a user's text as it is; "
                "use prompt.renderer = 'plain'"
            )
        raise BaseModelError(f"{refusal}{self._remedy(system, settings)}") from refusal

    def _remedy(self, system: str | None, settings: Mapping[str, Any]) -> str:
        """Say whether it is the system turn that a refused conversation lacks, or has too much."""
        other = "a" if system is None else None
        for content in (_as_text, _as_parts):
            try:
                self._around(_SPOT, other, content, settings)
            except BaseModelError:
                continue
            if system is None:
                return "; it demands a system turn: set prompt.system"
            return "; it refuses a system turn: leave out prompt.system"
        return ""

    def _around(
        self, text: str, system: str | None, content: Callable[[str], object], settings: Mapping[str, Any]
    ) -> TurnFrame | None:
        """Return what stands around a user's text, None where the text does not stand there once."""
        written = self._write(_with_system(system, [{"role": "user", "content": text}]), content, settings, opens=True)
        before, spot, after = written.partition(text)
        return TurnFrame(before, after) if spot and text not in after else None

    def _write(
        self,
        messages: Sequence[Mapping[str, str]],
        content: Callable[[str], object],
        settings: Mapping[str, Any],
        *,
        opens: bool,
    ) -> str:
        from jinja2 import TemplateError

        turns = [{"role": message["role"], "content": content(message["content"])} for message in messages]
        known = {**self._tokens, **settings, "messages": turns, "add_generation_prompt": opens}
        try:
            return self._template.render(known)
        except (TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise self._broken(error) from error

    @cached_property
    def _template(self) -> Template:
        from jinja2 import TemplateError

        try:
            return _environment().from_string(self._source)
        except TemplateError as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> BaseModelError:
        return BaseModelError(f"the chat template of base {self._base} says: {error}")


def read_chat_template(folder: Path) -> ChatTemplate | None:
    """Return the chat template of a base folder, None where it has none.

    Raises:
        BaseModelError: a file of it is broken.
    """
    settings = read_json(folder / TOKENIZER_CONFIG, optional=True)
    file = folder / TEMPLATE_FILE
    source = file.read_text(encoding="utf-8") if file.is_file() else settings.get("chat_template")
    if isinstance(source, list):  # several under names
        named = {entry.get("name"): entry.get("template") for entry in source if isinstance(entry, Mapping)}
        source = named.get("default")
    if not isinstance(source, str):
        return None
    tokens = {key: text for key in _NAMED_TOKENS if (text := token_text(settings.get(key))) is not None}
    return ChatTemplate(source, tokens, folder.name)


def token_text(entry: object) -> str | None:
    """Return the text of a token as tokenizer_config.json names it: plain, or as a table with its content."""
    text = entry.get("content") if isinstance(entry, Mapping) else entry
    return text if isinstance(text, str) else None


def _with_system(system: str | None, messages: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    return [*([] if system is None else [{"role": "system", "content": system}]), *messages]


def _as_text(text: str) -> object:
    return text


def _as_parts(text: str) -> object:
    return [{"type": "text", "text": text}]


def _environment() -> ImmutableSandboxedEnvironment:
    """Return Jinja as chat templates expect it. Source: the chat templating page of transformers' documentation."""
    from jinja2 import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    from neuromas.base.jinja_generation import GenerationTag

    def refuse(message: str) -> NoReturn:
        raise TemplateError(message)

    def as_json(value: object, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = as_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = _TODAY.strftime
    return environment
