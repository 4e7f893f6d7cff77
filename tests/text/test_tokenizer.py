"""Tokenizers and chat templates give what the reference gives, and refuse what is broken or hostile."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from remask import RemaskError
from remask.text.chat import find_template, render_chat
from remask.text.ending import before_end, end_ids
from remask.text.tokenizer import Tokenizer
from remask.training.vocabulary import characters, train_bpe, write_tokenizer

ORACLE = Path(__file__).resolve().parents[3] / "shared" / "oracle"
needs_oracle = pytest.mark.skipif(not ORACLE.is_dir(), reason="no reference results beside this checkout")


def found(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer is not None
    return tokenizer


@needs_oracle
@pytest.mark.parametrize("family", ["llada", "dream", "mdlm", "dream without tokenizer.json"])
def test_ids_and_texts_equal_the_reference(family, tmp_path):
    folder = ORACLE / family.split()[0]
    if "without" in family:
        for name in ("vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json"):
            shutil.copy(folder / name, tmp_path)
    tokenizer = found(tmp_path if "without" in family else folder)
    stored = np.load(folder / "tokenizer.npz")
    for index, text in enumerate(stored["texts"].tolist()):
        ids = stored["ids"][stored["offsets"][index] : stored["offsets"][index + 1]].tolist()
        assert tokenizer.encode(text) == ids
        assert tokenizer.decode(ids, keep_special=True) == stored["decoded"][index]


@needs_oracle
@pytest.mark.parametrize("family", ["llada", "dream"])
def test_chats_equal_the_reference(family):
    tokenizer = found(ORACLE / family)
    stored = np.load(ORACLE / family / "tokenizer.npz")
    for index, (messages, ask) in enumerate(zip(stored["chat_messages"], stored["chat_add_generation_prompt"], strict=True)):
        text = tokenizer.chat(json.loads(str(messages)), add_generation_prompt=bool(ask))
        assert text == stored["chat_rendered"][index]
        assert tokenizer.encode(text) == stored["chat_ids"][stored["chat_offsets"][index] : stored["chat_offsets"][index + 1]].tolist()


@pytest.mark.parametrize(
    "attack", ["{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ raise_exception('no system role') }}", "{% for %}", "{{ messages[0].content.missing.deeper }}"]
)
def test_a_template_that_attacks_or_fails_is_one_clear_error(attack):
    with pytest.raises(RemaskError, match="chat template"):
        render_chat(attack, [{"role": "user", "content": "hi"}], {})


def test_an_absent_template_and_an_empty_chat_are_clear_errors(tmp_path):
    write_tokenizer(characters("01"), tmp_path)
    with pytest.raises(RemaskError, match="no chat template"):
        found(tmp_path).chat([{"role": "user", "content": "1"}])
    with pytest.raises(RemaskError, match="no messages"):
        render_chat("{{ messages }}", [], {})


def test_a_template_file_wins_and_a_list_gives_its_default(tmp_path):
    named = [{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}]
    assert find_template(tmp_path, {"chat_template": named}) == "d"
    (tmp_path / "chat_template.jinja").write_text("file")
    assert find_template(tmp_path, {"chat_template": named}) == "file"
    (tmp_path / "chat_template.jinja").write_text("x" * 200_000)
    with pytest.raises(RemaskError, match="200000 characters"):
        find_template(tmp_path, {})


@pytest.mark.parametrize(("name", "text"), [("tokenizer.json", "{"), ("tokenizer_config.json", "{"), ("tokenizer_config.json", "[]")])
def test_broken_tokenizer_files_are_named(name, text, tmp_path):
    write_tokenizer(characters("01"), tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(RemaskError, match=name):
        Tokenizer.from_folder(tmp_path)


def test_our_vocabulary_keeps_words_whole_and_digits_apart(tmp_path):
    write_tokenizer(train_bpe(["Finn has 12 apples. Rae = Finn - 9."] * 20, 320), tmp_path)
    tokenizer = found(tmp_path)
    for text in ("Finn has 12 apples.", "Rae = 9 - 12.", "naïve 数"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode("Finn")) == 1
    assert tokenizer.encode("has Finn")[-1] == tokenizer.encode("Finn")[0]
    assert [tokenizer.token(i) for i in tokenizer.encode("= 129")][-3:] == ["Ġ1", "2", "9"]
    assert tokenizer.id_of("<|mask|>") == tokenizer.backend.get_vocab_size() - 1
    assert tokenizer.id_of("<|endoftext|>") == tokenizer.backend.get_vocab_size() - 2
    with pytest.raises(RemaskError, match="200"):
        train_bpe(["a"], 200)


def test_text_ends_before_the_first_end_of_text():
    assert before_end([5, 6, 2, 7, 2], (2, 9)) == [5, 6]
    assert before_end([5, 9, 2], (2, 9)) == [5]
    assert before_end([5, 6], (2,)) == [5, 6]


def test_the_end_of_a_turn_ends_a_text_too_where_the_tokenizer_has_one():
    for known, expected in (({}, (10,)), ({"<|eot_id|>": 7, "<|im_end|>": 10}, (10, 7))):
        assert end_ids(SimpleNamespace(eos_ids=(10,), tokenizer=SimpleNamespace(id_of=known.get))) == expected
