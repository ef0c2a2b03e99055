"""The package for torch: every name, the same classes, torch values by default."""

import copy
import importlib
import io
import pickle
import warnings

import numpy as np
import pytest
import torch

import metatensor
import metatensor.torch as mts
from metatensor.torch import Labels, TensorBlock, TensorMap

#: what is of the package alone, of other subjects than torch's, or not the same on purpose
ELSEWHERE = {
    "datasets",
    "jax",
    "o3",
    "sklearn",
    "testing",
    "torch",
    "block",
    "labels",
    "merge",
    "tensor",
}
DIFFERENT = {
    "Labels",
    "block_from_array",
    "io",
    "learn",
    "load",
    "load_block",
    "load_labels",
    "operations",
    "save",
}


def make_map(requires_grad=False, dtype=torch.float64):
    """A map with two blocks, components, and gradients, all of torch."""
    properties, xyz = Labels.range("n", 2), Labels.range("xyz", 3)
    blocks = []
    for rows in (3, 2):
        samples = Labels(["system", "atom"], torch.tensor([[i % 2, i] for i in range(rows)]))
        values = torch.arange(rows * 6, dtype=dtype).reshape(rows, 3, 2)
        block = TensorBlock(values.requires_grad_(requires_grad), samples, [xyz], properties)
        gradient = TensorBlock(
            torch.ones(1, 3, 2, dtype=dtype),
            Labels(["sample", "g"], torch.tensor([[rows - 1, 4]])),
            [xyz],
            properties,
        )
        block.add_gradient("g", gradient)
        blocks.append(block)
    tensor = TensorMap(Labels(["k", "q"], torch.tensor([[1, 0], [2, 0]])), blocks)
    tensor.set_info("unit", "eV")
    return tensor


def all_labels(thing):
    """All the Labels of a map or block."""
    if isinstance(thing, TensorMap):
        yield thing.keys
        for block in thing:
            yield from all_labels(block)
    elif isinstance(thing, TensorBlock):
        yield from (thing.samples, *thing.components, thing.properties)
        for _, gradient in thing.gradients():
            yield from all_labels(gradient)
    elif isinstance(thing, metatensor.Labels):
        yield thing
    elif isinstance(thing, (list, tuple)):
        for part in thing:
            yield from all_labels(part)


# ---- names


def test_all_names_are_there():
    public = {name for name in dir(metatensor) if not name.startswith("_")} - ELSEWHERE
    public |= {"__version__"}
    different = {
        name for name in public if getattr(mts, name, None) is not getattr(metatensor, name)
    }
    assert different - {"metatensor", "jax"} == DIFFERENT


@pytest.mark.parametrize("name", ["operations", "learn", "learn.nn", "learn.data"])
def test_mirrors_have_the_same_things(name):
    mirror = importlib.import_module(f"metatensor.torch.{name}")
    origin = importlib.import_module(f"metatensor.{name}")
    assert sorted(mirror.__all__) == sorted(origin.__all__)
    for thing in set(origin.__all__) - {"nn", "data", "block_from_array"}:
        assert getattr(mirror, thing) is getattr(origin, thing)


def test_names_of_scripts():
    from metatensor.torch.learn import ModuleMap
    from metatensor.torch.learn.data import DataLoader
    from metatensor.torch.learn.nn import Linear

    assert Linear is metatensor.learn.nn.Linear is mts.learn.nn.Linear
    assert ModuleMap is mts.learn.ModuleMap
    assert DataLoader is mts.learn.DataLoader
    assert mts.TensorMap is metatensor.TensorMap
    assert mts.operations.block_from_array is mts.block_from_array
    with pytest.raises(AttributeError, match="no C\\+\\+ libraries"):
        _ = mts.utils
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mts.nothing


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (torch.float32, "torch.float32"),
        (torch.bool, "torch.bool"),
        (4, "torch.int64"),
        (6, "torch.float32"),
        (10, "torch.complex128"),
        (15, "torch.bfloat16"),
    ],
)
def test_dtype_name(dtype, name):
    assert mts.dtype_name(dtype) == name


@pytest.mark.parametrize("number", [-1, 12, 99])
def test_dtype_name_refuses(number):
    with pytest.raises(ValueError, match=f"got {number}"):
        mts.dtype_name(number)


# ---- Labels


def test_labels_are_of_one_class():
    there, here = metatensor.Labels.range("a", 2), Labels.range("a", 2)
    assert type(here) is type(there) is metatensor.Labels
    for kind in (Labels, metatensor.Labels):
        assert isinstance(here, kind)
        assert isinstance(there, kind)
        assert not isinstance(3, kind)
        assert issubclass(metatensor.Labels, kind)
        assert issubclass(Labels, kind)
        assert not issubclass(int, kind)
    assert here == there
    assert Labels.union(here, there) is here
    assert pickle.loads(pickle.dumps(Labels)) is Labels
    with pytest.raises(TypeError, match="no classes of its own"):
        type("Mine", (Labels,), {})
    match here:
        case Labels():
            pass
        case _:
            pytest.fail("is no pattern")


@pytest.mark.parametrize("protocol", [2, 5])
def test_labels_pickle_as_labels_of_torch(protocol):
    labels = Labels(["a"], torch.tensor([[3]]))
    for again in (pickle.loads(pickle.dumps(labels, protocol)), copy.deepcopy(labels)):
        assert type(again) is metatensor.Labels
        assert again == labels
        assert isinstance(again.values, torch.Tensor)
    for entry in (pickle.loads(pickle.dumps(labels[0], protocol)), copy.deepcopy(labels[0])):
        assert entry == labels[0]
        assert isinstance(entry.values, torch.Tensor)


def test_tensors_of_labels_are_made_when_they_are_asked_for():
    labels = Labels.range("a", 3)
    derived = [
        labels,
        labels.append("b", torch.tensor([3, 4, 5])),
        labels.union(Labels("a", torch.tensor([[7]]))),
        pickle.loads(pickle.dumps(labels)),
        metatensor.Labels.range("a", 3).to(arrays="torch"),
        mts.block_from_array(torch.zeros(2, 3)).samples,
    ]
    assert [found._view for found in derived] == [None] * len(derived)
    for found in derived:
        assert isinstance(found.values, torch.Tensor)
        assert found.values is found.values
        assert found.values.tolist() == found._table.tolist()
    assert labels.rename("a", "z").values is labels.values
    assert labels.to("cpu") is labels.to(arrays="torch") is labels


@pytest.mark.parametrize("asked", ["inside", "outside"])
def test_labels_made_in_inference_mode_are_used_in_training(asked):
    with torch.inference_mode():
        labels = Labels.range("a", 3).append("b", torch.tensor([0, 1, 0]))
        if asked == "inside":
            assert labels.values.shape == (3, 2)
    weights = torch.ones(3, requires_grad=True)
    total = torch.zeros(2).index_add(0, labels.column("b"), weights * weights)
    total.sum().backward()
    assert weights.grad.tolist() == [2.0, 2.0, 2.0]


def test_labels_asked_for_their_values_while_torch_traces():
    fake_tensor = pytest.importorskip("torch._subclasses.fake_tensor")
    labels = Labels.range("a", 3)
    with fake_tensor.FakeTensorMode():
        values = labels.values
    assert labels.values is values
    assert values.tolist() == [[0], [1], [2]]

    def total(weights, chosen):
        return (weights[chosen.column("a")] ** 2).sum()

    for transform in (torch.func.grad, torch.func.jacrev):
        found = transform(lambda weights: total(weights, Labels.range("a", 2)))(torch.ones(3))
        assert found.tolist() == [2.0, 2.0, 0.0]


@pytest.mark.parametrize(
    ("make", "rows"),
    [
        (lambda: Labels.single(), [[0]]),
        (lambda: Labels.range("a", 2), [[0], [1]]),
        (lambda: Labels.range("a", -2), []),
        (lambda: Labels.empty(["a", "b"]), []),
        (lambda: Labels(("a",), torch.tensor([[True], [False]])), [[1], [0]]),
        (lambda: Labels("a", np.array([[4]])), [[4]]),
        (lambda: Labels("a", torch.tensor([[1], [1]]), assume_unique=True), [[1], [1]]),
        (lambda: Labels(names=["a"], values=torch.tensor([[5]], dtype=torch.uint8)), [[5]]),
        (lambda: mts.block_from_array(torch.zeros(2, 3)).samples, [[0], [1]]),
        (lambda: mts.block_from_array(np.zeros((2, 3))).properties, [[0], [1], [2]]),
    ],
)
def test_what_is_made_is_of_torch(make, rows):
    labels = make()
    assert isinstance(labels.values, torch.Tensor)
    assert labels.values.dtype == torch.int32
    assert labels.values.tolist() == rows
    assert labels.device == torch.device("cpu")


@pytest.mark.parametrize(
    ("values", "error"),
    [
        (torch.tensor([[0.0]]), TypeError),
        (torch.ones(1, 1, dtype=torch.bfloat16), TypeError),
        ([[0]], ValueError),
        (torch.tensor([0]), ValueError),
        (torch.tensor([[1], [1]]), ValueError),
        (torch.tensor([[2**40]]), ValueError),
    ],
)
def test_labels_refuse(values, error):
    with pytest.raises(error):
        Labels(["a"], values)


def test_values_of_numpy_stay_free():
    """The caller's array is neither shared nor made read-only."""
    given = np.array([[1], [2]], dtype=np.int32)
    labels = Labels(["a"], given)
    given[0] = 7
    assert labels.values.tolist() == [[1], [2]]


DERIVED = {
    "union": lambda labels, other: labels.union(other),
    "intersection": lambda labels, other: labels.intersection(other),
    "difference": lambda labels, other: labels.difference(other),
    "insert": lambda labels, other: labels.insert(0, "c", torch.tensor([1, 2, 3])),
    "append": lambda labels, other: labels.append("c", torch.tensor([1, 2, 3])),
    "permute": lambda labels, other: labels.permute([1, 0]),
    "remove": lambda labels, other: labels.remove("a"),
    "rename": lambda labels, other: labels.rename("a", "z"),
    "copy": lambda labels, other: copy.copy(labels),
    "entry": lambda labels, other: labels[0],
}


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("name", DERIVED)
def test_derived_labels_follow(library, name):
    labels = Labels(["a", "b"], torch.tensor([[0, 1], [2, 3], [4, 5]])).to(arrays=library)
    other = Labels(["a", "b"], torch.tensor([[0, 1], [7, 3]]))
    values = DERIVED[name](labels, other).values
    assert isinstance(values, np.ndarray if library == "numpy" else torch.Tensor)
    assert str(values.dtype).endswith("int32")


def test_positions_index_values_of_torch():
    values = torch.arange(3.0)
    labels = Labels(["a", "b"], torch.tensor([[0, 1], [2, 3], [4, 5]]))
    other = Labels(["a", "b"], torch.tensor([[4, 5], [0, 1]]))
    assert values[labels.select(other)].tolist() == [2.0, 0.0]
    assert values[labels.select(Labels("a", torch.tensor([[2]])))].tolist() == [1.0]
    assert values[labels.select(Labels.empty("a"))].tolist() == []
    union, here, there = labels.union_and_mapping(other)
    assert union == labels
    assert values[here].tolist() == [0.0, 1.0, 2.0]
    assert values[there].tolist() == [2.0, 0.0]
    _, mapping = labels.difference_and_mapping(other)
    assert mapping.dtype == torch.int64
    mapping[0] = 9  # nothing else has this memory
    assert labels.difference_and_mapping(other)[1].tolist() == [-1, 0, -1]


def _system():
    return Labels("system", torch.tensor([[1]]))


OPERATIONS = {
    "keys_to_samples": lambda t: t.keys_to_samples("k"),
    "keys_to_samples_all": lambda t: t.keys_to_samples(["k", "q"]),
    "keys_to_samples_unsorted": lambda t: t.keys_to_samples("k", 0.0, False),
    "keys_to_properties": lambda t: t.keys_to_properties("k"),
    "keys_to_properties_entries": lambda t: t.keys_to_properties(
        Labels("k", torch.tensor([[2], [3]]))
    ),
    "components_to_properties": lambda t: t.components_to_properties("xyz"),
    "sum_over_samples": lambda t: mts.sum_over_samples(t, "atom"),
    "sum_over_all_samples": lambda t: mts.sum_over_samples(t, ["system", "atom"]),
    "mean_over_properties": lambda t: mts.mean_over_properties(t, "n"),
    "sum_over_components": lambda t: mts.sum_over_components(t, "xyz"),
    "norm_over_components": lambda t: mts.norm_over_components(mts.remove_gradients(t), "xyz"),
    "slice": lambda t: mts.slice(t, "samples", _system()),
    "slice_properties": lambda t: mts.slice(t, "properties", Labels("n", torch.tensor([[1]]))),
    "split": lambda t: mts.split(t, "samples", [_system(), _system()]),
    "sort": lambda t: mts.sort(t, descending=True),
    "join_samples": lambda t: mts.join([t, t], "samples", add_dimension="copy"),
    "join_properties": lambda t: mts.join([t, t], "properties", add_dimension="copy"),
    "join_union": lambda t: mts.join(
        [t, mts.drop_blocks(t, Labels("k", torch.tensor([[1]])))],
        "samples",
        different_keys="union",
        add_dimension="copy",
    ),
    "drop_blocks": lambda t: mts.drop_blocks(t, Labels("k", torch.tensor([[1]]))),
    "filter_blocks": lambda t: mts.filter_blocks(t, Labels("k", torch.tensor([[1]]))),
    "unique_metadata": lambda t: mts.unique_metadata(t, "samples", "system"),
    "unique_metadata_gradient": lambda t: mts.unique_metadata(t, "samples", ["sample"], "g"),
    "append_dimension": lambda t: mts.append_dimension(t, "keys", "new", torch.tensor([5, 6])),
    "insert_dimension": lambda t: mts.insert_dimension(t, "samples", 0, "new", 3),
    "permute_dimensions": lambda t: mts.permute_dimensions(t, "samples", [1, 0]),
    "rename_dimension": lambda t: mts.rename_dimension(t, "samples", "atom", "center"),
    "remove_dimension": lambda t: mts.remove_dimension(t, "keys", "q"),
    "add": lambda t: t + 1.0,
    "zeros_like": lambda t: mts.zeros_like(t),
    "make_contiguous": lambda t: mts.make_contiguous(t),
    "dot": lambda t: mts.dot(mts.remove_gradients(t.components_to_properties("xyz")), _other(t)),
    "einsum_copy": lambda t: copy.deepcopy(t),
    "pickle": lambda t: pickle.loads(pickle.dumps(t)),
    "load": lambda t: mts.load_buffer(mts.save_buffer(t)),
    "detach": lambda t: t.detach(),
    "to": lambda t: t.to(torch.float32),
}


def _other(tensor):
    """What a map can be multiplied with."""
    flat = mts.remove_gradients(tensor.components_to_properties("xyz"))
    return mts.slice(flat, "samples", _system())


@pytest.mark.parametrize("name", OPERATIONS)
def test_labels_of_results_are_of_torch(name):
    found = list(all_labels(OPERATIONS[name](make_map())))
    assert found
    for labels in found:
        assert isinstance(labels.values, torch.Tensor), labels.names
        assert labels.values.tolist() == labels.to(arrays="numpy").values.tolist()


def test_results_are_those_with_labels_of_numpy():
    """Which library Labels have changes no numbers, and numpy stays numpy."""
    tensor = make_map()
    for name, operation in OPERATIONS.items():
        if name in ("load", "pickle"):
            continue
        mixed = tensor._map(None, lambda labels: labels.to(arrays="numpy"))
        of_torch, of_numpy = operation(tensor), operation(mixed)
        assert of_torch == of_numpy, name
        assert all(isinstance(labels.values, np.ndarray) for labels in all_labels(of_numpy)), name


# ---- files


@pytest.mark.parametrize("kind", ["map", "block", "labels"])
def test_files_come_back_as_torch(tmp_path, kind):
    tensor = make_map()
    data = {"map": tensor, "block": tensor.block(0).copy(), "labels": tensor.keys}[kind]
    load = {"map": mts.load, "block": mts.load_block, "labels": mts.load_labels}[kind]
    load_buffer = getattr(mts, f"{load.__name__}_buffer")
    path = tmp_path / "no_extension"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mts.save(path, data)
    assert [file.name for file in tmp_path.iterdir()] == ["no_extension"]
    file = io.BytesIO()
    mts.save(file, data)
    file.seek(0)
    buffer = mts.save_buffer(data)
    assert buffer.dtype == torch.uint8
    assert buffer.shape == (path.stat().st_size,)
    if kind != "labels":
        assert bytes(buffer.numpy()) == bytes(metatensor.io.save_buffer(data))
    results = [load(path), load(str(path)), load(file), load_buffer(buffer)]
    results.append(load_buffer(bytes(buffer.numpy())))
    for loaded in results:
        assert loaded == data
        assert all(isinstance(labels.values, torch.Tensor) for labels in all_labels(loaded))
        if kind != "labels":
            assert isinstance((loaded.block(0) if kind == "map" else loaded).values, torch.Tensor)
    assert Labels.load_buffer(mts.save_buffer(tensor.keys)).values.tolist() == [[1, 0], [2, 0]]


def test_what_requires_grad_is_saved_without_its_record():
    tensor = make_map(requires_grad=True) * 2.0
    for data in (tensor, tensor.block(0)):
        buffer = mts.save_buffer(data)
        load = mts.load_buffer if data is tensor else mts.load_block_buffer
        assert load(buffer) == data
    assert tensor.block(0).values.requires_grad
    assert not mts.load_buffer(mts.save_buffer(tensor)).block(0).values.requires_grad
    with metatensor.record_history():
        assert "history" not in mts.load_buffer(mts.save_buffer(make_map())).info()


@pytest.mark.parametrize(
    "change", [lambda b: b[::2], lambda b: b.long(), lambda b: b[None], lambda b: b.to("meta")]
)
def test_buffers_that_are_refused(change):
    with pytest.raises(ValueError, match="contiguous tensor of uint8 with one dimension"):
        mts.load_buffer(change(mts.save_buffer(make_map())))


def test_files_that_are_refused(tmp_path):
    with pytest.raises(metatensor.MetatensorError, match="io error"):
        mts.load(tmp_path / "nothing")
    with pytest.raises(metatensor.MetatensorError, match="io error"):
        mts.save(tmp_path / "no" / "folder", make_map())
    with pytest.raises(TypeError, match="path or a file object"):
        mts.save(3, make_map())
    with pytest.raises(TypeError, match="must be one of"):
        mts.save(tmp_path / "x", "text")
    with pytest.raises(metatensor.MetatensorError):
        mts.save_buffer(make_map(dtype=torch.bfloat16))
    assert not list(tmp_path.iterdir())
