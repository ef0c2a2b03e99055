"""What results inherit in `info`, and the record of operations."""

import threading

import numpy as np
import pytest

import metatensor
from metatensor import Labels, TensorBlock, TensorMap, _provenance
from metatensor._provenance import _merge, operation


def tensor(**info):
    block = TensorBlock(np.ones((2, 1)), Labels.range("atom", 2), [], Labels.single())
    result = TensorMap(Labels.single(), [block])
    for name, text in info.items():
        result.set_info(name, text)
    return result


@operation
def combine(tensor_1, tensor_2, factor=1.0):
    return TensorMap(tensor_1.keys, tensor_1.blocks())


@operation
def parts(tensors):
    return [combine(*tensors), tensors[0]]


def lines(tensor):
    return [line.split(" [")[0] for line in tensor.get_info("history").splitlines()]


def test_entries_that_agree_are_inherited():
    first, second = tensor(unit="eV", author="a", cutoff="5"), tensor(unit="eV", author="b", x="y")
    assert combine(first, second).info() == {"unit": "eV", "cutoff": "5", "x": "y"}
    assert combine(first, tensor_2=second).info() == combine(first, block_2=second).info()
    assert first.info() == {"unit": "eV", "author": "a", "cutoff": "5"}


def test_maps_in_lists_count_and_arguments_stay_as_they_are():
    first, second = tensor(unit="eV"), tensor(unit="meV")
    made, given = parts([first, second])
    assert made.info() == {}
    assert given is first
    assert first.info() == {"unit": "eV"}


@pytest.mark.parametrize(
    ("histories", "merged"),
    [
        (["a\nb", "a\nb"], "a\nb"),
        (["a\nb", "a\nc\nd"], "a\nb\nc\nd"),
        (["a\na", "a"], "a\na"),
        (["b", "c"], "b\nc"),
    ],
)
def test_histories_share_their_beginning(histories, merged):
    assert _merge([{"history": history} for history in histories]) == {"history": merged}


def test_operations_are_recorded_within_the_context_alone():
    with metatensor.record_history():
        once = combine(tensor(), tensor(), factor=0.5)
        twice = parts([once, tensor()])[0]
    assert lines(once) == ["combine(tensor_1=TensorMap, tensor_2=TensorMap, factor=0.5)"]
    assert lines(twice) == [*lines(once), "parts(tensors=[TensorMap, TensorMap])"]
    assert lines(combine(twice, tensor())) == lines(twice)


def test_methods_are_operations():
    block = TensorBlock(np.ones((2, 1)), Labels.range("atom", 2), [], Labels.range("n", 1))
    keyed = TensorMap(Labels.range("k", 1), [block])
    with metatensor.record_history():
        moved = keyed.keys_to_samples("k")
    assert lines(moved) == ["keys_to_samples(self=TensorMap, keys_to_move='k')"]


def test_other_threads_are_not_recorded():
    results = []
    with metatensor.record_history():
        thread = threading.Thread(target=lambda: results.append(combine(tensor(), tensor())))
        thread.start()
        thread.join()
    assert results[0].info() == {}


def test_arguments_on_one_line():
    @operation
    def show(tensor, *values):
        return tensor.copy()

    with metatensor.record_history():
        shown = show(tensor(), Labels.range("a", 3), np.ones((2, 3)), list(range(9)), None, "x\ny")
    assert lines(shown) == [
        "show(tensor=TensorMap, values=(Labels(a: 3 entries), ndarray of shape (2, 3), "
        "list of length 9, None, 'x\\ny'))"
    ]


def test_one_argument_has_one_name():
    block = metatensor.block_from_array(np.ones((2, 1)))
    with pytest.raises(TypeError, match="unexpected keyword argument 'block'"):
        metatensor.sum_over_samples(tensor=tensor(), block=block, sample_names="s")


def test_the_record_ends_where_a_generator_is_closed_by_another_thread():
    def generate():
        with metatensor.record_history():
            yield

    def start():
        generator = generate()
        next(generator)
        started.append(generator)

    started = []
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    with pytest.raises(ValueError, match="different Context"):
        started[0].close()
    assert _provenance._recorders == 0
