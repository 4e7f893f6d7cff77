"""No setting of any registered part is NaN, or infinite unless the part says what that means, however it is given."""

import math
import re
from dataclasses import MISSING, fields
from typing import get_type_hints

import pytest
import torch

import remask
from remask.shapers import COLDEST, HOTTEST
from remask.spec import REGISTRIES, parse_sampler

GIVEN = {"inner": (remask.Threshold(), "(threshold)"), "write_tau": (0.9, "0.9"), "edit_tau": (0.9, "0.9")}
"""Values for settings without a default, as they are and as spec strings write them."""


def floats(kind):
    hints = get_type_hints(kind)
    return [field.name for field in fields(kind) if "float" in str(hints[field.name])]


def numbers(kind):
    hints = get_type_hints(kind)
    return [field.name for field in fields(kind) if re.search("float|int", str(hints[field.name]))]


def needed(kind, but):
    return {field.name: GIVEN[field.name] for field in fields(kind) if field.default is MISSING and field.name != but}


FLOATS = [(registry, name, setting) for registry in REGISTRIES for name, kind in registry.items() for setting in floats(kind)]
NAMES = [f"{name}:{setting}" for _, name, setting in FLOATS]
PARSERS = {"decoder": remask.parse_decoder, "window": remask.parse_window, "reuse": remask.parse_reuse, "sampler": parse_sampler}


@pytest.mark.parametrize(("registry", "name", "setting"), FLOATS, ids=NAMES)
def test_no_setting_is_nan_in_python(registry, name, setting):
    others = {key: value for key, (value, _) in needed(registry[name], setting).items()}
    with pytest.raises(remask.RemaskError, match=rf"^{setting} is nan; it must be a number$"):
        registry[name](**others, **{setting: math.nan})


@pytest.mark.parametrize(("registry", "name", "setting"), FLOATS, ids=NAMES)
def test_no_setting_is_nan_in_a_spec_string(registry, name, setting):
    others = "".join(f"{key}={text}," for key, (_, text) in needed(registry[name], setting).items())
    with pytest.raises(remask.RemaskError, match=rf"^{setting} of \w+ '{name}' is 'nan'; it must be a number$"):
        PARSERS[registry.kind](f"{name}:{others}{setting}=nan")


NUMBERS = [(registry, name, setting) for registry in REGISTRIES for name, kind in registry.items() for setting in numbers(kind)]


@pytest.mark.parametrize("value", [math.inf, -math.inf])
@pytest.mark.parametrize(("registry", "name", "setting"), NUMBERS, ids=[f"{name}:{setting}" for _, name, setting in NUMBERS])
def test_no_setting_is_infinite_unless_the_part_says_what_that_means(registry, name, setting, value):
    kind = registry[name]
    others = {key: given for key, (given, _) in needed(kind, setting).items()}
    if setting in kind.unbounded and value > 0:
        made = kind(**others, **{setting: value})
        assert PARSERS[registry.kind](str(made)) == made
        assert re.search(rf"\binfinite\b[^.;]*\b{setting}\b|\b{setting}\b[^.;]*\binfinite\b", kind.__doc__)
        return
    with pytest.raises(remask.RemaskError, match=rf"^{setting} is {value}; it must be finite$"):
        kind(**others, **{setting: value})
    if setting in floats(kind):
        rest = "".join(f"{key}={text}," for key, (_, text) in needed(kind, setting).items())
        with pytest.raises(remask.RemaskError, match=rf"^{setting} is {value}; it must be finite$"):
            PARSERS[registry.kind](f"{name}:{rest}{setting}={value}")


def test_every_setting_that_may_be_infinite_is_one():
    for registry in REGISTRIES:
        assert all(set(kind.unbounded) <= set(floats(kind)) for kind in registry.values())


def test_a_setting_that_should_be_whole_is_not_nan_either():
    with pytest.raises(remask.RemaskError, match="steps is nan"):
        remask.LowConfidence(steps=math.nan)
    with pytest.raises(remask.RemaskError, match=r"last is \(2, nan\); it must be a number"):
        remask.LowConfidence(last=(2, math.nan))


def test_all_kinds_of_parts_are_tried():
    assert {registry.kind for registry, *_ in FLOATS} == {"decoder", "window", "reuse", "sampler"}
    assert len(FLOATS) > 60


@pytest.mark.parametrize("made", [remask.Temperature, remask.TopP])
def test_no_shaper_takes_what_is_no_finite_number(made):
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(remask.RemaskError, match=f"is {value}; it must be"):
            made(value)


@pytest.mark.parametrize("value", [COLDEST, HOTTEST])
def test_no_temperature_makes_logits_that_are_no_numbers(value):
    """A softmax of them would be NaN, and nothing would ever be written."""
    logits = torch.tensor([[[88.0, -88.0, 0.0, -math.inf]]])
    assert not torch.softmax(remask.Temperature(value)(logits), -1).isnan().any()
    for beyond in (value**1.3, value**9):
        with pytest.raises(remask.RemaskError, match=re.escape(f"temperature is {beyond}; it must be 0 (greedy), or between")):
            remask.Temperature(beyond)
