"""What compiling the loss of a training is worth, on this machine.

``python benchmarks/compilation.py [--rows 200 600]``

The loss of networks for three species, on energies and forces, and its gradients with respect to
all parameters: the function as it is, compiled with `metatensor.torch.compile` for Labels that it
has seen, and for new ones. The three alternate, CPU time counts.
"""

import argparse
import time

import numpy as np
import torch

import metatensor
import metatensor.torch as mts
from metatensor import Labels, TensorBlock, TensorMap
from metatensor.learn import nn

KEYS = Labels.range("center_type", 3)
N_FEATURES, N_HIDDEN, N_NEIGHBORS, ROUNDS = 32, 64, 8, 7


def batch(n_atoms, seed):
    """Return features of systems of 30 atoms, about `n_atoms` of each species."""
    rng = np.random.default_rng(seed)
    properties, xyz = Labels.range("n", N_FEATURES), [Labels.range("xyz", 3)]
    blocks = []
    for rows in n_atoms + rng.integers(0, 9, size=3):
        atoms, pairs = np.arange(rows), np.arange(rows * N_NEIGHBORS)
        block = TensorBlock(
            torch.tensor(rng.normal(size=(rows, N_FEATURES))),
            Labels(["system", "atom"], np.stack([atoms // 30, atoms], axis=1)),
            [],
            properties,
        )
        gradient = TensorBlock(
            torch.tensor(rng.normal(size=(len(pairs), 3, N_FEATURES))),
            Labels(["sample", "atom"], np.stack([pairs // N_NEIGHBORS, pairs], axis=1)),
            xyz,
            properties,
        )
        block.add_gradient("positions", gradient)
        blocks.append(block)
    return TensorMap(KEYS, blocks)


def make_model():
    """Return networks of two hidden layers."""
    torch.manual_seed(0)
    return nn.ChainRule(
        nn.Sequential(
            KEYS,
            nn.Linear(KEYS, N_FEATURES, N_HIDDEN),
            nn.SiLU(KEYS),
            nn.Linear(KEYS, N_HIDDEN, N_HIDDEN),
            nn.SiLU(KEYS),
            nn.Linear(KEYS, N_HIDDEN, 1),
        )
    ).to(torch.float64)


def measure(n_atoms):
    """Print the time of each kind of call."""
    model = make_model()

    def loss_of(tensor):
        per_atom = model(tensor).keys_to_samples("center_type")
        energies = metatensor.sum_over_samples(per_atom, ["atom", "center_type"]).block()
        forces = energies.gradient("positions").values
        return (energies.values**2).sum() + (forces**2).sum()

    def gradients(function, tensor):
        return torch.autograd.grad(function(tensor), list(model.parameters()))

    compiled = mts.compile(loss_of)
    batches = [batch(n_atoms, seed) for seed in range(2 + ROUNDS)]
    start = time.perf_counter()
    gradients(compiled, batches[0])
    gradients(compiled, batches[1])
    first = time.perf_counter() - start

    seconds = {"as it is": [], "Labels seen before": [], "new Labels": []}
    functions = (loss_of, compiled, compiled)
    differences = []
    for new in batches[2:]:
        for name, function, tensor in zip(
            seconds, functions, (batches[0], batches[0], new), strict=True
        ):
            start = time.process_time()
            found = gradients(function, tensor)
            seconds[name].append(time.process_time() - start)
        wanted = gradients(loss_of, new)
        differences += [((a - b).norm() / b.norm()).item() for a, b in zip(found, wanted)]
    as_it_is, seen, new = (1000 * np.median(times) for times in seconds.values())
    print(
        f"{n_atoms:6d} atoms of each species: as it is {as_it_is:.1f} ms, compiled {seen:.1f} ms "
        f"({as_it_is / seen:.1f}x), with new Labels {new:.1f} ms ({as_it_is / new:.2f}x); "
        f"{compiled.n_graphs} graph, compiled in {first:.0f} s, differences {max(differences):.0e}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", type=int, default=[30, 200, 2000])
    for n_atoms in parser.parse_args().rows:
        measure(n_atoms)
