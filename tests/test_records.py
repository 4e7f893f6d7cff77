"""Records hold tensors: they never change, and two of them are equal when they are one."""

import dataclasses

import pytest

from remask.canvas import Canvas, Edit
from remask.decoders.base import View
from remask.denoise import Decoded, Sight, State, Step
from remask.prediction import Belief, LeftOut, Prediction, Summary
from remask.reuse.base import Pass, Scene


@pytest.mark.parametrize("kind", [Belief, Canvas, Decoded, Edit, LeftOut, Pass, Prediction, Scene, Sight, State, Step, Summary, View])
def test_a_record_is_frozen_and_compared_by_identity(kind):
    fields = dataclasses.fields(kind)
    record = kind(**{field.name: None for field in fields})
    assert record == record
    assert record != kind(**{field.name: None for field in fields})
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, fields[0].name, 1)
