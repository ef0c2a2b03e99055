"""What training with torch costs: modules of maps, memory of datasets on disk, and data loaders.

- ``modules``: forward and backward through `ModuleMap` of linear layers, in turns with a plain loop
  over the same layers and arrays; ratios of medians of CPU time.
- ``memory``: iterates a `DiskDataset` larger than what the process may get, and prints how much
  memory it ever held on the way. Linux only.
- ``loaders``: passes twice through a `DataLoader` with each kind of worker processes, and compares
  all batches with those made without. Before Python 3.14 torch sends tensors to processes one by
  one, as file descriptors, of which forkserver takes 256: that fails for lists of tensors too.

One thread each::

    python benchmarks/training.py modules --rounds 31
    python benchmarks/training.py memory --megabytes 512 --limit 64
    python benchmarks/training.py loaders
"""

import argparse
import functools
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metatensor import Labels, TensorBlock, TensorMap
from metatensor.learn import DataLoader, Dataset
from metatensor.learn.data import DiskDataset, group_and_join, save_dataset
from metatensor.learn.nn import ModuleMap
from workloads.data import atoms, column, make_block, make_keys

# blocks, samples of each, and features
SHAPES = [
    (1, 10, 32),
    (4, 10, 32),
    (100, 20, 64),
    (10, 100, 64),
    (10, 1_000, 128),
    (4, 10_000, 256),
]


def seconds_of(call: Callable[[], Any], calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - start) / calls


# ---- modules


def modules(options: argparse.Namespace) -> None:
    print(f"{'blocks':>7}{'samples':>9}{'features':>9}{'map':>12}{'loop':>12}{'map / loop':>12}")
    for count, rows, features in SHAPES:
        blocks = [make_block(atoms(rows), column(features), seed=seed) for seed in range(count)]
        tensor = TensorMap(make_keys(count), blocks).to(arrays="torch")
        values = [block.values for block in tensor]
        layers = [torch.nn.Linear(features, features, dtype=torch.float64) for _ in values]
        module = ModuleMap(tensor.keys, layers)
        sides = {
            "map": lambda module=module, tensor=tensor: [b.values for b in module(tensor)],
            "loop": lambda layers=layers, values=values: [f(x) for f, x in zip(layers, values)],
        }
        found = turns(sides, list(module.parameters()), options.rounds)
        ratio = found["map"] / found["loop"]
        figures = "".join(f"{1e6 * found[side]:9.0f} us" for side in sides)
        print(f"{count:7}{rows:9}{features:9}{figures}{ratio:12.3f}")


def turns(
    sides: dict[str, Callable[[], list]], weights: list[torch.nn.Parameter], rounds: int
) -> dict[str, float]:
    """Median CPU seconds of each side, forward and backward."""

    def run(side: str) -> None:
        for weight in weights:
            weight.grad = None
        sum(result.sum() for result in sides[side]()).backward()

    calls = max(1, round(0.02 / seconds_of(lambda: run("loop"), 3)))
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, times in seconds.items():
            times.append(seconds_of(lambda side=side: run(side), calls))
    return {side: statistics.median(times) for side, times in seconds.items()}


# ---- memory


def one_megabyte(system: int) -> TensorMap:
    samples = Labels(["system", "atom"], np.insert(column(128), 0, system, axis=1))
    values = np.full((128, 1024), float(system))
    return TensorMap(Labels.single(), [TensorBlock(values, samples, [], Labels.range("n", 1024))])


def memory_of(name: str) -> int:
    """Bytes of this process: VmSize of addresses, VmRSS resident now, VmHWM ever resident."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))


def held_at_most(call: Callable[[], Any]) -> str:
    """Say what a call gives, and the most that was resident meanwhile."""
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    before = memory_of("VmRSS")
    try:
        result = call()
    except (MemoryError, RuntimeError) as error:
        result = type(error).__name__
    peak = memory_of("VmHWM")
    return f"{result}; peak {peak / 2**20:.0f} MiB, {(peak - before) / 2**20:.1f} above the start"


def memory(options: argparse.Namespace) -> None:
    count = options.megabytes
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "systems.zip"
        # what is loaded when it is first needed does not count
        save_dataset(path, ({"x": one_megabyte(system)} for system in range(2)))
        list(DataLoader(DiskDataset(path), batch_size=2))
        allowed = memory_of("VmSize") + (options.limit << 20)
        resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
        print(f"the process may get {options.limit} MiB more of address space")
        print("writing:    ", held_at_most(lambda: write(path, count)))
        dataset = DiskDataset(path)
        expected = float(sum(range(count)))
        print("one by one: ", held_at_most(lambda: total(dataset) == expected))
        loader = DataLoader(dataset, batch_size=8, shuffle=True)
        print("batches:    ", held_at_most(lambda: total(loader) == expected))
        print("all at once:", held_at_most(lambda: list(dataset)))


def write(path: Path, count: int) -> str:
    save_dataset(path, ({"x": one_megabyte(system)} for system in range(count)))
    return f"{path.stat().st_size / 2**20:.0f} MiB"


def total(samples: Iterable) -> float:
    return sum(float(sample.x.block().values[::128, 0].sum()) for sample in samples)


# ---- loaders


numbered = functools.partial(group_and_join, join_kwargs={"add_dimension": "number"})


def double(number: int) -> int:
    return 2 * number


LOADERS: dict[str, dict[str, Any]] = {
    "no workers": {},
    "2 workers, fork": {"num_workers": 2, "multiprocessing_context": "fork"},
    "2 workers, spawn": {"num_workers": 2, "multiprocessing_context": "spawn"},
    "2 workers, forkserver": {"num_workers": 2, "multiprocessing_context": "forkserver"},
    "2 workers, persistent": {"num_workers": 2, "persistent_workers": True},
    "no workers, pinned": {"pin_memory": True},
    "2 workers, pinned": {"num_workers": 2, "pin_memory": True},
}


def loaders(options: argparse.Namespace) -> None:
    if not torch.accelerator.is_available():
        print("no accelerator: torch pins nothing, and warns")
        warnings.filterwarnings("ignore", ".*pin_memory")
    blocks = [make_block(atoms(8), column(32), gradient_rows=2, seed=seed) for seed in range(4)]
    maps = [TensorMap(make_keys(4), [block.copy() for block in blocks]) for _ in range(200)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "systems.zip"
        save_dataset(path, Dataset(x=maps))
        datasets = {
            "numpy": Dataset(x=maps, number=double),
            "torch": Dataset(x=[tensor.to(arrays="torch") for tensor in maps], number=double),
            "on disk": DiskDataset(path),
        }
        print(f"{'':24}" + "".join(f"{name:>14}" for name in datasets))
        for name, arguments in LOADERS.items():
            print(f"{name:24}" + "".join(f"{works(d, arguments):>14}" for d in datasets.values()))


def works(dataset: Any, arguments: dict[str, Any]) -> str:
    """Say whether two passes through the data give the batches of a loader without workers."""
    try:
        expected = list(DataLoader(dataset, collate_fn=numbered, batch_size=32))
        loader = DataLoader(dataset, collate_fn=numbered, batch_size=32, **arguments)
        return "works" if all(list(loader) == expected for _ in range(2)) else "differs"
    except Exception as error:
        return type(error).__name__


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = {"modules": modules, "memory": memory, "loaders": loaders}
    parser.add_argument("what", choices=commands)
    parser.add_argument("--rounds", type=int, default=11, help="measurements of modules (11)")
    parser.add_argument("--megabytes", type=int, default=512, help="size of the dataset (512)")
    parser.add_argument("--limit", type=int, default=64, help="MiB the process may get (64)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    commands[options.what](options)


if __name__ == "__main__":
    main()
