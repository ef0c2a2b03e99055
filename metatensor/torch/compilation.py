"""Functions of maps, compiled once for maps with any Labels."""

from __future__ import annotations

import functools
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils import _pytree as pytree

from metatensor import _checks
from metatensor.torch import _replay
from metatensor.torch._recording import (
    CONSTANTS,
    Array,
    Captured,
    Recipe,
    Recorder,
    Recording,
)

#: recordings that are kept, one for each set of Labels: those used last, and what they may take
_MOST_RECORDINGS = 256
_MOST_BYTES = 1 << 28
#: graphs that are compiled for one function
_MOST_GRAPHS = 8
#: versions of a graph for arrays with lengths of 0 and 1, which torch compiles apart
_MOST_PATTERNS = 4


def compile(  # noqa: A001
    function: Callable[..., Any] | None = None,
    *,
    backend: str | Callable[..., Any] = "inductor",
    mode: str | None = None,
    options: dict[str, Any] | None = None,
) -> Any:
    """Compile what a function of maps does to arrays, once for maps with any Labels.

    The function runs once for each new set of Labels, with arrays that have no numbers: what it
    does with Labels is done, what it does to arrays is recorded. Operations on arrays are then
    compiled by torch; index arrays and sizes that come from Labels are inputs of the compiled code.
    So it serves all batches of a training, whose Labels differ. `torch.compile` itself works on
    functions of maps too, and compiles for each set of Labels.

    Gradients: stored gradients are arrays as values are. Autograd goes through compiled functions,
    and may be used in them, so that forces can be computed inside and trained on outside.

    Parameters
    ----------
    function : callable
        of maps, blocks, tensors of torch, Labels and numbers, in dicts, lists and tuples; it
        returns such things. A module of torch is a function, and keeps its parameters. Without a
        function, a decorator is returned
    backend : str or callable, default="inductor"
        of `torch.compile`
    mode : str, optional
        of `torch.compile`, such as "max-autotune"
    options : dict, optional
        of `torch.compile`, for the backend

    Returns
    -------
    CompiledFunction
        a function with the same arguments and results

    Raises
    ------
    TypeError
        when called: for arrays of another library than torch, for arguments that can not be
        hashed, and for other things in the result
    RuntimeError
        when called: if the function asks for numbers in arrays, or uses an autograd function with a
        backward pass of its own of which the derivative is taken outside

    See Also
    --------
    export : the same, to be kept in a file

    Notes
    -----
    What the function does must be determined by its arguments. Modules that it calls may change
    their parameters, their buffers and whether they train, and numbers in variables may change;
    other things around it are taken as they are when it runs.

    A new set of Labels costs one run of the function, and about a tenth of a millisecond for each
    operation on arrays. This pays if batches come again, as they do if they are the same in each
    epoch, or if arrays are large. The last 256 sets are remembered, or fewer
    if their index arrays are large.

    If the sequence of operations depends on Labels, there is one graph for each; after eight, the
    function runs as it is. Arrays with a length of 0 or 1 are compiled apart by torch, at most four
    times.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> import metatensor.torch as mts
    >>> @mts.compile(backend="aot_eager")
    ... def energies(tensor):
    ...     return mts.sum_over_samples(tensor**2, "atom")
    >>> def batch(n_atoms):
    ...     rows = np.stack([np.arange(n_atoms) // 2, np.arange(n_atoms)], axis=1)
    ...     samples, one = mts.Labels(["system", "atom"], rows), mts.Labels.single()
    ...     block = mts.TensorBlock(torch.ones(n_atoms, 1), samples, [], one)
    ...     return mts.TensorMap(one, [block])
    >>> for n_atoms in range(4, 10):
    ...     result = energies(batch(n_atoms))
    >>> result.block().values.ravel()
    tensor([2., 2., 2., 2., 1.])
    >>> energies.n_graphs
    1

    """
    chosen: dict[str, Any] = {"backend": backend, "mode": mode, "options": options}
    if function is None:
        return functools.partial(compile, **chosen)
    if not callable(function):
        raise TypeError(f"`function` must be callable, got {_checks.kind(function)}")
    return CompiledFunction(function, chosen)


class Call(NamedTuple):
    """The arguments of a call, taken apart."""

    leaves: list[Any]
    structure: pytree.TreeSpec
    arrays: list[torch.Tensor]

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> Call:
        """Take arguments apart, those of the function of this name."""
        leaves, structure = pytree.tree_flatten((args, kwargs))
        for leaf in leaves:
            if isinstance(leaf, torch.Tensor):
                continue
            if hasattr(leaf, "shape"):
                raise TypeError(
                    f"`{name}` is compiled for arrays of torch, got {_checks.kind(leaf)} in its "
                    "arguments; use `.to(arrays='torch')`"
                )
            if getattr(leaf, "__hash__", None) is None:
                raise TypeError(
                    f"arguments of `{name}` must be arrays, maps, Labels, numbers and texts, in "
                    f"dicts, lists or tuples, to be compiled; got {_checks.kind(leaf)}"
                )
        return cls(leaves, structure, [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)])

    def key(self) -> tuple[Any, ...]:
        """Return all that a recording depends on: everything but the numbers in arrays."""
        return (self.structure, *map(_kind, self.leaves))

    def record(self, function: Callable[..., Any], recorder: Recorder) -> Recording:
        """Record what a function does with such arguments."""

        def of_arrays(fakes: list[torch.Tensor]) -> Any:
            given = iter(fakes)
            leaves = [next(given) if isinstance(v, torch.Tensor) else v for v in self.leaves]
            args, kwargs = pytree.tree_unflatten(leaves, self.structure)
            return function(*args, **kwargs)

        return recorder.record(of_arrays, self.arrays)


def result_of(
    recording: Recording, arrays: Sequence[torch.Tensor], made: Sequence[torch.Tensor]
) -> Any:
    """Return what a function returns, given its input arrays and the arrays it makes."""
    leaves, new = [], iter(made)
    for output, constant in zip(recording.recipe.outputs, recording.constants, strict=True):
        if _replay.is_made(output, recording.recipe):
            leaves.append(next(new))
        elif isinstance(output, Array):
            leaves.append(arrays[output.number])
        elif isinstance(output, Captured):
            leaves.append(recording.captured[output.number])
        else:
            leaves.append(constant)
    return pytree.tree_unflatten(leaves, recording.structure)


class CompiledFunction:
    """A function of maps whose operations on arrays are compiled, see :func:`compile`.

    Attributes
    ----------
    function : callable
        the function as it was given

    """

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        functools.update_wrapper(self, function, updated=())
        self.function = function
        self._name = name_of(function)
        self._options = options
        self._recorder = Recorder(self._name)
        self._recordings: OrderedDict[Any, list[Recording]] = OrderedDict()
        self._n_bytes = 0
        self._graphs: dict[Recipe, _Graph] = {}
        self._n_recordings = 0

    @property
    def n_recordings(self) -> int:
        """How often the function itself has run: once for each set of Labels."""
        return self._n_recordings

    @property
    def n_graphs(self) -> int:
        """How many different sequences of operations on arrays there were."""
        return len(self._graphs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the function returns."""
        call = Call.of(args, kwargs, self._name)
        recording = self._recording(call)
        graph = self._graphs.get(recording.recipe)
        if graph is None:
            if len(self._graphs) >= _MOST_GRAPHS:
                return self._run_as_it_is(args, kwargs)
            graph = _Graph(recording, self._options)
            self._graphs[recording.recipe] = graph
        made = graph.run(call.arrays, recording)
        return result_of(recording, call.arrays, made)

    def _recording(self, call: Call) -> Recording:
        key = (*call.key(), *_state(self.function))
        variants = self._recordings.pop(key, [])
        recording = next((found for found in variants if found.is_valid()), None)
        if recording is None:
            recording = call.record(self.function, self._recorder)
            self._n_recordings += 1
            self._n_bytes += _n_bytes(recording)
            variants.append(recording)
        self._recordings[key] = variants
        while len(self._recordings) > 1 and (
            len(self._recordings) > _MOST_RECORDINGS or self._n_bytes > _MOST_BYTES
        ):
            _, forgotten = self._recordings.popitem(last=False)
            self._n_bytes -= sum(map(_n_bytes, forgotten))
        return recording

    def _run_as_it_is(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        warnings.warn(
            f"`{self._name}` does another sequence of operations on arrays for each set of Labels; "
            f"{_MOST_GRAPHS} are compiled, it runs as it is for others",
            stacklevel=3,
        )
        return self.function(*args, **kwargs)


class _Graph:
    """A recipe, compiled for sizes that vary."""

    def __init__(self, recording: Recording, options: dict[str, Any]) -> None:
        self._recipe = recording.recipe
        self._sizes = recording.sizes
        self._options = options
        self._patterns: set[tuple[int, ...]] = set()
        self._vary([n for n, size in enumerate(self._sizes) if size > 1])

    def _vary(self, varying: list[int]) -> None:
        self._varying = varying
        self._fixed = sorted({*range(len(self._sizes))}.difference(varying))
        self._graph = _replay.as_graph(self._recipe, self._sizes, varying)
        self._compiled = torch.compile(
            self._graph.forward, fullgraph=True, dynamic=True, **self._options
        )
        self._patterns.clear()

    def run(self, arrays: list[torch.Tensor], recording: Recording) -> list[torch.Tensor]:
        sizes = recording.sizes
        other = [n for n in self._fixed if sizes[n] != self._sizes[n]]
        if other:
            self._vary(sorted([*self._varying, *other]))
        tensors = [*arrays, *recording.captured]
        given = [sizes[n] for n in self._varying]
        lengths = [length for tensor in tensors for length in tensor.shape]
        pattern = tuple([min(length, 2) for length in (*lengths, *given)])
        if pattern not in self._patterns:
            if len(self._patterns) == _MOST_PATTERNS:
                return list(self._graph(*tensors, *given))
            self._patterns.add(pattern)
        with _replay.free_lengths():
            return list(self._compiled(*tensors, *given))


def name_of(function: Callable[..., Any]) -> str:
    """Return how a function is called in errors."""
    return getattr(function, "__name__", type(function).__name__)


def _kind(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        return leaf.shape, leaf.stride(), leaf.dtype, leaf.device, leaf.requires_grad
    return type(leaf), repr(leaf) if isinstance(leaf, (float, complex)) else leaf


def _state(function: Callable[..., Any]) -> Iterator[Any]:
    """Yield what a recording depends on besides arguments, as far as it can be seen."""
    yield torch.is_grad_enabled()
    yield torch.is_inference_mode_enabled()
    yield torch.get_default_dtype()
    for device in ("cpu", "cuda"):
        yield torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
    for value in _around(function):
        if isinstance(value, CONSTANTS):
            yield _kind(value)


def _around(function: Callable[..., Any]) -> Iterator[Any]:
    """Yield what a function finds in the variables around it, None for those without a value."""
    plain = getattr(function, "__func__", function)
    for cell in getattr(plain, "__closure__", None) or ():
        try:
            yield cell.cell_contents
        except ValueError:
            yield None
    variables = getattr(plain, "__globals__", {})
    for name in getattr(getattr(plain, "__code__", None), "co_names", ()):
        yield variables.get(name)


def _n_bytes(recording: Recording) -> int:
    """Return the memory that is only there for the Labels of a recording."""
    return sum([array.nbytes for array in recording.plans()])
