"""Recipes of what to do with arrays, as functions that torch can compile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from operator import getitem
from typing import Any

import torch
from torch import fx
from torch.fx.experimental import _config

from metatensor.torch._recording import Recipe, Recording
from metatensor.torch._tape import Array, Captured, Number, Size


def as_graph(
    recipe: Recipe, sizes: tuple[int | float, ...], varying: Sequence[int]
) -> fx.GraphModule:
    """Return a recipe as a function of the inputs, what is captured, and sizes that vary.

    Parameters
    ----------
    recipe : Recipe
    sizes : tuple of int and float
        those of a recording
    varying : sequence of int
        numbers of the sizes that are arguments; the others become part of the graph

    Returns
    -------
    GraphModule
        which returns the list of the arrays that are made, see :meth:`Recipe.makes`

    """
    graph = fx.Graph()
    arrays = [graph.placeholder(f"input_{n}") for n in range(recipe.n_inputs)]
    captured = [graph.placeholder(f"captured_{n}") for n in range(recipe.n_captured)]
    given = {n: graph.placeholder(f"size_{n}") for n in varying}

    def found(value: Any, differentiable: bool = True) -> Any:
        if isinstance(value, (Array, Captured)):
            node = (arrays if isinstance(value, Array) else captured)[value.number]
            if differentiable:
                return node
            return graph.call_function(torch.ops.aten.detach.default, (node,))
        if isinstance(value, Size):
            return given.get(value.number, sizes[value.number])
        if isinstance(value, Number):
            return value.value
        if isinstance(value, tuple):
            return [found(part, differentiable) for part in value]
        return value

    for step in recipe.steps:
        args = tuple([found(value, step.differentiable) for value in step.args])
        kwargs = {name: found(value, step.differentiable) for name, value in step.kwargs}
        node = graph.call_function(step.function, args, kwargs)
        if step.results is None:
            arrays.append(node)
        else:
            arrays += [
                graph.call_function(getitem, (node, position))
                for position, is_array in enumerate(step.results)
                if is_array
            ]
    graph.output([found(value) for value in recipe.outputs if recipe.makes(value)])
    return fx.GraphModule(torch.nn.Module(), graph)


def free_lengths() -> AbstractContextManager[None]:
    """Make torch compile code that does not rely on lengths that happen to be the same now."""
    config: Any = _config
    context: AbstractContextManager[None] = config.patch(use_duck_shape=False)
    return context


@contextmanager
def as_recorded(recording: Recording) -> Iterator[None]:
    """Let torch follow what it followed in a recording, of which casts are part."""
    with ExitStack() as stack:
        if any(recording.followed) and not torch.is_grad_enabled():
            stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield
