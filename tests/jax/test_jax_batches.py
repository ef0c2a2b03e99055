"""Batches of other sizes: how often functions are traced, for maps as they are and padded.

``python tests/jax/test_jax_batches.py`` prints the table for 15 sizes.
"""

import importlib
import sys

import numpy as np
import pytest

import metatensor
from metatensor import Labels, TensorBlock, TensorMap

jax = pytest.importorskip("jax")
jnp, lax = jax.numpy, jax.lax

pad_samples = importlib.import_module("metatensor.jax").pad_samples
#: what maps are padded to
SIZES = {"system": 20, "atom": 4}


# ---- transformations: of a function and the numbers that come in


def vmapped(function, given, *others):
    stacked = jax.tree.map(lambda array: jnp.stack([array, 2 * array]), given)
    return jax.vmap(function, in_axes=(0, *[None] * len(others)))(stacked, *others)


def scanned(function, given, *others):
    xs = jax.tree.map(lambda array: jnp.stack([array, 2 * array]), given)
    total = jax.tree.map(jnp.zeros_like, jax.eval_shape(function, given, *others))

    def step(total, each):
        total = jax.tree.map(jnp.add, total, function(each, *others))
        return total, total

    return lax.scan(step, total, xs)[1]


def chosen(function, *given):
    """Take the branch of the function, which is not known while it is traced."""

    def other(*given):
        return jax.tree.map(jnp.zeros_like, function(*given))

    return lax.cond(jax.tree.leaves(given)[0][0, 0] < 1e9, function, other, *given)


def squared(function):
    return lambda *args: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(function(*args)))


TRANSFORMATIONS = {
    "jit": lambda f, *args: f(*args),
    "grad": lambda f, *args: jax.grad(squared(f))(*args),
    "value_and_grad": lambda f, *args: jax.value_and_grad(squared(f))(*args)[1],
    "vmap": vmapped,
    "jacfwd": lambda f, *args: jax.jacfwd(f)(*args),
    "jacrev": lambda f, *args: jax.jacrev(f)(*args),
    "scan": scanned,
    "cond": chosen,
    "checkpoint": lambda f, *args: jax.grad(jax.checkpoint(squared(f)))(*args),
    "export": lambda f, *args: f(*args),
}


def expected(name, values, systems):
    """Return what a transformation of the sums of squares gives, by formulas."""
    member = np.unique(systems)[:, None] == systems
    sums = member @ values**2
    if name in ("grad", "value_and_grad", "checkpoint"):
        return 4 * values * (member.T @ sums)
    if name in ("jacfwd", "jacrev"):
        return 2 * np.einsum("si,ip,pq->spiq", member, values, np.eye(values.shape[1]))
    if name == "vmap":
        return np.stack([sums, 4 * sums])
    return np.stack([sums, 5 * sums]) if name == "scan" else sums


# ---- batches


def batch(size):
    """Return the values of atoms of some systems, and where these start."""
    systems = np.repeat(np.arange(size), 1 + np.arange(size) % 4)
    return np.random.default_rng(size).normal(size=(len(systems), 2)), systems


def as_map(values, systems):
    atoms = np.concatenate([np.arange(count) for count in np.bincount(systems)])
    samples = Labels(["system", "atom"], np.stack([systems, atoms], axis=1))
    block = TensorBlock(values, samples, [], Labels.range("n", 2))
    return TensorMap(Labels.single(), [block])


def sums(tensor):
    return metatensor.sum_over_samples(metatensor.multiply(tensor, tensor), "atom")


class Traced:
    """A jitted transformation of a function, which counts how often it is traced."""

    def __init__(self, name, function):
        self.traces = 0
        self.transform = TRANSFORMATIONS[name]
        self.function = function
        self.jitted = jax.jit(self.trace)
        self.exported = {} if name == "export" else None

    def trace(self, *args):
        self.traces += 1
        return self.transform(self.function, *args)

    def __call__(self, *args):
        if self.exported is None:
            return self.jitted(*args)
        structure = jax.tree.structure(args)
        if structure not in self.exported:
            content = jax.export.export(self.jitted)(*args).serialize()
            self.exported[structure] = jax.export.deserialize(content)
        return self.exported[structure].call(*args)


def array_of(result):
    """Return the only array in maps, and in maps of maps."""
    return jax.tree.leaves(result)[0]


def run_on_maps(traced, tensor):
    return array_of(traced(tensor.to(arrays="jax")))


def run_on_padded(traced, tensor):
    """Pad what goes in, and leave out what the padding gives."""
    found = np.asarray(array_of(traced(pad_samples(tensor, SIZES).to(arrays="jax"))))
    samples = tensor.block().samples
    of = {
        SIZES["system"]: np.unique(samples["system"]),
        SIZES["system"] * SIZES["atom"]: samples["system"] * SIZES["atom"] + samples["atom"],
    }
    for axis, length in enumerate(found.shape):
        if length in of:
            found = np.take(found, of[length], axis=axis)
    return found


FORMS = {"maps": run_on_maps, "padded maps": run_on_padded}


def deviation_and_traces(name, form, n_batches):
    """Return the largest deviation from the formulas, and how often the function is traced."""
    traced, deviations = Traced(name, sums), []
    for _ in range(2):  # the second time nothing is new
        for number in range(n_batches):
            values, systems = batch(number + 2)
            found = FORMS[form](traced, as_map(values, systems))
            deviations.append(np.abs(found - expected(name, values, systems)).max())
    return max(deviations), traced.traces


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["jit", "grad", "export"])
def test_traces_of_batches(name, form):
    if name == "export":
        pytest.importorskip("flatbuffers")
    deviation, traces = deviation_and_traces(name, form, n_batches=2)
    assert deviation < 1e-12
    assert traces == (2 if form == "maps" else 1)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    n_batches = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    print("| transformation |", " | ".join(f"{form}: works, traces" for form in FORMS), "|")
    print("|---|", "---|" * len(FORMS), sep="")
    for name in TRANSFORMATIONS:
        cells = []
        for form in FORMS:
            deviation, traces = deviation_and_traces(name, form, n_batches)
            cells.append(f"{'yes' if deviation < 1e-12 else 'no'} ({deviation:.0e}), {traces}")
        print(f"| `{name}` |", " | ".join(cells), "|", flush=True)
