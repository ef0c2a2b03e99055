"""Maps: blocks by key."""

import copy
import gc
import itertools
import pickle
import sys
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metatensor import Labels, LabelsEntry, MetatensorError, TensorBlock, TensorMap
from metatensor.testing import assert_equal
from metatensor.testing import tensors as any_tensors

N = Labels.range("n", 2)


def labels(names, rows):
    return Labels(list(names), np.array(rows, dtype=int).reshape(len(rows), len(names)))


def make_block(n_samples=3, asarray=np.asarray, samples="s", components=(), properties=N):
    shape = (n_samples, *map(len, components), len(properties))
    values = np.arange(np.prod(shape), dtype=float).reshape(shape)
    return TensorBlock(asarray(values), Labels.range(samples, n_samples), components, properties)


def with_gradient(parameter="g", names=("sample", "atom"), components=(), block=None):
    block = make_block() if block is None else block
    samples = labels(names, [[0] * len(names)])
    shape = (1, *map(len, components), *block.shape[1:])
    block.add_gradient(
        parameter,
        TensorBlock(np.zeros(shape), samples, [*components, *block.components], block.properties),
    )
    return block


def make_tensor(asarray=np.asarray):
    """Four blocks with 1, 2, 3, 4 samples."""
    keys = labels("ab", [[0, 1], [1, 0], [0, 2], [3, 3]])
    return TensorMap(keys, [make_block(n, asarray) for n in (1, 2, 3, 4)])


EMPTY = TensorMap(Labels.empty(["a", "b"]), [])

# ---------------------------------------------------------------------------------- constructor


def test_blocks_of_every_library(xp):
    tensor = make_tensor(xp.asarray)
    block = tensor.block(a=1)
    assert tensor.dtype == block.values.dtype
    assert tensor.device == block.device
    assert [len(block) for block in tensor] == [1, 2, 3, 4]
    assert type(block.values) is type(xp.asarray([1.0]))


@pytest.mark.parametrize("container", [list, tuple, iter, lambda blocks: (b for b in blocks)])
def test_blocks_are_any_iterable(container):
    blocks = [make_block(1), make_block(2)]
    assert len(TensorMap(labels("k", [[0], [1]]), container(blocks))) == 2
    assert [len(block) for block in blocks] == [1, 2]


def test_one_block_may_occur_several_times():
    block = make_block()
    tensor = TensorMap(Labels.range("k", 2), [block, block])
    assert tensor[0].values is tensor[1].values is block.values


@pytest.mark.parametrize(
    ("keys", "blocks"),
    [
        (None, []),
        (3, []),
        (["k"], [make_block()]),
        (np.array([[0]]), [make_block()]),
        (Labels.single()[0], [make_block()]),
        (Labels.single(), None),
        (Labels.single(), 3),
        (Labels.single(), make_block()),
        (Labels.single(), [None]),
        (Labels.single(), ["a"]),
        (Labels.single(), [np.zeros((2, 2))]),
        (Labels.single(), [make_tensor()]),
        (Labels.single(), "a"),
    ],
)
def test_other_types_are_refused(keys, blocks):
    with pytest.raises(TypeError):
        TensorMap(keys, blocks)


@pytest.mark.parametrize(("n_keys", "n_blocks"), [(0, 1), (1, 0), (2, 1), (1, 2), (3, 5)])
def test_one_block_for_each_key(n_keys, n_blocks):
    with pytest.raises(MetatensorError, match=f"{n_keys} keys, got {n_blocks}$"):
        TensorMap(Labels.range("k", n_keys), [make_block() for _ in range(n_blocks)])


XYZ, XYZ2 = Labels.range("xyz", 3), Labels("xyz", np.array([[5], [7]]))

#: what differs, a first and another block
DIFFERENCES = {
    "sample names": (make_block(), make_block(samples="z")),
    "property names": (make_block(), make_block(properties=Labels.range("z", 2))),
    "number of properties dimensions": (
        make_block(),
        make_block(properties=labels("nz", [[0, 0]])),
    ),
    "number of components": (make_block(), make_block(components=[XYZ])),
    "component names": (
        make_block(components=[Labels.range("abc", 3)]),
        make_block(components=[XYZ]),
    ),
    "order of components": (
        make_block(components=[XYZ, Labels.range("abc", 3)]),
        make_block(components=[Labels.range("abc", 3), XYZ]),
    ),
    "a gradient": (make_block(), with_gradient()),
    "no gradient": (with_gradient(), make_block()),
    "gradient names": (with_gradient("g"), with_gradient("h")),
    "gradient sample names": (with_gradient(), with_gradient(names=["sample", "z"])),
    "gradient components": (with_gradient(), with_gradient(components=[XYZ])),
    "dtype": (make_block(), make_block().to(np.float32)),
    "kind of dtype": (make_block().to(np.int64), make_block().to(np.uint64)),
}


@pytest.mark.parametrize("what", DIFFERENCES)
def test_what_all_blocks_must_have_in_common(what):
    first, other = DIFFERENCES[what]
    for blocks in ([first, other], [first, first, other], [other, first]):
        keys = labels("k", [[5 + i] for i in range(len(blocks))])
        with pytest.raises(MetatensorError, match=rf"block for key \(k={4 + len(blocks)}\)"):
            TensorMap(keys, blocks)


def test_nested_gradients_must_have_the_same_names():
    def nested(name):
        gradient = with_gradient().gradient("g").copy()
        with_gradient(name, block=gradient)
        block = make_block()
        block.add_gradient("g", gradient)
        return block

    TensorMap(Labels.range("k", 2), [nested("h"), nested("h")])
    for blocks in ([nested("h"), nested("z")], [nested("h"), with_gradient()]):
        with pytest.raises(MetatensorError, match="the gradient 'g' of the block for key"):
            TensorMap(Labels.range("k", 2), blocks)


def test_what_may_differ_between_blocks():
    blocks = [
        make_block(3, components=[XYZ]),
        make_block(0, components=[XYZ]),
        make_block(2, components=[XYZ2], properties=Labels.empty("n")),
    ]
    tensor = TensorMap(Labels.range("k", 3), blocks)
    assert [block.shape for block in tensor] == [(3, 3, 2), (0, 3, 2), (2, 2, 0)]
    one, two = with_gradient("g"), with_gradient("h")
    with_gradient("h", block=one), with_gradient("g", block=two)
    tensor = TensorMap(Labels.range("k", 2), [one, two])
    assert [block.gradients_list() for block in tensor] == [["g", "h"], ["h", "g"]]


def test_byte_order_does_not_count():
    big = make_block(asarray=lambda values: values.astype(">f8"))
    tensor = TensorMap(Labels.range("k", 2), [make_block(), big])
    assert tensor[1].dtype == np.dtype(">f8")


def test_libraries_and_devices_are_not_mixed():
    torch = pytest.importorskip("torch")
    with pytest.raises(MetatensorError, match="array library of the first one, numpy, got torch"):
        TensorMap(Labels.range("k", 2), [make_block(), make_block(asarray=torch.asarray)])
    on_meta = make_block(asarray=lambda values: torch.asarray(values, device="meta"))
    with pytest.raises(MetatensorError, match="device"):
        TensorMap(Labels.range("k", 2), [make_block(asarray=torch.asarray), on_meta])
    parameter = make_block(asarray=lambda values: torch.nn.Parameter(torch.asarray(values)))
    TensorMap(Labels.range("k", 2), [make_block(asarray=torch.asarray), parameter])


def test_blocks_stay_usable_when_the_map_fails():
    """Upstream empties them even then."""
    blocks = [make_block(), make_block(samples="z")]
    with pytest.raises(MetatensorError):
        TensorMap(Labels.range("k", 2), blocks)
    assert [block.shape for block in blocks] == [(3, 2), (3, 2)]
    assert not blocks[0].is_view


def test_type_name():
    assert str(TensorMap) == "<class 'metatensor.TensorMap'>"
    assert len(TensorMap(keys=Labels.single(), blocks=[make_block()])) == 1


@pytest.mark.parametrize("name", ["keys", "dtype", "device", "is_view", "sample_names", "new"])
def test_attributes_can_not_be_assigned(name):
    with pytest.raises(AttributeError):
        setattr(make_tensor(), name, 3)


# ---------------------------------------------------------------------------------- access


def test_members():
    tensor = TensorMap(
        labels("ab", [[0, 1]]), [make_block(components=[XYZ, Labels.range("abc", 2)])]
    )
    assert tensor.keys is tensor.keys
    assert tensor.sample_names == ["s"]
    assert tensor.component_names == ["xyz", "abc"]
    assert tensor.property_names == ["n"]
    assert tensor.dtype == np.float64
    assert tensor.device == "cpu"
    assert tensor.is_view is False
    assert tensor.block().is_view
    assert bool(tensor) is True
    tensor.sample_names.append("z")
    assert tensor.sample_names == ["s"]


@pytest.mark.parametrize(
    "index",
    [0, 3, True, np.int64(2), np.uint8(1), np.array(1)],
)
def test_block_by_id(index):
    assert len(make_tensor().block_by_id(index)) == int(index) + 1


def test_block_by_id_refuses():
    tensor = make_tensor()
    for index in (4, 99, 2**70, np.int64(4)):
        with pytest.raises(IndexError, match="4 blocks"):
            tensor.block_by_id(index)
        with pytest.raises(IndexError):
            tensor.blocks_by_id([0, index])
    for index in (-1, -(2**70), np.int64(-4)):
        with pytest.raises(MetatensorError, match="can not be negative"):
            tensor.block_by_id(index)
    for index in (1.0, "a", None, [0], slice(0, 1), np.array([0])):
        with pytest.raises(TypeError):
            tensor.block_by_id(index)


def test_blocks_by_id():
    tensor = make_tensor()
    for indices in ([2, 0, 0], (2, 0, 0), np.array([2, 0, 0]), iter([2, 0, 0])):
        assert [len(block) for block in tensor.blocks_by_id(indices)] == [3, 1, 1]
    assert tensor.blocks_by_id([]) == []


def test_iteration():
    tensor = make_tensor()
    assert [len(block) for block in tensor] == [1, 2, 3, 4]
    assert [len(block) for block in iter(tensor)] == [1, 2, 3, 4]
    items = list(tensor.items())
    assert all(isinstance(key, LabelsEntry) for key, _ in items)
    assert [tuple(key) for key, _ in items] == [(0, 1), (1, 0), (0, 2), (3, 3)]
    assert [block for _, block in items] == list(tensor)
    assert [a for (a, _), _ in tensor.items()] == [0, 1, 0, 3]
    assert all(tensor[key] is block for key, block in tensor.items())
    assert next(tensor.items())[1] is tensor[0]


#: every kind of selection, and the positions it matches in `make_tensor`
SELECTIONS = [
    (0, [0]),
    (3, [3]),
    (True, [1]),
    (None, [0, 1, 2, 3]),
    ({}, [0, 1, 2, 3]),
    ({"a": 0}, [0, 2]),
    ({"a": 3}, [3]),
    ({"b": 0}, [1]),
    ({"b": 9}, []),
    ({"a": 0, "b": 2}, [2]),
    ({"b": 2, "a": 0}, [2]),
    ({"a": 0, "b": 9}, []),
    ({"a": np.int64(3)}, [3]),
    ({"a": np.uint8(0), "b": np.int8(2)}, [2]),
    ({"a": True}, [1]),
    ({"a": True, "b": False}, [1]),
    ({"a": np.array(3)}, [3]),
    ({"a": 2**31}, []),
    ({"a": 2**40, "b": 0}, []),
    ({"a": -(2**70)}, []),
    ({"a": 0, "b": 2**70}, []),
    (labels("ab", [[0, 2]])[0], [2]),
    (labels("ba", [[2, 0]])[0], [2]),
    (labels("a", [[0]])[0], [0, 2]),
    (labels("b", [[0]])[0], [1]),
    (labels("ab", [[9, 9]])[0], []),
    (labels("ab", [[0, 2]]), [2]),
    (labels("ba", [[2, 0]]), [2]),
    (labels("a", [[0]]), [0, 2]),
    (labels("a", [[3], [1]]), [1, 3]),
    (labels("a", [[3], [9]]), [3]),
    (labels("ab", [[3, 3], [9, 9], [0, 1]]), [3, 0]),
    (labels("ba", [[3, 3], [1, 0]]), [0, 3]),
    (labels("a", []), []),
    (labels("ab", []), []),
    (Labels.empty([]), [0, 1, 2, 3]),
    (Labels([], np.zeros((1, 0), dtype=int)), [0, 1, 2, 3]),
]


@pytest.mark.parametrize(("selection", "expected"), SELECTIONS, ids=repr)
def test_selections(selection, expected):
    tensor = make_tensor()
    if expected:
        assert tensor.blocks(selection) == [tensor[i] for i in expected]
    else:
        with pytest.raises(ValueError, match="no block matches"):
            tensor.blocks(selection)
    for access in (tensor.block, tensor.__getitem__):
        if len(expected) == 1:
            assert access(selection) is tensor[expected[0]]
        else:
            match = "no block matches" if not expected else f"{len(expected)} blocks match"
            with pytest.raises(ValueError, match=match) as error:
                access(selection)
            assert not isinstance(error.value, MetatensorError)


@pytest.mark.parametrize(
    ("selection", "expected"), [row for row in SELECTIONS if isinstance(row[0], dict)], ids=repr
)
def test_selections_by_keyword(selection, expected):
    tensor = make_tensor()
    if expected:
        assert tensor.blocks(**selection) == [tensor[i] for i in expected]
    else:
        with pytest.raises(ValueError, match="no block matches"):
            tensor.blocks(**selection)
    if len(expected) == 1:
        assert tensor.block(**selection) is tensor[expected[0]]


def test_a_selection_wins_over_keywords():
    tensor = make_tensor()
    assert tensor.block(3, a=1) is tensor[3]
    assert tensor.block({"a": 3}, a=1) is tensor[3]
    assert tensor.block(None, a=1) is tensor[1]


@pytest.mark.parametrize(
    ("selection", "error"),
    [
        (4, IndexError),
        (2**70, IndexError),
        (-1, MetatensorError),
        (np.int64(0), TypeError),
        (np.uint8(0), TypeError),
        (0.0, TypeError),
        ("a", TypeError),
        ((0, 1), TypeError),
        (slice(0, 1), TypeError),
        (np.array([0, 1]), TypeError),
        (b"a", TypeError),
        ({"a": 0.0}, TypeError),
        ({"a": 0.0, "b": 1}, TypeError),
        ({"a": np.float64(0), "b": 1}, TypeError),
        ({"a": "0"}, TypeError),
        ({"a": None, "b": 1}, TypeError),
        ({"a": [0]}, TypeError),
        ({"a": [0], "b": [1]}, TypeError),
        ({3: 0}, TypeError),
        ({"z": 0}, MetatensorError),
        ({"a": 0, "z": 0}, MetatensorError),
        ({"a": 0, "b": 1, "z": 0}, MetatensorError),
        ({"a b": 0}, MetatensorError),
        ({"": 0}, MetatensorError),
        (labels("z", [[0]])[0], MetatensorError),
        (labels("az", [[0, 0]]), MetatensorError),
        (labels("z", []), MetatensorError),
    ],
    ids=repr,
)
def test_selections_that_are_refused(selection, error):
    tensor = make_tensor()
    for access in (tensor.block, tensor.blocks, tensor.__getitem__):
        with pytest.raises(error):
            access(selection)
    if isinstance(selection, dict) and all(isinstance(name, str) for name in selection):
        with pytest.raises(error):
            tensor.block(**selection)


@given(any_tensors(), st.data())
def test_selections_against_a_loop(tensor, data):
    names = data.draw(st.lists(st.sampled_from(tensor.keys.names), unique=True))
    if len(tensor) and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(list(tensor.keys)))
        values = [int(key[name]) for name in names]
    else:
        values = [data.draw(st.integers(-3, 5)) for _ in names]
    expected = [
        block
        for key, block in tensor.items()
        if all(key[name] == value for name, value in zip(names, values, strict=True))
    ]
    forms = [dict(zip(names, values, strict=True))]
    if names:
        forms += [labels(names, [values]), labels(names, [values])[0]]
    for selection in forms:
        if expected or not len(tensor):
            found = tensor.blocks(selection)
            assert len(found) == len(expected)
            assert all(a is b for a, b in zip(found, expected, strict=True))
        else:
            with pytest.raises(ValueError, match="no block matches"):
                tensor.blocks(selection)


def test_selection_among_many_blocks():
    keys = Labels(["a", "b"], np.array(list(itertools.product(range(40), range(25)))))
    block = make_block(1)
    tensor = TensorMap(keys, [block.copy() for _ in keys])
    assert tensor.block(a=39, b=24) is tensor[999]
    assert len(tensor.blocks(b=3)) == 40
    assert [tensor.block(key) for key in keys] == list(tensor)


# ---------------------------------------------------------------------------------- empty maps


def test_empty_map():
    assert len(EMPTY) == 0
    assert not EMPTY
    assert EMPTY.dtype is None
    assert EMPTY.device == "cpu"
    assert EMPTY.sample_names == EMPTY.component_names == EMPTY.property_names == []
    assert list(EMPTY) == list(EMPTY.items()) == EMPTY.blocks() == EMPTY.blocks_by_id([]) == []
    assert (
        EMPTY.blocks({"a": 0}) == EMPTY.blocks(a=0, b=1) == EMPTY.blocks(labels("a", [[0]])) == []
    )
    assert EMPTY == EMPTY.copy() == EMPTY.copy(deep=False) == EMPTY.to(np.float32)
    assert TensorMap(Labels.empty(["a", "c"]), []) != EMPTY
    assert pickle.loads(pickle.dumps(EMPTY)) == EMPTY


@pytest.mark.parametrize(
    ("selection", "error"),
    [
        (None, ValueError),
        ({}, ValueError),
        ({"a": 0}, ValueError),
        (labels("a", [[0]]), ValueError),
        (0, IndexError),
        (3, IndexError),
        ({"z": 0}, MetatensorError),
        (labels("z", [[0]]), MetatensorError),
        (1.0, TypeError),
        ("a", TypeError),
    ],
    ids=repr,
)
def test_selecting_in_an_empty_map(selection, error):
    with pytest.raises(error):
        EMPTY.block(selection)
    with pytest.raises(error):
        EMPTY[selection]
    if error in (MetatensorError, TypeError):
        with pytest.raises(error):
            EMPTY.blocks(selection)


# ---------------------------------------------------------------------------------- info


def test_info():
    tensor = make_tensor()
    assert tensor.info() == {}
    assert tensor.get_info("unit") is None
    for key, value in [("unit", "eV"), ("a", "1"), ("", "empty"), ("é", "ü\n\0"), ("unit", "meV")]:
        tensor.set_info(key, value)
    assert list(tensor.info().items()) == [
        ("unit", "meV"),
        ("a", "1"),
        ("", "empty"),
        ("é", "ü\n\0"),
    ]
    assert tensor.get_info("é") == "ü\n\0"
    tensor.info()["unit"] = "changed"
    assert tensor.get_info("unit") == "meV"


def test_an_empty_text_is_kept():
    """Upstream reads it back as None."""
    tensor = make_tensor()
    tensor.set_info("a", "")
    assert tensor.get_info("a") == ""
    assert tensor.copy().info() == {"a": ""}


@pytest.mark.parametrize(
    ("key", "value"), [(3, "a"), ("a", 3), (None, "a"), ("a", None), (b"a", "")]
)
def test_info_is_made_of_str(key, value):
    with pytest.raises(TypeError, match="must be str"):
        make_tensor().set_info(key, value)


@pytest.mark.parametrize(
    "copied",
    [
        TensorMap.copy,
        lambda tensor: tensor.copy(deep=False),
        copy.copy,
        copy.deepcopy,
        lambda tensor: tensor.to(np.float32),
        lambda tensor: tensor.to("cpu"),
        lambda tensor: pickle.loads(pickle.dumps(tensor)),
        lambda tensor: tensor.keys_to_samples("a"),
        lambda tensor: tensor.keys_to_properties("a"),
        lambda tensor: tensor.components_to_properties("xyz"),
    ],
)
def test_info_is_kept_by(copied):
    tensor = TensorMap(labels("ab", [[0, 1]]), [make_block(components=[XYZ])])
    tensor.set_info("b", "1")
    tensor.set_info("a", "2")
    other = copied(tensor)
    assert other.info() == {"a": "2", "b": "1"}
    other.set_info("c", "3")
    assert tensor.get_info("c") is None


# ---------------------------------------------------------------------------------- copy, to


def test_copies_share_keys_and_labels(xp):
    tensor = make_tensor(xp.asarray)
    for deep, other in [
        (True, tensor.copy()),
        (True, copy.deepcopy(tensor)),
        (False, tensor.copy(deep=False)),
        (False, copy.copy(tensor)),
    ]:
        assert_equal(other, tensor)
        assert other is not tensor
        assert other.keys.values is tensor.keys.values
        for block, copied in zip(tensor, other, strict=True):
            assert (copied.values is block.values) is not deep
            assert copied.samples.values is block.samples.values
            assert copied.is_view


def test_to():
    tensor = TensorMap(Labels.range("k", 2), [with_gradient(), with_gradient()])
    for other in (tensor.to(np.float32), tensor.to(dtype="float32", device="cpu")):
        assert other.dtype == np.float32
        assert other[1].gradient("g").dtype == np.float32
        assert other.keys is tensor.keys
        assert other == tensor
    same = tensor.to("cpu")
    assert same is not tensor
    assert same[0].values is tensor[0].values
    with pytest.raises(ValueError, match="cpu"):
        tensor.to("cuda")
    with pytest.raises(ValueError, match="more than one dtype"):
        tensor.to(np.float32, np.float64)
    with pytest.raises(TypeError):
        tensor.to(3)


def test_to_torch_moves_keys_too():
    torch = pytest.importorskip("torch")
    tensor = make_tensor()
    moved = tensor.to(arrays="torch")
    assert isinstance(moved.keys.values, torch.Tensor)
    assert isinstance(moved[0].samples.values, torch.Tensor)
    assert moved.device == torch.device("cpu")
    assert moved.block(a=1) is moved[1]
    assert moved.block(moved.keys[2]) is moved[2]
    assert_equal(moved.to(arrays="numpy"), tensor)
    assert EMPTY.to(arrays="torch").keys.values.shape == (0, 2)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(protocol):
    tensor = TensorMap(Labels.range("k", 2), [with_gradient(), with_gradient()])
    tensor.set_info("a", "b")
    back = pickle.loads(pickle.dumps(tensor, protocol))
    assert_equal(back, tensor)
    assert back[0].is_view


@given(any_tensors(depth=2))
def test_copies_and_pickles_are_the_same(tensor):
    assert_equal(tensor.copy(), tensor)
    assert_equal(tensor.copy(deep=False), tensor)
    assert_equal(pickle.loads(pickle.dumps(tensor)), tensor)
    assert tensor.copy() == tensor


# ---------------------------------------------------------------------------------- equality


def test_equality_does_not_depend_on_the_order_of_keys(xp):
    tensor = make_tensor(xp.asarray)
    order = [2, 0, 3, 1]
    other = TensorMap(
        Labels(["a", "b"], tensor.keys.values[order]), [tensor[position] for position in order]
    )
    assert tensor == other
    assert (tensor != other) is False
    assert tensor == make_tensor()


@pytest.mark.parametrize(
    "other",
    [
        TensorMap(make_tensor().keys, [make_block(n) for n in (1, 2, 3, 5)]),
        TensorMap(make_tensor().keys.rename("a", "z"), list(make_tensor())),
        TensorMap(labels("ab", [[0, 1], [1, 0], [0, 2], [3, 4]]), list(make_tensor())),
        TensorMap(labels("ab", [[0, 1], [1, 0], [0, 2]]), list(make_tensor())[:3]),
        TensorMap(make_tensor().keys, [with_gradient(block=b.copy()) for b in make_tensor()]),
        EMPTY,
    ],
)
def test_inequality(other):
    assert (make_tensor() == other) is False
    assert (make_tensor() != other) is True


def test_maps_equal_nothing_else():
    """Upstream raises AttributeError."""
    for other in [None, 3, "a", make_block(), Labels.single(), [make_block()]]:
        assert (make_tensor() == other) is False
        assert (make_tensor() != other) is True
    with pytest.raises(TypeError):
        hash(make_tensor())


# ---------------------------------------------------------------------------------- memory, threads


def test_blocks_outlive_their_map():
    tensor = TensorMap(Labels.range("k", 2), [with_gradient(), with_gradient()])
    block, key = tensor.block(1), tensor.keys[1]
    gradient = tensor.block(0).gradient("g")
    del tensor
    gc.collect()
    assert block.values.shape == (3, 2)
    assert gradient.samples.names == ["sample", "atom"]
    assert int(key["k"]) == 1


def test_a_map_is_freed_without_collecting_cycles():
    gc.disable()
    try:
        tensor = make_tensor()
        alive = weakref.ref(tensor), weakref.ref(tensor[0].values), weakref.ref(tensor.keys)
        tensor.block(a=1)
        list(tensor.items())
        with pytest.raises(ValueError, match="no block"):
            tensor.block(a=9)
        assert tensor == tensor.copy()
        repr(tensor)
        del tensor
        assert [reference() for reference in alive] == [None, None, None]
    finally:
        gc.enable()


def test_nothing_refers_to_a_map_afterwards():
    tensor = make_tensor()
    before = sys.getrefcount(tensor)
    for _ in range(3):
        tensor.copy()[0].values.sum()
        tensor.copy(deep=False)
        tensor.to(np.float32)
        assert [block for _, block in tensor.items()] == list(tensor)
        pickle.dumps(tensor)
    assert sys.getrefcount(tensor) == before


def test_threads_select_in_one_map():
    rng = np.random.default_rng(0)
    keys = Labels(["a", "b"], rng.permutation(list(itertools.product(range(20), range(20)))))
    block = make_block(1)
    tensor = TensorMap(keys, [block] * 400)
    failures = []

    def read(seed):
        for position in np.random.default_rng(seed).permutation(400).tolist():
            if tensor.block(keys[position]) is not tensor[position]:
                failures.append(position)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
