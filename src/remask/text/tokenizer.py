"""Tokenizers in the published layouts, through `tokenizers`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from remask.errors import RemaskError
from remask.files import check_size, read_object
from remask.text.chat import find_template, render_chat

QWEN2_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""How Qwen2, and so Dream, splits text before merging: one digit a token."""


class Tokenizer:
    """Text to ids and back; nothing is added or taken away unless asked for."""

    def __init__(self, backend: Any, config: dict[str, Any] | None = None, template: str | None = None) -> None:
        self.backend, self.config, self.template = backend, config or {}, template

    @staticmethod
    def from_folder(folder: Path) -> Tokenizer | None:
        """The tokenizer beside a checkpoint, or None: tokenizer.json, or vocab.json with merges.txt (Dream's slow files)."""
        config = read_object(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
        if (folder / "tokenizer.json").exists():
            backend = _from_json(folder / "tokenizer.json")
        elif (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
            backend = _from_vocabulary(folder, config)
        else:
            return None
        return Tokenizer(backend, config, find_template(folder, config))

    def encode(self, text: str) -> list[int]:
        """Ids of the text; special tokens only where the text spells them."""
        return self.backend.encode(text, add_special_tokens=False).ids

    def continuation(self, text: str) -> list[int]:
        """Ids of a text that stands behind another one: without the space that some tokenizers put before a text."""
        for stand in (".", "a"):  # one of them does not merge with what follows
            before, both = self.encode(stand), self.encode(stand + text)
            if both[: len(before)] == before:
                return both[len(before) :]
        return self.encode(text)

    def decode(self, ids: Sequence[int], *, keep_special: bool = False) -> str:
        """The text of the ids; ids without a token (vocabulary padding) vanish."""
        return self.backend.decode(list(map(int, ids)), skip_special_tokens=not keep_special)

    def token(self, index: int) -> str:
        """How one id is spelled, '' if it has no token."""
        return self.backend.id_to_token(int(index)) or ""

    def id_of(self, token: str) -> int | None:
        """The id of one exact token."""
        return self.backend.token_to_id(token)

    def special(self, name: str) -> str | None:
        """How tokenizer_config.json spells "mask_token", "eos_token" and the like."""
        value = self.config.get(name)
        return None if value is None else _content(value)

    def chat(self, messages: Sequence[dict[str, str]], *, add_generation_prompt: bool = True) -> str:
        """The messages as one text, by the checkpoint's own template."""
        if self.template is None:
            raise RemaskError("this checkpoint has no chat template; generate without chat, or pick an instruction-tuned one")
        special = {key: _content(value) for key, value in self.config.items() if key.endswith("_token") and value is not None}
        return render_chat(self.template, messages, special, add_generation_prompt=add_generation_prompt)


def _content(value: Any) -> str:
    return value["content"] if isinstance(value, dict) else str(value)


def _from_json(path: Path) -> Any:
    from tokenizers import Tokenizer as Backend

    check_size(path)
    try:
        return Backend.from_file(str(path))
    except Exception as error:  # the bindings raise plain Exception
        raise RemaskError(f"{path} is no tokenizer ({str(error).splitlines()[0]}); download it again") from None


def _from_vocabulary(folder: Path, config: dict[str, Any]) -> Any:
    """Qwen2's byte-level BPE from its parts, with the added tokens of added_tokens.json and tokenizer_config.json."""
    from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
    from tokenizers import Tokenizer as Backend

    for name in ("vocab.json", "merges.txt"):
        check_size(folder / name)
    try:
        backend: Any = Backend(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    except Exception as error:  # as above
        raise RemaskError(f"vocab.json and merges.txt in {folder} do not fit ({str(error).splitlines()[0]}); download them again") from None
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN2_WORDS), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    backend.decoder = decoders.ByteLevel()
    added: dict[str, int] = dict(read_object(folder / "added_tokens.json")) if (folder / "added_tokens.json").exists() else {}
    details: dict[str, Any] = config.get("added_tokens_decoder") or {}
    added |= {value["content"]: int(index) for index, value in details.items()}
    special = {value["content"] for value in details.values() if value.get("special")}
    for token, index in sorted(added.items(), key=lambda pair: pair[1]):
        backend.add_tokens([AddedToken(token, special=token in special, normalized=False)])
        if backend.token_to_id(token) != index:
            raise RemaskError(f"token {token!r} of {folder} has id {index} and vocab.json leaves {backend.token_to_id(token)} for it; download the tokenizer files again")
    return backend
