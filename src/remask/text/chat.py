"""Chat templates: Jinja from a checkpoint, so from a stranger, rendered in a sandbox that cannot reach Python objects."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from remask.errors import RemaskError
from remask.files import check_size

LONGEST = 100_000
"""Characters of a template; published ones have a few thousand."""


def find_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """chat_template.jinja, or `chat_template` of tokenizer_config.json (a list of named ones: `default`)."""
    file = folder / "chat_template.jinja"
    if file.exists():
        check_size(file)
    try:
        template = file.read_text(encoding="utf-8") if file.exists() else config.get("chat_template")
    except UnicodeDecodeError as error:
        raise RemaskError(f"{file} is not UTF-8 ({error}); download it again") from None
    if isinstance(template, list):
        named = {entry["name"]: entry["template"] for entry in template}
        template = named.get("default", next(iter(named.values()), None))
    if template is not None and len(template) > LONGEST:
        raise RemaskError(f"the chat template in {folder} has {len(template)} characters, more than {LONGEST}; download it again")
    return template


def render_chat(template: str, messages: Sequence[Mapping[str, Any]], special: Mapping[str, str], *, add_generation_prompt: bool = True) -> str:
    """The messages as one text. special: bos_token and the like, as the template expects them."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    if not messages:
        raise RemaskError("no messages; pass at least one with a role and content")
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    try:
        return environment.from_string(template).render(messages=messages, add_generation_prompt=add_generation_prompt, **special)
    except (TemplateError, TypeError, AttributeError) as error:
        raise RemaskError(f"the chat template fails on these messages ({error}); give each a role and content, or generate without chat") from None


def _refuse(message: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(message)
