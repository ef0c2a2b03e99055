"""What a function of maps does to arrays, recorded while Labels are computed.

A function runs once with arrays that have a shape and no numbers ("fake tensors" of torch). What it
computes from Labels is computed: plans, which are arrays of integers, and sizes. What it does to
values is recorded, operation by operation. The result is a recipe of which values, plans and sizes
are inputs, so that one recipe serves maps with other Labels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from threading import Lock
from typing import Any, NamedTuple, NoReturn

import torch
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.autograd.function import BackwardCFunction
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from metatensor import _checks
from metatensor.labels import Labels, LabelsEntry

#: what may be in the result of a function besides arrays, blocks and maps
CONSTANTS = (bool, int, float, complex, str, bytes, type(None), Labels, LabelsEntry)


class Array(NamedTuple):
    """An array in a recipe, by number: the inputs first, then all results as they come."""

    number: int


class Captured(NamedTuple):
    """An array that is no argument, by number: a parameter of a module, a plan, a constant."""

    number: int


class Size(NamedTuple):
    """An integer that may depend on Labels, by number."""

    number: int


class Number(NamedTuple):
    """A number as it is: its text tells 1 from 1.0 and True, which are equal in Python."""

    text: str
    value: bool | int | float | complex


class Step(NamedTuple):
    """One operation of torch."""

    function: Any
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]
    #: for each result whether it is an array; None for an operation that returns one array
    results: tuple[bool, ...] | None
    differentiable: bool


class Recipe(NamedTuple):
    """What to do with arrays and sizes; recipes for maps that differ in Labels only are equal."""

    n_inputs: int
    n_captured: int
    steps: tuple[Step, ...]
    #: the arrays of the result, None for each leaf that is a constant
    outputs: tuple[Array | Captured | None, ...]


class Recording(NamedTuple):
    """A recipe, what belongs to the Labels it was made for, and the rest of the result."""

    recipe: Recipe
    captured: list[torch.Tensor]
    sizes: tuple[int, ...]
    #: the leaves of the result, None for those that are arrays
    constants: list[Any]
    structure: pytree.TreeSpec
    #: the modules that were called, with what they were like
    modules: dict[torch.nn.Module, tuple[Any, ...]]

    def is_valid(self) -> bool:
        """Tell whether modules still are as they were, but for the numbers in their arrays."""
        return all(_likeness(module) == before for module, before in self.modules.items())

    def plans(self) -> list[torch.Tensor]:
        """Return what is captured and belongs to no module."""
        known = {id(array) for module in self.modules for array in _arrays_of(module)}
        return [array for array in self.captured if id(array) not in known]


class Recorder:
    """Makes recordings of one function.

    Parameters
    ----------
    name : str
        of the function, for errors

    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._lock = Lock()

    def record(
        self, function: Callable[[list[torch.Tensor]], Any], arrays: Sequence[torch.Tensor]
    ) -> Recording:
        """Record what a function of a list of arrays does.

        Parameters
        ----------
        function : callable
            gets a list of arrays, returns a tree of arrays, blocks, maps and constants
        arrays : sequence of Tensor
            of which only shapes, strides, dtypes, devices and the need of gradients are used

        Returns
        -------
        Recording

        Raises
        ------
        RuntimeError
            if the function asks for numbers in arrays, or has a backward pass of its own that is
            not recorded
        TypeError
            if the result has something else

        """
        with self._lock:
            tape = _Tape(self._mode, self._name)
            fakes = [tape.add_input(array) for array in arrays]
            modules: dict[torch.nn.Module, tuple[Any, ...]] = {}

            def note(module: torch.nn.Module, args: Any) -> None:
                modules.setdefault(module, _likeness(module))

            handle = register_module_forward_pre_hook(note)
            try:
                with tape, _Detaching(tape):
                    result = function(fakes)
            except (
                fake_tensor.DataDependentOutputException,
                fake_tensor.DynamicOutputShapeException,
            ) as error:
                self._refuse_numbers(error)
            except RuntimeError as error:
                if "numpy() is not supported for tensor subclasses" not in str(error):
                    raise
                self._refuse_numbers(error)
            finally:
                handle.remove()
            leaves, structure = pytree.tree_flatten(result)
            outputs = tuple([self._output(leaf, tape) for leaf in leaves])
            recipe = Recipe(len(fakes), len(tape.captured), tuple(tape.steps), outputs)
            constants = [None if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
            sizes = tuple(tape.sizes)
            return Recording(recipe, tape.captured, sizes, constants, structure, modules)

    def _output(self, leaf: Any, tape: _Tape) -> Array | Captured | None:
        if isinstance(leaf, torch.Tensor):
            self._check_backward(leaf)
            return tape.reference(leaf)
        if isinstance(leaf, CONSTANTS):
            return None
        raise TypeError(
            f"`{self._name}` must return arrays, blocks, maps, Labels, numbers and texts, in "
            f"dicts, lists or tuples, to be recorded; got {_checks.kind(leaf)} in the result"
        )

    def _refuse_numbers(self, error: Exception) -> NoReturn:
        raise RuntimeError(
            f"`{self._name}` asks for numbers in an array ({error}), which are not known while it "
            "is recorded; only Labels can decide what it does: use `torch.where`, or do this "
            "outside of it"
        ) from error

    def _check_backward(self, leaf: torch.Tensor) -> None:
        """Refuse functions with derivatives of their own, of which only the values are recorded."""
        waiting, seen = [leaf.grad_fn], set()
        while waiting:
            node = waiting.pop()
            if node is None or node in seen:
                continue
            if isinstance(node, BackwardCFunction):
                raise RuntimeError(
                    f"`{self._name}` uses {node.name()}, with a backward pass of its own, which is "
                    "recorded only if the derivative is taken inside: do this in the function, or "
                    "return `.detach()`"
                )
            seen.add(node)
            waiting += [other for other, _ in node.next_functions]


class _Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees all operations below autograd, those of its passes backwards too."""

    def __init__(self, mode: FakeTensorMode, name: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[Step] = []
        self.captured: list[torch.Tensor] = []
        self.sizes: list[int] = []
        self.detaches = False
        self._mode = mode
        self._name = name
        self._differentiates = torch.is_grad_enabled()
        self._numbers: dict[int, Array | Captured] = {}
        self._kept: list[torch.Tensor] = []  # since numbers go by `id`
        self._saves: list[torch.Tensor] = []
        self._computed: dict[int, torch.Tensor] = {}
        self._changed: set[int] = set()

    def add_input(self, array: torch.Tensor) -> torch.Tensor:
        with self._mode:
            fake = torch.empty_strided(
                array.shape, array.stride(), dtype=array.dtype, device=array.device
            )
        fake.requires_grad_(array.requires_grad)
        self._add(fake)
        return fake

    def _add(self, fake: torch.Tensor) -> None:
        self._numbers[id(fake)] = Array(len(self._kept))
        self._kept.append(fake)

    def reference(self, array: torch.Tensor) -> Array | Captured:
        found = self._numbers.get(id(array))
        if found is None:
            if isinstance(array, FakeTensor):
                raise RuntimeError(
                    f"`{self._name}` uses an array that an earlier recording has left in a "
                    "variable or attribute; what it computes must come from its arguments"
                )
            found = self._numbers[id(array)] = Captured(len(self.captured))
            self.captured.append(array)
        return found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.prim.device.default:
            return args[0].fake_device
        if func is torch.ops.aten.detach.default and not (self.detaches or self._is_plan(args[0])):
            return self._saved(args[0])
        kwargs = kwargs or {}
        arrays = [part for part in _parts((args, kwargs)) if isinstance(part, torch.Tensor)]
        if not self._computes(func, arrays, args, kwargs):
            return self._record(func, args, kwargs)
        result = func(*args, **kwargs)
        for part in _parts(result):
            if isinstance(part, torch.Tensor):
                self._computed[id(part)] = part
        return result

    def _computes(self, func: Any, arrays: list[torch.Tensor], args: Any, kwargs: Any) -> bool:
        """Tell whether an operation gives integers that depend on nothing but Labels."""
        if torch.Tag.nondeterministic_seeded in func.tags:
            return False
        if func._schema.is_mutable:
            if all(id(array) in self._computed for array in arrays):
                return True
            self._changed.update(map(id, arrays))
            return False
        if arrays:
            return all(map(self._is_plan, arrays))
        with self._mode:
            made = func(*args, **kwargs)
        return isinstance(made, torch.Tensor) and _is_integer(made)

    def _is_plan(self, array: torch.Tensor) -> bool:
        known = isinstance(array, FakeTensor) or id(array) in self._changed
        return _is_integer(array) and not known

    def _saved(self, array: torch.Tensor) -> torch.Tensor:
        """Return what autograd saves of a result, which it differentiates nevertheless."""
        saved: torch.Tensor = torch.ops.aten.detach.default(array)
        self._numbers[id(saved)] = self.reference(array)
        self._saves.append(saved)
        return saved

    def _record(self, func: Any, args: Any, kwargs: Any) -> Any:
        if func is torch.ops.aten.lift_fresh.default:  # of a constant, which is not to be changed
            func = torch.ops.aten.lift_fresh_copy.default
        with self._mode:
            result = func(*self._fake(args), **self._fake(kwargs))
        sized = _sized_arguments(func)
        described = [self._described(value, n in sized) for n, value in enumerate(args)]
        named = [(name, self._described(value, name in sized)) for name, value in kwargs.items()]
        several = isinstance(result, (list, tuple))
        parts = result if several else (result,)
        are_arrays = tuple([isinstance(part, torch.Tensor) for part in parts])
        for part in parts:
            if isinstance(part, torch.Tensor):
                self._add(part)
        results = None if are_arrays == (True,) and not several else are_arrays
        differentiable = torch.is_grad_enabled() or not self._differentiates
        self.steps.append(Step(func, tuple(described), tuple(named), results, differentiable))
        return result

    def _fake(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value if isinstance(value, FakeTensor) else self._mode.from_tensor(value)
        if isinstance(value, (list, tuple)):
            return [self._fake(part) for part in value]
        if isinstance(value, dict):
            return {name: self._fake(part) for name, part in value.items()}
        return value

    def _described(self, value: Any, sized: bool) -> Any:
        """Return an argument as it is in a recipe, which can be compared and hashed."""
        if isinstance(value, torch.Tensor):
            return self.reference(value)
        if isinstance(value, (list, tuple)):
            return tuple([self._described(part, sized) for part in value])
        if sized and type(value) is int:
            self.sizes.append(value)
            return Size(len(self.sizes) - 1)
        if isinstance(value, (bool, int, float, complex)):
            return Number(repr(value), math.nan if value != value else value)
        return value


class _Detaching(TorchFunctionMode):
    """Tells a tape which arrays are detached by the function, and not by autograd."""

    def __init__(self, tape: _Tape) -> None:
        super().__init__()
        self._tape = tape

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._tape.detaches = func in _DETACHING
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self._tape.detaches = False


_DETACHING = {
    torch.Tensor.detach,
    torch.Tensor.detach_,
    torch.Tensor.data.__get__,  # type: ignore[attr-defined]
    torch.detach,
    torch.detach_,
}


def _likeness(module: torch.nn.Module) -> tuple[Any, ...]:
    """Return whether a module trains, and which arrays it has, itself and not in its parts."""
    return (module.training, *map(id, _arrays_of(module)))


def _arrays_of(module: torch.nn.Module) -> list[torch.Tensor | None]:
    return [*module._parameters.values(), *module._buffers.values()]


def _is_integer(array: torch.Tensor) -> bool:
    return not (array.dtype.is_floating_point or array.dtype.is_complex)


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _parts(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from _parts(part)
    else:
        yield value


@cache
def _sized_arguments(func: Any) -> set[int | str]:
    """Return positions and names of the arguments that torch itself takes for sizes."""
    names = set(re.findall(r"SymInt(?:\[\d*\])?\?? (\w+)", str(func._schema)))
    positions = [n for n, argument in enumerate(func._schema.arguments) if argument.name in names]
    return names.union(positions)
