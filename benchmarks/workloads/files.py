"""Saving, loading and pickling.

At size S what is asked is a third of what compiled objects would reach.
"""

import io
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import metatensor
from metatensor import Labels, TensorBlock, TensorMap
from workloads.data import (
    NAMES,
    ROWS,
    SAMPLES,
    atoms,
    column,
    make_block,
    make_keys,
    make_map,
    shuffled_table,
    tiny_blocks,
)
from workloads.registry import Case, workload

FOLDER = tempfile.TemporaryDirectory(prefix="metatensor-benchmark-")
MANY = 1_000


def data(size: str) -> TensorMap:
    """Ten blocks; at XL a thousand tiny ones."""
    if size == "XL":
        return TensorMap(make_keys(MANY), tiny_blocks(MANY))
    return make_map(size)


def saving(make: Callable[[str], Any], reader: str):
    """Overwrite a file; what is compared is its content, read back."""

    def prepare(size: str) -> Case:
        content, path = make(size), str(Path(FOLDER.name) / "data.mts")
        load = getattr(metatensor, reader)
        return Case(lambda: metatensor.save(path, content), result=lambda _: load(path))

    return prepare


def loading(make: Callable[[str], Any], reader: str):
    def prepare(size: str) -> Case:
        path = str(Path(FOLDER.name) / "data.mts")
        metatensor.save(path, make(size))
        load = getattr(metatensor, reader)
        return Case(lambda: load(path))

    return prepare


def one_block(size: str) -> TensorBlock:
    """As large as the ten blocks of a map."""
    samples, properties = (5, 3) if size == "S" else (10 * SAMPLES[size], 64)
    return make_block(atoms(samples), column(properties))


def labels(size: str) -> Labels:
    return Labels(NAMES, shuffled_table(ROWS[size]))


workload("io.save", S=2, M=4.4, L=4.9, XL=1.7)(saving(data, "load"))
workload("io.load", S=1, M=4.2, L=8, XL=1.7)(loading(data, "load"))
workload("io.load_block", S=1, M=7, L=9)(loading(one_block, "load_block"))
workload("io.save_labels", S=1, L=1.3)(saving(labels, "load_labels"))
workload("io.load_labels", S=1, L=3.2)(loading(labels, "load_labels"))


@workload("io.save_buffer", S=None, M=4.3, L=7)
def save_buffer(size: str) -> Case:
    tensor = data(size)
    return Case(tensor.save_buffer, result=lambda buffer: metatensor.io.load_buffer(buffer))


@workload("io.load_buffer", S=None, M=None, L=6)
def load_buffer(size: str) -> Case:
    buffer = bytes(data(size).save_buffer())
    return Case(lambda: metatensor.io.load_buffer(buffer))


@workload("io.save_file_object", M=None)
def save_file_object(size: str) -> Case:
    tensor = data(size)

    def call() -> io.BytesIO:
        file = io.BytesIO()
        metatensor.save(file, tensor)
        return file

    return Case(call, result=lambda file: metatensor.io.load_buffer(file.getvalue()))


@workload("io.pickle", S=1.7, M=6)
def pickle_map(size: str) -> Case:
    tensor = data(size)
    return Case(lambda: pickle.loads(pickle.dumps(tensor, protocol=5)))
