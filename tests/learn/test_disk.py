"""Datasets in one file."""

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import metatensor
from metatensor import Labels, MetatensorError, TensorBlock, TensorMap

torch = pytest.importorskip("torch")

from metatensor.learn import DataLoader, Dataset, IndexedDataset  # noqa: E402
from metatensor.learn.data import DiskDataset, save_dataset  # noqa: E402


def make_map(system, rows=3):
    rng = np.random.default_rng(system)
    samples = Labels(["system", "atom"], np.array([[system, atom] for atom in range(rows)]))
    n = Labels.range("n", 4)
    block = TensorBlock(rng.random((rows, 4)), samples, [], n)
    gradient = TensorBlock(
        rng.random((2, 3, 4)),
        Labels(["sample", "atom"], np.array([[0, 5], [rows - 1, 0]])),
        [Labels.range("xyz", 3)],
        n,
    )
    block.add_gradient("positions", gradient)
    tensor = TensorMap(Labels.single(), [block])
    tensor.set_info("system", str(system))
    return tensor


X = [make_map(system) for system in range(6)]
Y = [make_map(10 + system, 1) for system in range(6)]
IDS = ["water", "ammonia", 3, 4, "five", "six"]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "systems.zip"
    save_dataset(path, IndexedDataset(sample_id=IDS, x=X, y=Y))
    return path


def rewrite(path, change):
    """Write an archive anew with its members changed by a function of a dict of bytes."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


# ---- what is written is read


@pytest.mark.parametrize("arrays", ["torch", "numpy", "jax"])
def test_samples(path, arrays):
    if arrays == "jax":
        pytest.importorskip("jax")
    dataset = DiskDataset(path, arrays=arrays)
    assert len(dataset) == 6
    assert dataset.fields == ("sample_id", "x", "y")
    for position, sample in enumerate(dataset):
        assert sample._fields == dataset.fields
        assert sample.sample_id == IDS[position]
        assert sample.x == X[position].to(arrays=arrays)
        assert sample.x.get_info("system") == str(position)
        assert sample.y.block().gradient("positions") == Y[position].to(arrays=arrays).block(
            0
        ).gradient("positions")
        assert arrays in type(sample.x.block().values).__module__
    assert dataset.get_sample(3).sample_id == 3
    with pytest.raises(ValueError, match="no sample 'nobody'"):
        dataset.get_sample("nobody")
    for wrong in (-1, 6):
        with pytest.raises(ValueError, match="below 6"):
            dataset[wrong]


def test_values_can_be_written_to(path):
    sample = DiskDataset(path)[0]
    sample.x.block().values[:] = 0
    assert DiskDataset(path)[0].x == X[0].to(arrays="torch")


def test_without_identities(path):
    save_dataset(path, Dataset(x=X))
    dataset = DiskDataset(path)
    assert dataset.fields == ("x",)
    assert repr(dataset) == "DiskDataset with 6 samples\n    fields: x"
    with pytest.raises(ValueError, match="no sample"):
        dataset.get_sample(0)


def test_chosen_fields(path):
    assert DiskDataset(path, ["y"])[1]._fields == ("sample_id", "y")
    assert DiskDataset(path, ["y", "sample_id", "x"]).fields == ("sample_id", "y", "x")
    assert DiskDataset(path, "x").fields == ("sample_id", "x")
    with pytest.raises(ValueError, match="`fields` must be among"):
        DiskDataset(path, ["z"])


def test_samples_of_a_generator_and_of_any_kind(tmp_path):
    path = tmp_path / "any name"
    save_dataset(str(path), ({"with space": tensor} for tensor in X))
    assert DiskDataset(str(path))[2]["with space"].block().values.tolist() == (
        X[2].block().values.tolist()
    )
    save_dataset(path, [])
    assert len(DiskDataset(path)) == 0
    assert list(DiskDataset(path)) == []
    save_dataset(path, Dataset(x=[tensor.to(arrays="torch") for tensor in X]))
    assert DiskDataset(path, arrays="numpy")[1].x == X[1]


def test_a_dataset_can_be_written_over_itself(path):
    save_dataset(path, DiskDataset(path, ["y"]))
    assert DiskDataset(path, arrays="numpy")[5] == ("six", Y[5])


def test_members_are_files(path):
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[:3] == ["0/x.mts", "0/y.mts", "1/x.mts"]
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
        assert metatensor.load(io.BytesIO(archive.read("4/y.mts"))) == Y[4]


def test_archives_of_others(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for system in (1, 0):
            archive.writestr(f"{system}/structure.xyz", "3 atoms")
            archive.writestr(f"{system}/x.mts", bytes(X[system].save_buffer()))
    dataset = DiskDataset(path, arrays="numpy")
    assert [sample.x for sample in dataset] == X[:2]


@pytest.mark.parametrize(
    ("samples", "error", "text"),
    [
        ([(1, 2)], TypeError, "named tuples or dicts, got tuple"),
        ([{"x": 1.0}], TypeError, "must be TensorMap to be saved, got float"),
        ([{"x": X[0], "sample_id": 1.0}], TypeError, "must be str or int"),
        ([{"x": X[0], "sample_id": 1}] * 2, ValueError, "must be unique"),
        ([{"x": X[0]}, {"y": X[0]}], ValueError, "at position 1"),
        ([{"a/b": X[0]}], ValueError, "without '/'"),
        ([{"": X[0]}], ValueError, "name of a field"),
        ([{1: X[0]}], ValueError, "name of a field"),
    ],
)
def test_what_can_not_be_saved(path, samples, error, text):
    before = path.read_bytes()
    with pytest.raises(error, match=text):
        save_dataset(path, samples)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_gradients_must_be_detached(path):
    values = torch.ones(1, 1, requires_grad=True)
    one = Labels.single()
    with pytest.raises(BufferError):
        save_dataset(path, [{"x": TensorMap(one, [TensorBlock(values, one, [], one)])}])


def test_arguments(path, tmp_path):
    for function in (DiskDataset, lambda file: save_dataset(file, [])):
        with pytest.raises(TypeError, match="path of a file"):
            function(io.BytesIO())
    with pytest.raises(ValueError, match="`arrays`"):
        DiskDataset(path, arrays="cupy")
    with pytest.raises(MetatensorError, match="No such file"):
        DiskDataset(tmp_path / "nothing")
    with pytest.raises(MetatensorError, match="No such file"):
        save_dataset(tmp_path / "nowhere" / "file", [])


def test_progress(path, monkeypatch, capsys):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    save_dataset(path, Dataset(x=X), progress=True)
    assert "saving: 100%" in capsys.readouterr().err
    save_dataset(path, Dataset(x=X))
    assert capsys.readouterr().err == ""
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match="pip install tqdm"):
        save_dataset(path, Dataset(x=X), progress=True)


# ---- processes and threads


def test_data_loader(path):
    batches = list(DataLoader(DiskDataset(path), batch_size=4))
    assert [batch.sample_id for batch in batches] == [tuple(IDS[:4]), tuple(IDS[4:])]
    for batch, x, y in zip(batches, (X[:4], X[4:]), (Y[:4], Y[4:])):
        assert batch.x == metatensor.join(x, "samples").to(arrays="torch")
        assert batch.y == metatensor.join(y, "samples").to(arrays="torch")


def test_pickling_and_closing(path):
    dataset = DiskDataset(path, ["y"])
    other = pickle.loads(pickle.dumps(dataset))
    dataset.close()
    dataset.close()
    assert other.fields == dataset.fields
    assert list(other) == list(dataset)


def test_replaced_files(path):
    dataset = DiskDataset(path)
    content = pickle.dumps(dataset)
    save_dataset(path, Dataset(x=Y, y=X))
    assert dataset[0].x.block().shape == (3, 4)  # the file that it opened
    with pytest.raises(MetatensorError, match="was replaced"):
        pickle.loads(content)[0]


def test_threads(path):
    dataset = DiskDataset(path, arrays="numpy")
    positions = np.random.default_rng(0).integers(6, size=200).tolist()
    with ThreadPoolExecutor(4) as executor:
        samples = list(executor.map(dataset.__getitem__, positions))
    assert all(sample.x == X[position] for position, sample in zip(positions, samples))


# ---- damage


def read_all(path):
    return list(DiskDataset(path, arrays="numpy"))


def test_every_truncation_is_found(path):
    content = path.read_bytes()
    for size in np.linspace(0, len(content) - 1, 60).astype(int).tolist():
        path.write_bytes(content[:size])
        with pytest.raises(MetatensorError):
            read_all(path)


def test_damaged_bytes_are_found_or_without_effect(path):
    content, expected = path.read_bytes(), read_all(path)
    rng = np.random.default_rng(0)
    found = 0
    for position in rng.integers(len(content), size=150).tolist():
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(damaged))
        try:
            samples = read_all(path)
        except MetatensorError:
            found += 1
        else:  # in time stamps and the like
            assert samples == expected
    assert found > 100


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda members: members.pop("2/y.mts"), "'2/y.mts' is missing"),
        (lambda members: members.pop("0/y.mts"), "samples"),
        (lambda members: (members.pop("2/y.mts"), members.pop("2/x.mts")), "is missing"),
        (lambda members: members.update({"6/x.mts": members["0/x.mts"]}), "samples"),
        (lambda members: members.update({"sample_id.json": b"{}"}), "JSON list"),
        (lambda members: members.update({"sample_id.json": b"[1.5, 2, 3, 4, 5, 6]"}), "JSON list"),
        (lambda members: members.update({"sample_id.json": b"[1, 1, 3, 4, 5, 6]"}), "unique"),
        (lambda members: members.update({"sample_id.json": b"[1]"}), "1 identities"),
        (lambda members: members.update({"sample_id.json": b"[" * 10**5}), "sample_id.json"),
        (lambda members: members.update({"sample_id.json": b"\xff"}), "sample_id.json"),
        (lambda members: members.update({"1/x.mts": b"no map"}), "'1/x.mts' of"),
        (
            lambda members: members.update({"1/x.mts": bytes(Labels.single().save_buffer())}),
            "to load Labels",
        ),
    ],
)
def test_wrong_archives(path, change, text):
    rewrite(path, change)
    with pytest.raises(MetatensorError, match=text):
        read_all(path)


def test_identities_of_others(path):
    rewrite(path, lambda members: members.update({"sample_id.json": json.dumps(IDS).encode()}))
    assert [sample.sample_id for sample in DiskDataset(path)] == IDS


# ---- memory

LIMITED = """
import resource, sys
import numpy as np
from metatensor import Labels, TensorBlock, TensorMap
from metatensor.learn.data import DiskDataset, save_dataset

def make_map(system):
    n = Labels.range("n", 1 << 17)
    block = TensorBlock(np.full((1, 1 << 17), float(system)), Labels.single(), [], n)
    return TensorMap(Labels.single(), [block])

def used():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()

path, count, extra = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
save_dataset(path, ({"x": make_map(system)} for system in range(2)))
resource.setrlimit(resource.RLIMIT_AS, (used() + extra,) * 2)
save_dataset(path, ({"x": make_map(system)} for system in range(count)))
total = 0.0
for sample in DiskDataset(path):
    total += float(sample.x.block().values[0, 0])
try:
    np.empty(2 * extra, dtype=np.uint8)
    print("no limit")
except MemoryError:
    print(total)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux")
def test_more_than_fits_into_memory(tmp_path):
    """32 MB of values and Labels are written, and read, by a process that can get 16 MB more."""
    path, count = tmp_path / "large.zip", 20
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path), str(count), str(16 << 20)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert run.stdout.split() == [str(float(sum(range(count))))], run.stderr
    assert path.stat().st_size > 30 << 20
