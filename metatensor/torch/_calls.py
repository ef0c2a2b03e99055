"""Calls of functions that are recorded: what they are given, find around them, and return."""

from __future__ import annotations

import dis
import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from types import CodeType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils import _pytree as pytree

from metatensor import _checks
from metatensor._trees import BlockStructure, MapStructure
from metatensor.labels import Labels
from metatensor.torch._recording import CONSTANTS, Recorder, Recording
from metatensor.torch._tape import Array, Captured


class Call(NamedTuple):
    """The arguments of a call, taken apart."""

    leaves: list[Any]
    structure: pytree.TreeSpec
    #: each tensor once
    arrays: list[torch.Tensor]
    #: for each leaf that is a tensor which of the arrays it is
    positions: tuple[int, ...]

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> Call:
        """Take arguments apart, those of the function of this name."""
        leaves, structure = pytree.tree_flatten((args, kwargs))
        known: dict[int, int] = {}
        arrays: list[torch.Tensor] = []
        positions: list[int] = []
        for leaf in leaves:
            if not isinstance(leaf, torch.Tensor):
                _check_leaf(leaf, name)
                continue
            if id(leaf) not in known:
                _check_array(leaf, name)
                known[id(leaf)] = len(arrays)
                arrays.append(leaf)
            positions.append(known[id(leaf)])
        return cls(leaves, structure, arrays, tuple(positions))

    def key(self) -> tuple[Any, ...]:
        """Return all that a recording depends on: everything but the numbers in arrays."""
        places = tuple(_places(self.structure))
        return (self.structure, places, self.positions, *map(_kind, self.leaves))

    def record(self, function: Callable[..., Any]) -> Recording:
        """Record what a function does with such arguments."""
        name = name_of(function)

        def of_arrays(fakes: list[torch.Tensor]) -> Any:
            following = iter(self.positions)
            leaves = [
                fakes[next(following)] if isinstance(v, torch.Tensor) else v for v in self.leaves
            ]
            args, kwargs = pytree.tree_unflatten(leaves, self.structure)
            result = function(*args, **kwargs)
            after, structure = pytree.tree_flatten((args, kwargs))
            if structure != self.structure or any(map(operator.is_not, after, leaves)):
                raise RuntimeError(
                    f"`{name}` changes the lists, dicts, blocks or maps that it is "
                    "given, which compiled code does not; return what it makes instead"
                )
            return result

        given = [leaf for leaf in self.leaves if isinstance(leaf, torch.nn.Module)]
        modules = [*given, *Surrounding(function).modules()]
        return Recorder(name).record(of_arrays, self.arrays, modules)


def result_of(
    recording: Recording, arrays: Sequence[torch.Tensor], made: Sequence[torch.Tensor]
) -> Any:
    """Return what a function returns, given its input arrays and the arrays it makes."""
    leaves, new = [], iter(made)
    copies: dict[int, torch.Tensor] = {}
    for output, constant in zip(recording.recipe.outputs, recording.constants, strict=True):
        if recording.recipe.makes(output):
            leaves.append(next(new))
        elif isinstance(output, Array):
            leaves.append(arrays[output.number])
        elif isinstance(output, Captured):
            number = output.number
            if number in recording.made and number not in copies:  # which users may change
                copies[number] = recording.captured[number].clone()
            leaves.append(copies.get(number, recording.captured[number]))
        else:
            leaves.append(constant)
    return pytree.tree_unflatten(leaves, recording.structure)


class Surrounding:
    """The variables around a function that it uses itself.

    Parameters
    ----------
    function : callable

    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._owner = getattr(function, "__self__", None)
        while isinstance(function, functools.partial):
            function = function.func
        if isinstance(function, torch.nn.Module):
            self._owner, function = function, type(function).forward
        elif not hasattr(function, "__code__") and not hasattr(function, "__func__"):
            function = type(function).__call__
        plain = getattr(function, "__func__", function)
        self._cells = getattr(plain, "__closure__", None) or ()
        self._variables = getattr(plain, "__globals__", {})
        self._names = sorted(_global_names(getattr(plain, "__code__", None)))

    def values(self) -> Iterator[Any]:
        """Yield what is in the variables, None for those without a value."""
        for cell in self._cells:
            try:
                yield cell.cell_contents
            except ValueError:
                yield None
        for name in self._names:
            yield self._variables.get(name)

    def likeness(self) -> Iterator[Any]:
        """Yield numbers, texts and Labels as they are, and which object each other one is."""
        for value in self.values():
            yield _kind(value) if isinstance(value, CONSTANTS) else _Same(value)

    def modules(self) -> Iterator[torch.nn.Module]:
        """Yield the modules in variables and all their parts."""
        for value in (self._owner, *self.values()):
            if isinstance(value, torch.nn.Module):
                yield from value.modules()


class _Same:
    """Equal to itself, whatever the object is like."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._value is other._value

    def __hash__(self) -> int:
        return id(self._value)


def _global_names(code: CodeType | None) -> set[str]:
    """Return the names of global variables in code, and in functions that it makes."""
    if code is None:
        return set()
    names = {part.argval for part in dis.get_instructions(code) if part.opname == "LOAD_GLOBAL"}
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return names.union(*map(_global_names, inner))


def name_of(function: Callable[..., Any]) -> str:
    """Return how a function is called in errors."""
    return getattr(function, "__name__", type(function).__name__)


def _check_array(array: torch.Tensor, name: str) -> None:
    is_plain = type(array) in (torch.Tensor, torch.nn.Parameter) and not array.is_nested
    if not is_plain or array.layout is not torch.strided:
        raise TypeError(
            f"arguments of `{name}` must be dense arrays of torch itself to be compiled, got "
            f"{_checks.kind(array)} with layout {array.layout}"
        )


def _check_leaf(leaf: Any, name: str) -> None:
    if hasattr(leaf, "shape") and not isinstance(leaf, np.generic):
        raise TypeError(
            f"`{name}` is compiled for arrays of torch, got {_checks.kind(leaf)} in its "
            "arguments; use `.to(arrays='torch')`"
        )
    if getattr(leaf, "__hash__", None) is None:
        raise TypeError(
            f"arguments of `{name}` must be arrays, maps, Labels, numbers and texts, in "
            f"dicts, lists or tuples, to be compiled; got {_checks.kind(leaf)}"
        )


def _kind(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        flags = leaf.requires_grad, leaf.is_conj(), leaf.is_neg(), leaf.is_inference()
        return leaf.shape, leaf.stride(), leaf.dtype, leaf.device, flags
    if isinstance(leaf, Labels):
        return leaf, _place(leaf)
    return type(leaf), repr(leaf) if isinstance(leaf, (float, complex)) else leaf


def _places(structure: pytree.TreeSpec) -> Iterator[Any]:
    """Yield where the values of Labels are, which makes them no other Labels."""
    context = structure.context
    if isinstance(context, MapStructure):
        yield _place(context.keys)
    elif isinstance(context, BlockStructure):
        yield from map(_place, (context.samples, *context.components, context.properties))
    for child in structure.children():
        yield from _places(child)


def _place(labels: Labels) -> torch.device | None:
    device: torch.device | None = labels._device
    return device
