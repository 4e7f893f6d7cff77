"""The bodies that the server accepts: OpenAI's fields as far as they mean something here, and ours beside them.

A field that would be ignored is refused unless it has its neutral value, so that nobody believes it did something.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def utf8(text: str) -> str:
    """JSON can spell half a surrogate pair, which is no text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("holds half a surrogate pair, which is no text") from None
    return text


LONGEST_SPEC = 200
"""Characters of a spec string."""
Text = Annotated[str, AfterValidator(utf8)]
Spec = Annotated[Text, Field(max_length=LONGEST_SPEC)]
Stop = Annotated[Text, Field(min_length=1, max_length=200)]


class Closed(BaseModel):
    """Unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", strict=True)


class StreamOptions(Closed):
    """include_usage: one more chunk with the counts."""

    include_usage: bool = False
    include_obfuscation: bool = False


class Sampling(Closed):
    """What completions and chats share. max_tokens is the room on the canvas; it need not fit the window's blocks."""

    model: str | None = None
    temperature: float | None = Field(0.0, ge=0, le=100, description="0, the default, is greedy.")
    top_p: float | None = Field(1.0, gt=0, le=1)
    n: int | None = Field(1, ge=1, le=64, description="Row i uses seed + i.")
    seed: int | None = Field(None, ge=-(2**62), le=2**62, description="The same seed gives the same tokens, whoever else is served. Absent: a random one.")
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    decoder: Spec = Field("low_confidence", description="A spec string, e.g. threshold:tau=0.9.", examples=["threshold:tau=0.9"])
    window: Spec = Field("whole", description="A spec string, e.g. blocks:32.", examples=["blocks:32"])
    reuse: Spec = Field("fresh", description="A spec string, e.g. surelock:eps=5e-4.", examples=["fresh"])
    include_canvas: bool = Field(False, description="With stream: every chunk carries the records of a trace, drafts and all.")
    user: str | None = None
    frequency_penalty: Literal[0] | None = None
    presence_penalty: Literal[0] | None = None
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = None


class CompletionBody(Sampling):
    """POST /v1/completions."""

    prompt: Text = Field(examples=["How many"])
    max_tokens: int | None = Field(None, ge=1, le=2**20, description="Absent: 128, or what fits.")
    suffix: Text | None = Field(None, description="Text behind the gap: max_tokens positions between prompt and suffix are written.")
    infill: bool = Field(False, description="Write every mask that the prompt spells; the answer is the whole text. max_tokens does not apply.")
    logprobs: Literal[0] | None = Field(None, description="0: of the tokens written. Those of alternatives are not kept.")
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None


class TextPart(Closed):
    """A part of a message."""

    type: Literal["text"]
    text: Text


class Message(Closed):
    """One turn."""

    role: Annotated[Text, Field(min_length=1, max_length=40)]
    content: Text | list[TextPart]
    name: str | None = None

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ResponseFormat(Closed):
    """Only plain text."""

    type: Literal["text"]


class ChatBody(Sampling):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)] = Field(examples=[[{"role": "user", "content": "How many"}]])
    max_tokens: int | None = Field(None, ge=1, le=2**20, description="Absent: 128, or what fits.")
    max_completion_tokens: int | None = Field(None, ge=1, le=2**20)
    logprobs: bool | None = Field(False, description="Of the tokens written.")
    top_logprobs: Literal[0] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None


class ErrorDetail(BaseModel):
    """What went wrong, and with which field."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """OpenAI's error shape."""

    error: ErrorDetail
