"""Datasets, their batches, and the processes that make them."""

import copy
import multiprocessing
import pickle
import subprocess
import sys
from collections import namedtuple
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import metatensor
from metatensor import Labels, MetatensorError, NotEqualError, TensorBlock, TensorMap

torch = pytest.importorskip("torch")

from metatensor.learn import DataLoader, Dataset, IndexedDataset  # noqa: E402
from metatensor.learn import data as learn_data  # noqa: E402
from metatensor.learn.data import (  # noqa: E402
    SizeBatchSampler,
    count_samples,
    group,
    group_and_join,
)

Pair = namedtuple("Pair", "x y")


def system_map(system, atoms=2, seed=None, library="torch", keys=(1, 8)):
    """A map with a block per key, a row per atom and gradients; values tell where they are from."""
    rng = np.random.default_rng(system if seed is None else seed)
    n = Labels.range("n", 3)
    blocks = []
    for _ in keys:
        samples = Labels(["system", "atom"], np.array([[system, atom] for atom in range(atoms)]))
        block = TensorBlock(rng.random((atoms, 3)), samples, [], n)
        rows = Labels(["sample", "displaced"], np.array([[a, 7 - a] for a in range(atoms)]))
        gradient = rng.random((atoms, 3, 3))
        block.add_gradient("positions", TensorBlock(gradient, rows, [Labels.range("xyz", 3)], n))
        blocks.append(block)
    tensor = TensorMap(Labels("type", np.array(keys).reshape(-1, 1)), blocks)
    return tensor.to(arrays=library)


def double(position):
    return 2 * position


def fail(position):
    raise KeyError(f"nothing at {position}")


# ---- datasets


def test_torch_is_required():
    code = "import sys; sys.modules['torch'] = None; import metatensor.learn.data"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "`metatensor.learn` requires torch" in run.stderr


def test_what_is_public():
    assert learn_data.Dataset is Dataset
    assert learn_data.IndexedDataset is IndexedDataset
    assert learn_data.DataLoader is DataLoader
    for kind in (Dataset, IndexedDataset, learn_data.DiskDataset):
        assert issubclass(kind, torch.utils.data.Dataset)
    assert issubclass(DataLoader, torch.utils.data.DataLoader)


def test_fields_are_lists_or_functions():
    calls = []
    dataset = Dataset(x=[1, 2, 3], y=lambda position: calls.append(position) or 10 * position)
    assert len(dataset) == 3
    assert calls == []
    assert repr(dataset[2]) == "Sample(x=3, y=20)"
    assert dataset[2] == (3, 20)
    assert calls == [2, 2]
    assert list(dataset) == [(1, 0), (2, 10), (3, 20)]
    assert Dataset(size=2, f=double)[1] == (2,)
    assert len(Dataset(size=3)) == 3
    assert len(Dataset(x=[])) == 0


@pytest.mark.parametrize("position", [1, np.int64(1), torch.tensor(1)])
def test_positions(position):
    assert Dataset(x=["a", "b"])[position].x == "b"


@pytest.mark.parametrize("dataset", [Dataset(x=[1, 2]), IndexedDataset(sample_id=[5, 6], x=[1, 2])])
@pytest.mark.parametrize("position", [-1, 2])
def test_positions_out_of_range(dataset, position):
    with pytest.raises(ValueError, match=f"at least 0 and below 2, got {position}"):
        dataset[position]


@pytest.mark.parametrize("position", ["x", 1.0, slice(0, 1)])
def test_no_positions(position):
    with pytest.raises(TypeError, match="must be an integer"):
        Dataset(x=[1, 2])[position]


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"x": (1, 2)}, TypeError, "'x' must be a list or a function, got tuple; use `list"),
        ({"x": 3}, TypeError, "got int"),
        ({"x": [1, "a"]}, TypeError, "must be of one type, got int and str"),
        ({"x": [1], "y": [1, 2]}, ValueError, "'x' has 1, and the field 'y' has 2"),
        ({"size": 3, "x": [1, 2]}, ValueError, "`size` has 3, and the field 'x' has 2"),
        ({"size": -1}, ValueError, "can not be negative"),
        ({"size": 1.5}, TypeError, "`size` must be an int"),
        ({"f": double}, ValueError, "`size` is required"),
        ({}, ValueError, "`size` is required"),
        ({"sample_id": [1, 2]}, ValueError, "use IndexedDataset"),
    ],
)
def test_refused_fields(fields, error, text):
    with pytest.raises(error, match=text):
        Dataset(**fields)


def test_bool_is_an_int():
    assert Dataset(x=[True, 1])[1].x == 1


def test_errors_of_functions():
    with pytest.raises(ValueError, match="'f' fails for position 1: KeyError") as caught:
        Dataset(size=2, f=fail)[1]
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(ValueError, match="'f' fails for sample 'b'") as caught:
        IndexedDataset(sample_id=["a", "b"], f=fail)[1]
    assert isinstance(caught.value.__cause__, KeyError)


def test_from_dict():
    dataset = Dataset.from_dict({"with space": [1, 2], "x": [3, 4], "size": [5, 6]})
    assert repr(dataset[1]) == "Sample('with space'=2, x=4, size=6)"
    assert Dataset.from_dict({"f": double}, size=3)[2].f == 4
    with pytest.raises(ValueError, match="use IndexedDataset"):
        Dataset.from_dict({"sample_id": [1]})


def test_identities():
    dataset = IndexedDataset(sample_id=["a", 7], x=[1, 2], f=double)
    assert repr(dataset[0]) == "Sample(sample_id='a', x=1, f='aa')"
    assert dataset.get_sample(7) == (7, 2, 14) == dataset[1]
    assert list(dataset) == [dataset[0], dataset[1]]
    assert len(dataset) == 2
    with pytest.raises(ValueError, match="no sample 'b'"):
        dataset.get_sample("b")


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"sample_id": (1, 2), "x": [1, 2]}, TypeError, "must be a list, got tuple"),
        ({"sample_id": [[1], [2]], "x": [1, 2]}, TypeError, "unhashable"),
        ({"sample_id": [1, 1], "x": [1, 2]}, ValueError, "must be unique, got 1"),
        ({"sample_id": [1, 2], "size": [1, 2]}, ValueError, "field 'size'"),
        ({"sample_id": [1, 2], "x": [1]}, ValueError, "`sample_id` has 2"),
    ],
)
def test_refused_identities(fields, error, text):
    with pytest.raises(error, match=text):
        IndexedDataset(**fields)


def test_from_dict_with_identities():
    dataset = IndexedDataset.from_dict({"with space": [1, 2]}, sample_id=["a", "b"])
    assert repr(dataset[1]) == "Sample(sample_id='b', 'with space'=2)"
    assert dataset.get_sample("a")["with space"] == 1


# ---- named tuples


def test_named_tuples():
    sample = Dataset.from_dict({"with space": [1], "class": [2], "count": [3]})[0]
    assert isinstance(sample, tuple)
    assert type(sample).__name__ == "Sample"
    assert sample._fields == ("with space", "class", "count")
    assert sample._asdict() == {"with space": 1, "class": 2, "count": 3}
    assert sample._replace(count=4) == (1, 2, 4)
    assert sample._make("abc") == ("a", "b", "c")
    assert type(sample)(1, 2, count=3) == sample
    assert (sample["with space"], sample[1], sample.count, sample[:2]) == (1, 2, 3, (1, 2))
    assert hash(sample) == hash((1, 2, 3))


@pytest.mark.parametrize(
    ("use", "error"),
    [
        (lambda sample: sample["q"], KeyError),
        (lambda sample: sample.q, AttributeError),
        (lambda sample: sample._replace(q=1), TypeError),
        (lambda sample: sample._make([1]), TypeError),
        (lambda sample: type(sample)(1, 2, 3), TypeError),
        (lambda sample: type(sample)(1, x=2), TypeError),
        (lambda sample: setattr(sample, "x", 2), AttributeError),
        (lambda sample: setattr(sample, "q", 2), AttributeError),
        (lambda sample: Dataset(_make=[1])[0], ValueError),
    ],
)
def test_misused_named_tuples(use, error):
    with pytest.raises(error):
        use(Dataset(x=[1], y=[2])[0])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickling(protocol):
    indexed = IndexedDataset.from_dict({"with space": [1, 2], "f": double}, sample_id=["a", "b"])
    for dataset in (Dataset(x=[1, 2], f=double), indexed):
        other = pickle.loads(pickle.dumps(dataset, protocol))
        assert list(other) == list(dataset)
        sample = pickle.loads(pickle.dumps(dataset[1], protocol))
        assert type(sample) is type(dataset[1])
        assert repr(sample) == repr(dataset[1])
        assert copy.deepcopy(sample) == sample


# ---- batches


def test_group():
    dataset = Dataset(x=[1, 2, 3], y=[0, 2, 4])
    assert repr(group([dataset[0], dataset[2]])) == "Batch(x=(1, 3), y=(0, 4))"
    assert repr(group((Pair(1, 2), Pair(3, 4)))) == "Batch(x=(1, 3), y=(2, 4))"


@pytest.mark.parametrize("collate", [group, group_and_join])
@pytest.mark.parametrize(
    ("batch", "error"),
    [
        ([], ValueError),
        ([(1, 2)], TypeError),
        ([Pair(1, 2), namedtuple("Riap", "y x")(1, 2)], ValueError),
    ],
)
def test_no_batches(collate, batch, error):
    with pytest.raises(error):
        collate(batch)


def test_group_and_join():
    maps = [system_map(system, atoms) for system, atoms in enumerate([2, 1, 3])]
    samples = list(
        IndexedDataset(
            sample_id=[torch.tensor(3), torch.tensor(1), torch.tensor(2)],
            tensor=maps,
            number=[torch.tensor(1.0), torch.tensor(2.0), torch.tensor(3.0)],
            vector=[torch.ones(2), torch.zeros(2), torch.ones(2)],
            matrix=[torch.ones(2, 1), torch.zeros(1, 1), torch.ones(1, 1)],
            text=["a", "b", "c"],
        )
    )
    batch = group_and_join(samples)
    assert type(batch).__name__ == "Batch"
    assert batch._fields == samples[0]._fields
    assert isinstance(batch.sample_id, tuple)
    assert batch.text == ("a", "b", "c")
    assert batch.number.tolist() == [[1], [2], [3]]
    assert batch.vector.tolist() == [[1, 1], [0, 0], [1, 1]]
    assert batch.matrix.tolist() == [[1], [1], [0], [1]]
    assert batch.tensor == metatensor.join(maps, "samples")
    for key, block in batch.tensor.items():
        expected = np.concatenate([tensor.block(key).values.numpy() for tensor in maps])
        assert np.array_equal(block.values.numpy(), expected)
        gradient = block.gradient("positions")
        assert gradient.samples.column("sample").tolist() == list(range(6))
        expected = [tensor.block(key).gradient("positions").values.numpy() for tensor in maps]
        assert np.array_equal(gradient.values.numpy(), np.concatenate(expected))


@pytest.mark.parametrize("fields", [["t"], ("t", "unknown"), {"t"}, "t"])
def test_fields_to_join(fields):
    maps = [system_map(system) for system in range(2)]
    batch = group_and_join(list(Dataset(t=maps, u=maps, v=[torch.ones(1)] * 2)), fields)
    assert isinstance(batch.t, TensorMap)
    assert isinstance(batch.u, tuple)
    assert isinstance(batch.v, tuple)
    assert isinstance(group_and_join(list(Dataset(t=maps)), []).t, tuple)


def test_one_map_is_itself():
    tensor = system_map(0)
    assert group_and_join(list(Dataset(t=[tensor]))).t is tensor


def test_arguments_of_join():
    same = list(Dataset(t=[system_map(0), system_map(0)]))
    with pytest.raises(MetatensorError, match="more than once"):
        group_and_join(same)
    numbered = group_and_join(same, join_kwargs={"add_dimension": "number"})
    assert numbered.t.sample_names == ["system", "atom", "number"]
    different = list(Dataset(t=[system_map(0), system_map(1, keys=(8, 6))]))
    with pytest.raises(NotEqualError):
        group_and_join(different)
    united = group_and_join(different, join_kwargs={"different_keys": "union"})
    assert united.t.keys.values.tolist() == [[1], [8], [6]]
    with pytest.raises(TypeError, match="'axis'"):
        group_and_join(same, join_kwargs={"axis": "samples"})


def test_torch_differentiates_through_batches():
    values = torch.ones(1, 2, requires_grad=True)
    samples = [Labels("system", np.array([[system]])) for system in range(2)]
    maps = [
        TensorMap(Labels.single(), [TensorBlock(values, row, [], Labels.range("n", 2))])
        for row in samples
    ]
    batch = group_and_join(list(Dataset(t=maps)))
    (batch.t.block().values * torch.tensor([[1.0], [10.0]])).sum().backward()
    assert values.grad.tolist() == [[11, 11]]


# ---- data loaders

MAPS = [system_map(system, 1 + system % 3) for system in range(7)]


def loaded(**options):
    dataset = IndexedDataset(sample_id=list("abcdefg"), features=MAPS, f=double)
    return list(DataLoader(dataset, batch_size=3, **options))


def check_batches(batches):
    assert [batch.f for batch in batches] == [("aa", "bb", "cc"), ("dd", "ee", "ff"), ("gg",)]
    for start, batch in zip((0, 3, 6), batches):
        assert type(batch).__name__ == "Batch"
        assert batch.features == metatensor.join(MAPS[start : start + 3], "samples")


def test_data_loader():
    check_batches(loaded())
    assert loaded(collate_fn=group)[2].features == (MAPS[6],)
    with pytest.raises(TypeError):
        DataLoader(Dataset(x=[1]), group, 2)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"processes are not started by {method} here")
    program = Path(__file__).parent / "worker_processes.py"
    command = [sys.executable, "-W", "error", str(program), method]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert run.stdout.split() == ["fine"], run.stderr


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true:UserWarning")
def test_pinned_batches():
    batches = loaded(pin_memory=True)
    check_batches(batches)
    block = batches[0].features.block(0)
    assert block.values.is_pinned() == torch.cuda.is_available()
    assert block.gradient("positions").values.is_pinned() == torch.cuda.is_available()


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_pin_memory(library):
    tensor = system_map(0, library=library)
    tensor.set_info("unit", "eV")
    assert tensor.pin_memory() == tensor
    assert tensor.pin_memory().get_info("unit") == "eV"
    assert tensor.block(0).pin_memory() == tensor.block(0)
    batch = torch.utils.data._utils.pin_memory.pin_memory(group(list(Dataset(t=[tensor]))))
    assert repr(batch).startswith("Batch(t=(TensorMap")


def test_pinned_where_there_is_a_gpu(monkeypatch):
    """What torch does there is not at hand everywhere; it is asked for every array."""
    pinned = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self) or self + 1)
    tensor = system_map(0)
    result = tensor.pin_memory()
    assert len(pinned) == 4
    assert torch.equal(result.block(0).values, tensor.block(0).values + 1)
    gradients = [each.block(1).gradient("positions").values for each in (result, tensor)]
    assert torch.equal(gradients[0], gradients[1] + 1)
    assert system_map(0, library="numpy").pin_memory() == system_map(0, library="numpy")


def test_samplers_of_torch():
    dataset = Dataset(x=list(range(6)))
    utils = torch.utils.data
    subset = utils.Subset(dataset, [5, 3])
    assert [batch.x for batch in DataLoader(subset)] == [(5,), (3,)]
    weighted = utils.WeightedRandomSampler([0, 0, 1, 0, 0, 0], 3)
    assert [batch.x for batch in DataLoader(dataset, sampler=weighted)] == [(2,)] * 3
    parts = utils.random_split(dataset, [2, 4])
    assert sorted(x for part in parts for batch in DataLoader(part) for x in batch.x) == list(
        range(6)
    )
    both = utils.ConcatDataset([dataset, dataset])
    assert len(list(DataLoader(both, batch_size=4, drop_last=True))) == 3


# ---- batches bounded by their size


@pytest.mark.parametrize(
    ("sizes", "options", "expected"),
    [
        ([3, 4, 2, 2, 8], {}, [[0, 1], [2, 3], [4]]),
        ([3, 4, 2, 2, 8], {"drop_last": True}, [[0, 1], [2, 3]]),
        ([1, 1, 1, 1, 8], {"max_samples": 3}, [[0, 1, 2], [3], [4]]),
        ([0, 0, 8, 0, 1], {}, [[0, 1, 2, 3], [4]]),
        ([], {}, []),
    ],
)
def test_size_batches(sizes, options, expected):
    sampler = SizeBatchSampler(range(len(sizes)), sizes, 8, **options)
    assert list(sampler) == expected
    assert len(sampler) == len(expected)
    assert list(sampler) == expected


def test_size_batches_at_random():
    sizes = np.random.default_rng(0).integers(1, 10, size=50)
    sampler = SizeBatchSampler(torch.utils.data.RandomSampler(sizes), sizes, max_size=20)
    passes = []
    for _ in range(3):
        length = len(sampler)
        assert length == len(sampler)
        batches = list(sampler)
        assert len(batches) == length
        assert max(sizes[batch].sum() for batch in batches) <= 20
        assert sorted(position for batch in batches for position in batch) == list(range(50))
        passes.append(batches)
    assert passes[0] != passes[1]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (([3, 9], 8), ValueError, "got 9 at position 1"),
        (([3, -1], 8), ValueError, "got -1 at position 1"),
        (([0.5], 8), ValueError, "must be integers"),
        (([[1]], 8), ValueError, "shape"),
        (([1], 8, 0), ValueError, "`max_samples`"),
        (([1], "8"), TypeError, "`max_size`"),
    ],
)
def test_refused_sizes(arguments, error, text):
    with pytest.raises(error, match=text):
        SizeBatchSampler(range(1), *arguments)


def test_data_loader_of_bounded_batches():
    dataset = Dataset(features=MAPS, f=double)
    sizes = count_samples(dataset, "features")
    assert sizes.tolist() == [2, 4, 6, 2, 4, 6, 2]  # atoms, in two blocks
    sampler = SizeBatchSampler(range(7), sizes, max_size=8)
    loader = DataLoader(dataset, batch_sampler=sampler)
    assert [batch.f for batch in loader] == [(0, 2), (4, 6), (8,), (10, 12)]
    assert len(loader) == 4
    with pytest.raises(ValueError, match="`field` must be one of"):
        count_samples(dataset, "energy")


def test_batches_of_named_tuples_of_others():
    maps = MAPS[:2]
    batch = group_and_join([Pair(tensor, 0) for tensor in maps])
    assert batch.x == metatensor.join(maps, "samples")
    collate = partial(group_and_join, fields_to_join=["y"])
    assert pickle.loads(pickle.dumps(collate))([Pair(0, 1)]) == ((0,), (1,))
