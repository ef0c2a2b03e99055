"""Functions of maps, compiled once for maps with any Labels."""

from __future__ import annotations

import functools
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from threading import RLock
from typing import Any

import torch
from torch._dynamo.exc import FailOnRecompileLimitHit
from torch.autograd import forward_ad

from metatensor import _checks
from metatensor.torch import _replay
from metatensor.torch._calls import Call, Surrounding, name_of, result_of
from metatensor.torch._recording import Recipe, Recording

#: recordings that are kept, one for each set of Labels: those used last, and what they may take
_MOST_RECORDINGS = 256
_MOST_BYTES = 1 << 28
#: graphs that are compiled for one function
_MOST_GRAPHS = 8
#: versions of a graph for what torch compiles apart: dtypes, needs of gradients, lengths of 0 and 1
_MOST_KINDS = 8
#: recordings for one set of Labels that differ in what is around the function
_MOST_VARIANTS = 4


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
        when called: for arrays of another library than torch, sparse ones, and those of classes
        derived from torch's; for arguments that can not be hashed, other things in the result
    RuntimeError
        when called: if the function asks for numbers in arrays, uses an autograd function with a
        backward pass of its own of which the derivative is taken outside, or does something else
        that compiled code would not do, see below

    See Also
    --------
    export : the same, to be kept in a file

    Notes
    -----
    What the function does must be determined by its arguments. Modules may change in all ways:
    their parameters, buffers and parts, whether they train, numbers in attributes. So may numbers
    in variables that the function uses itself, and which objects these hold. What is deeper in
    lists, dicts and objects around it is taken as it is when the function runs; so are
    `torch.manual_seed` in it, and random numbers that are not those of torch.

    The function must return what it makes. An error is raised if it changes lists, dicts or maps
    that it is given, or leaves arrays in attributes or ``.grad``; and for what torch does besides
    operations on arrays: hooks, assignments to ``.data``, ``.detach_()``. Arrays that it is given,
    and buffers, may be changed in place.

    Derivatives that are taken inside are those of what is done inside, also where an argument was
    computed from another one. Torch has no second derivatives through compiled code, from outside:
    take the first ones inside.

    A new set of Labels costs one run of the function, and some tenths of a millisecond for each
    operation on arrays. This pays if batches come again, as they do if they are the same in each
    epoch, or if arrays are large. The last 256 sets are remembered, or fewer if their index
    arrays are large.

    If the sequence of operations depends on Labels, there is one graph for each; after eight, the
    function runs as it is. Numbers that are added to arrays or are factors, as in
    ``values / len(samples)``, are inputs of the compiled code once they have changed; others are
    part of the sequence. What torch compiles apart (dtypes, needs of
    gradients, lengths of 0 and 1) it compiles eight times, then operations run one by one.

    Inside `torch.compile`, `torch.export`, transforms of `torch.func` and other functions that are
    compiled by this one, the function runs as it is.

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
        self._surrounding = Surrounding(function)
        self._known: OrderedDict[Any, list[_Known]] = OrderedDict()
        self._n_bytes = 0
        self._graphs: dict[Recipe, _Graph] = {}
        self._n_recordings = 0
        self._lock = RLock()

    def __repr__(self) -> str:
        return (
            f"CompiledFunction({self._name}: {self.n_graphs} graph(s) from "
            f"{self.n_recordings} recording(s))"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return CompiledFunction, (self.function, self._options)

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
        if _is_traced():
            return self.function(*args, **kwargs)
        call = Call.of(args, kwargs, self._name)
        with self._lock:
            known = self._find(call)
            run = None if known.graph is None else known.graph.bound(call.arrays, known)
        if run is None:
            return self._run_as_it_is(args, kwargs)
        for number in known.recording.newly_followed:
            call.arrays[number].requires_grad_()
        with _replay.as_recorded(known.recording):
            made = run()
        return result_of(known.recording, call.arrays, made)

    def _find(self, call: Call) -> _Known:
        key = _Key((*call.key(), *_state(), *self._surrounding.likeness()))
        variants = self._known.setdefault(key, [])
        self._known.move_to_end(key)
        known = next((found for found in variants if found.recording.is_valid()), None)
        if known is None:
            recording = call.record(self.function)
            self._n_recordings += 1
            graph = self._graphs.get(recording.recipe)
            if graph is None and len(self._graphs) < _MOST_GRAPHS:
                graph = self._graphs[recording.recipe] = _Graph(recording, self._options)
            known = _Known.of(recording, graph, call.arrays)
            variants.append(known)
            self._n_bytes += known.n_bytes
        self._forget(variants)
        return known

    def _forget(self, latest: list[_Known]) -> None:
        """Keep the number of recordings, and the memory they take, below what they may be."""
        self._n_bytes -= sum([known.n_bytes for known in latest[:-_MOST_VARIANTS]])
        del latest[:-_MOST_VARIANTS]
        while len(self._known) > 1 and (
            len(self._known) > _MOST_RECORDINGS or self._n_bytes > _MOST_BYTES
        ):
            _, forgotten = self._known.popitem(last=False)
            self._n_bytes -= sum([known.n_bytes for known in forgotten])

    def _run_as_it_is(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        warnings.warn(
            f"`{self._name}` does another sequence of operations on arrays for each set of Labels; "
            f"{_MOST_GRAPHS} are compiled, it runs as it is for others",
            stacklevel=3,
        )
        return self.function(*args, **kwargs)


class _Key:
    """What a recording is found by, whose hash is computed once."""

    __slots__ = ("_hash", "_parts")

    def __init__(self, parts: tuple[Any, ...]) -> None:
        self._parts = parts
        self._hash = hash(parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._parts == other._parts

    def __hash__(self) -> int:
        return self._hash


@dataclass
class _Known:
    """A recording, and its graph: None where there are too many."""

    recording: Recording
    graph: _Graph | None
    #: what torch compiles apart
    kind: tuple[Any, ...]
    n_bytes: int
    #: compiled code that has run for it before, and needs not to be compiled again
    code: Any = None

    @classmethod
    def of(cls, recording: Recording, graph: _Graph | None, arrays: list[torch.Tensor]) -> _Known:
        tensors = [*arrays, *recording.captured]
        lengths = [length for tensor in tensors for length in tensor.shape]
        kind = (
            torch.is_grad_enabled(),
            *[(tensor.dtype, tensor.device, tensor.requires_grad) for tensor in tensors],
            *[min(length, 2) for length in lengths],
            *[min(size, 2) for size in recording.sizes if type(size) is int],
        )
        if graph is not None:  # equal recipes are kept once
            recording = recording._replace(recipe=graph.recipe)
        return cls(recording, graph, kind, sum([array.nbytes for array in recording.plans()]))


class _Graph:
    """A recipe, compiled for sizes that vary."""

    def __init__(self, recording: Recording, options: dict[str, Any]) -> None:
        self.recipe = recording.recipe
        self._sizes = recording.sizes
        self._options = options
        self._kinds: set[Any] = set()
        self._vary(recording.free)

    def _vary(self, varying: Sequence[int]) -> None:
        self._varying = varying
        self._fixed = sorted({*range(len(self._sizes))}.difference(varying))
        self._graph = _replay.as_graph(self.recipe, self._sizes, varying)
        self._compiled = torch.compile(
            self._graph.forward, fullgraph=True, dynamic=True, **self._options
        )
        self._kinds.clear()

    def bound(self, arrays: list[torch.Tensor], known: _Known) -> Callable[[], list[torch.Tensor]]:
        """Return a function that runs what is compiled, or the graph if that is too much."""
        sizes = known.recording.sizes
        other = [n for n in self._fixed if sizes[n] != self._sizes[n]]
        if other:
            self._vary(sorted([*self._varying, *other]))
        inputs = [*arrays, *known.recording.captured, *[sizes[n] for n in self._varying]]
        graph, compiled = self._graph, self._compiled
        if known.kind not in self._kinds and len(self._kinds) == _MOST_KINDS:
            return lambda: list(graph(*inputs))
        self._kinds.add(known.kind)

        def run() -> list[torch.Tensor]:
            is_new = known.code is not compiled
            with _replay.free_lengths() if is_new else nullcontext():
                try:
                    made = list(compiled(*inputs))
                except FailOnRecompileLimitHit:  # strides, or lengths that were equal
                    return list(graph(*inputs))
            known.code = compiled
            return made

        return run


def _is_traced() -> bool:
    """Tell whether something follows what is done to arrays: a transform, or another recording."""
    return (
        torch.compiler.is_compiling()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._len_torch_dispatch_stack() > 0
        or forward_ad._current_level >= 0
    )


def _state() -> tuple[Any, ...]:
    """Return what torch is told to do, on which a recording depends."""
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        *[
            torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
            for device in ("cpu", "cuda")
        ],
    )
