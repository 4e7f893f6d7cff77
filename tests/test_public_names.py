"""The names that others build on: all there, all of them meant, and doing what their signature promises."""

import importlib
import importlib.util
import subprocess
import sys
import types

import pytest
import torch

import remask
from tests.chains import chain_b

CONTRACT = (
    "load", "decode", "denoise", "generate", "log_likelihood", "Canvas", "Edit", "Step", "RemaskError", "Completion",
    "parse_decoder", "parse_window", "parse_reuse", "decoders", "windows", "reuses",
    "LowConfidence", "STaRR", "Blocks", "Whole", "Fresh", "SureLock", "Temperature", "TopP", "TopK",
    "testing.MarkovDenoiser", "testing.RecordedUniforms", "evaluation.tasks.get",
)  # fmt: skip


@pytest.mark.parametrize("name", CONTRACT)
def test_a_promised_name_is_there(name):
    found = remask
    for part in name.split("."):
        found = getattr(found, part)
    assert callable(found)


def test_all_is_what_is_importable_and_nothing_else_is_public():
    homes = [importlib.import_module(home) for home in remask.HOMES]
    assert sorted(name for home in homes for name in home.__all__) == remask.__all__, "each name has one home"
    assert {name for name in vars(remask.public) if not name.startswith("_")} == set(remask.public.__all__)
    assert [name for name in remask.__all__ if isinstance(getattr(remask, name), types.ModuleType)] == ["evaluation", "testing"]
    assert set(dir(remask)) == {*remask.__all__, "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'decoder'"):
        remask.decoder  # noqa: B018


def test_a_module_does_not_hide_the_function_of_its_name():
    """In a new process, where the modules are imported before any public name is asked for."""
    modules = sorted(name for name in remask.__all__ if importlib.util.find_spec(f"remask.{name}") and name not in ("evaluation", "testing"))
    assert set(modules) == remask.FUNCTIONS
    script = f"import {', '.join(f'remask.{name}' for name in modules)}; print([callable(getattr(remask, name)) for name in {modules!r}])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == str([True] * len(modules)).split()


def test_every_registered_part_is_a_public_name_and_describes_itself():
    for registry in (remask.decoders(), remask.windows(), remask.reuses()):
        for kind in registry.values():
            assert getattr(remask, kind.__name__) is kind
            assert kind.__doc__
            assert not kind.__doc__.startswith(kind.__name__ + "("), f"{kind.__name__} has no docstring of its own"


def test_a_registry_is_handed_out_as_a_copy():
    remask.decoders().clear()
    assert remask.decoders()


@pytest.mark.parametrize("part", [remask.Threshold(0.7, strict=True), remask.Blocks(8, origin="canvas"), remask.SureLock(eps=0.01), remask.Dual(inner=remask.SureLock())])
def test_a_part_is_its_spec_string_and_its_repr_is_pythons(part):
    parse = next(parse for kind, parse in ((remask.Threshold, remask.parse_decoder), (remask.Blocks, remask.parse_window), (object, remask.parse_reuse)) if isinstance(part, kind))
    assert parse(str(part)) == part
    assert eval(repr(part), vars(remask)) == part


def test_a_part_that_is_not_registered_keeps_its_repr():
    class Own(remask.Threshold):
        pass

    assert str(Own()) == repr(Own())


def test_a_loaded_model_has_what_is_promised(checkpoint):
    model = remask.load(checkpoint)
    assert (model.mask_id, model.eos_ids, model.config["d_model"]) == (11, (10,), 16)
    assert model.tokenizer.decode(model.tokenizer.encode("42")) == "42"
    tokens = torch.tensor([[4, 11, 11], [11, 5, 11]])
    logits = model.logits(tokens)
    assert logits.dtype == torch.float32
    assert logits.shape == (2, 3, 12)
    padded = torch.tensor([[11, 11, 4, 11, 11]])
    torch.testing.assert_close(model.logits(padded, attention_mask=torch.tensor([[0, 0, 1, 1, 1]]))[0, 2:], logits[0], atol=1e-5, rtol=0)


def test_what_decode_and_generate_return(checkpoint):
    model = remask.load(checkpoint)
    result = remask.decode(model, [[1], [1, 2, 3]], max_new_tokens=4)
    assert [row.tolist()[: len(prompt)] for row, prompt in zip(result.tokens, ([1], [1, 2, 3]), strict=True)] == [[1], [1, 2, 3]]
    assert [row.dtype for row in result.tokens] == [torch.int64] * 2
    assert [len(row) for row in result.tokens] == [5, 7]
    assert result.forwards.tolist() == [4, 4]
    assert result.positions.tolist() == [20, 28]
    completion = remask.generate(model, ["1"], max_new_tokens=4, early_stop=False)[0]
    assert isinstance(completion, remask.Completion)
    assert (completion.stats.forwards, completion.stats.positions) == (4, 20)
    assert completion.stats.generated == len(completion.tokens) <= 4
    assert completion.stats.tokens_per_forward == completion.stats.generated / 4
    assert completion.text == model.tokenizer.decode(completion.tokens)


def test_a_canvas_of_prompts_is_denoised_step_by_step():
    canvas = remask.Canvas.from_prompts([[0], [3, 4, 8, 2]], max_new_tokens=3, mask_id=8)
    assert canvas.masked.sum(1).tolist() == [3, 4]
    steps = list(remask.denoise(chain_b(), canvas, seed=[7, 9]))
    assert all(isinstance(step, remask.Step) for step in steps)
    assert steps[-1].forwards.tolist() == [3, 4]


def test_nothing_but_new_tokens_is_unconditional_and_no_new_tokens_infill():
    assert len(remask.decode(chain_b(), [[]], max_new_tokens=5).tokens[0]) == 5
    infilled = remask.decode(chain_b(), torch.tensor([[2, 8, 8, 5, 8]])).tokens[0].tolist()
    assert infilled[0] == 2
    assert infilled[3] == 5
    assert 8 not in infilled


def test_all_our_errors_are_value_errors():
    assert issubclass(remask.RemaskError, ValueError)
