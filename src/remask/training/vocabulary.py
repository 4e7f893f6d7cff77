"""Tokenizers for the models we train: byte-level BPE with digits one by one, and plain characters."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from remask.errors import RemaskError

EOS, MASK = "<|endoftext|>", "<|mask|>"
WORDS = r" ?[0-9]| ?[A-Za-z]+| ?[^\sA-Za-z0-9]+|\s+"
"""A word, a run of marks or one digit, each with the space before it."""


def train_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE; text starts as if a space stood before it, so that a word is one token wherever it stands.

    The last two ids are the end-of-text and the mask.
    """
    if vocab_size < 300:
        raise RemaskError(f"vocab_size is {vocab_size}; byte-level BPE needs at least 300 (256 bytes, merges, two special tokens)")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Prepend(" ")  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # pyright: ignore[reportAttributeAccessIssue]
        [pre_tokenizers.Split(Regex(WORDS), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(vocab_size=vocab_size - 2, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)  # pyright: ignore[reportCallIssue]
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([EOS, MASK])
    return tokenizer


def characters(alphabet: str) -> Tokenizer:
    """One token a character of the alphabet, then the end-of-text and the mask."""
    vocabulary = {character: index for index, character in enumerate(alphabet)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=alphabet[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.Fuse()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.add_special_tokens([EOS, MASK])
    return tokenizer


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """tokenizer.json and tokenizer_config.json in the published layout."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = f'{{\n  "eos_token": "{EOS}",\n  "mask_token": "{MASK}",\n  "tokenizer_class": "PreTrainedTokenizerFast"\n}}\n'
    (folder / "tokenizer_config.json").write_text(config, encoding="utf-8")
