"""What can't be right is one error that names the value and the remedy: refusals that no other test meets on its way."""

import math
import shutil
from pathlib import Path

import pytest
import torch

import remask
from remask.cli import train
from remask.engine import Engine
from remask.evaluation.flops import Shape
from remask.text.tokenizer import Tokenizer
from tests.chains import chain_b


class Stranger:
    """No part of ours."""

    def __repr__(self):
        return "Stranger()"


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda: remask.spec(Stranger()), r"Stranger\(\) is no registered part; register"),
        (lambda: remask.parse_decoder("spaced:inner=threshold"), "inner of decoder 'spaced' is 'threshold'; a part as a value stands in parentheses"),
        (lambda: remask.parse_decoder("joint_threshold"), "needs write_tau; write joint_threshold:write_tau="),
        (lambda: remask.parse_decoder("starr:reset_on_flip=yes"), "reset_on_flip.*'yes'; it must be true or false"),
        (lambda: remask.parse_window("blocks:length=8,origin=middle"), "origin.*middle.*prompt"),
        (lambda: remask.Blocks(8, origin="middle"), "origin is 'middle'; it must be prompt or canvas"),
        (lambda: remask.LowConfidence(score="least"), "score is 'least'; it must be max or sampled"),
        (lambda: Engine(chain_b(), max_rows=0), "max_rows is 0; it must be 1 or more"),
        (lambda: train.run(Path("recipes/sudoku.py"), minutes=math.nan), "minutes is nan; use 0 or more"),
        (lambda: Engine(chain_b(), queue=-1), "queue is -1; it must be 1 or more"),
        (lambda: Shape.of({"architectures": ["GPT2"]}), r"\['GPT2'\] tells no shape; FLOPs are counted for"),
        (lambda: remask.Suppress((1, 9))(torch.zeros(1, 2, 9)), "token 9 to suppress is outside the vocabulary of 9; use ids from 0 to 8"),
        (lambda: remask.decode(chain_b(), [[1]], max_new_tokens=3, shapers=(remask.Suppress((-1,)),)), "token -1 to suppress is outside"),
    ],
)
def test_a_wrong_value_is_named_with_its_remedy(made, told):
    with pytest.raises(remask.RemaskError, match=told):
        made()


def test_a_truncated_weights_file_is_named_and_nothing_is_loaded(checkpoint, tmp_path):
    folder = tmp_path / "cut"
    shutil.copytree(checkpoint, folder)
    file = next(folder.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(remask.RemaskError, match=rf"{file.name} is truncated or broken .*; download it again"):
        remask.load(folder)


def test_a_template_that_is_no_text_is_named(checkpoint, tmp_path):
    folder = tmp_path / "template"
    shutil.copytree(checkpoint, folder)
    (folder / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(remask.RemaskError, match=r"chat_template.jinja is not UTF-8 .*; download it again"):
        remask.load(folder)


def qwen(folder, merges="a b\n", added='{"<|x|>": 3}'):
    """The files of a byte-pair vocabulary in parts, three tokens wide."""
    (folder / "vocab.json").write_text('{"a": 0, "b": 1, "ab": 2}')
    (folder / "merges.txt").write_text(merges)
    (folder / "added_tokens.json").write_text(added)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "Qwen2Tokenizer"}')
    return folder


def test_a_vocabulary_in_parts_whose_parts_do_not_fit_is_named(tmp_path):
    assert Tokenizer.from_folder(qwen(tmp_path)).id_of("<|x|>") == 3
    with pytest.raises(remask.RemaskError, match=r"vocab.json and merges.txt in .* do not fit .*; download them again"):
        Tokenizer.from_folder(qwen(tmp_path, merges="a z\n"))
    with pytest.raises(remask.RemaskError, match=r"token '<\|x\|>' .* has id 7 and vocab.json leaves 3 for it"):
        Tokenizer.from_folder(qwen(tmp_path, added='{"<|x|>": 7}'))
