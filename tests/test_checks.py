"""The error of the format."""

import pickle

import numpy as np
import pytest

import metatensor
from metatensor import Labels, MetatensorError


def test_metatensor_error():
    error = MetatensorError("what is wrong")
    assert isinstance(error, ValueError)
    assert str(error) == error.message == "what is wrong"
    assert error.status is None
    assert str(MetatensorError) == "<class 'metatensor.MetatensorError'>"
    assert metatensor.MetatensorError is MetatensorError


def test_metatensor_error_keeps_its_status_in_a_pickle():
    error = pickle.loads(pickle.dumps(MetatensorError("what is wrong", status=3)))
    assert (error.message, error.status) == ("what is wrong", 3)


def test_texts_begin_with_the_category():
    with pytest.raises(MetatensorError, match="^invalid parameter: ") as error:
        Labels(["a b"], np.zeros((1, 1), dtype=int))
    assert error.value.message == str(error.value)
