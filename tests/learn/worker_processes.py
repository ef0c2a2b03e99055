"""Checks data loaders with two worker processes, started by the method in the first argument.

A program of its own, run by `test_data.py`: processes must not be forked from one with threads, as
that of the tests is once jax was used.
"""

import os
import sys
import tempfile
import warnings
from functools import partial

import numpy as np
import torch

import metatensor
from metatensor import Labels, TensorBlock, TensorMap
from metatensor.learn import DataLoader, Dataset, IndexedDataset
from metatensor.learn.data import DiskDataset, save_dataset


def make_map(system):
    rng = np.random.default_rng(system)
    samples = Labels(["system", "atom"], np.array([[system, atom] for atom in range(2)]))
    n = Labels.range("n", 3)
    block = TensorBlock(rng.random((2, 3)), samples, [], n)
    rows = Labels(["sample", "cell"], np.array([[0, 1], [1, 1]]))
    block.add_gradient("strain", TensorBlock(rng.random((2, 3)), rows, [], n))
    return TensorMap(Labels.single(), [block])


def double(name):
    return 2 * name


def read(dataset, name):
    return dataset.get_sample(name).tensor


def check(batches, maps):
    assert [batch.twice for batch in batches] == [("aa", "bb", "cc"), ("dd", "ee", "ff"), ("gg",)]
    for start, batch in zip((0, 3, 6), batches):
        expected = metatensor.join(maps[start : start + 3], "samples").to(arrays="torch")
        assert type(batch).__name__ == "Batch"
        assert batch.torch == expected
        assert batch.numpy.to(arrays="torch") == expected
        assert batch.disk == expected
        for tensor in (batch.torch, batch.disk):
            values = tensor.block().gradient("strain").values
            assert values.is_pinned() if torch.cuda.is_available() else values.is_shared()


def main(method):
    names, maps = list("abcdefg"), [make_map(system) for system in range(7)]
    path = os.path.join(tempfile.mkdtemp(), "systems.zip")
    save_dataset(path, IndexedDataset(sample_id=names, tensor=maps))
    disk = DiskDataset(path)
    assert disk[0].tensor.block().values.shape == (2, 3)  # the file is open when workers start
    dataset = IndexedDataset(
        sample_id=names,
        torch=[tensor.to(arrays="torch") for tensor in maps],
        numpy=maps,
        disk=partial(read, disk),
        twice=double,
    )
    options = {"num_workers": 2, "persistent_workers": True, "multiprocessing_context": method}
    loader = DataLoader(dataset, batch_size=3, pin_memory=True, **options)
    for _ in range(2):
        check(list(loader), maps)
    if method == "fork":
        shuffled = DataLoader(Dataset(x=maps, position=list(range(7))), shuffle=True, num_workers=2)
        assert sorted(batch.position[0] for batch in shuffled) == list(range(7))
        on_disk = list(DataLoader(disk, batch_size=4, num_workers=2))
        assert [batch.sample_id for batch in on_disk] == [tuple("abcd"), tuple("efg")]
    print("fine")


if __name__ == "__main__":
    warnings.filterwarnings("ignore", "'pin_memory' argument is set as true", UserWarning)
    main(sys.argv[1])
