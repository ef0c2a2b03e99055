"""What a function of maps does to arrays, recorded while Labels are computed.

A function runs once with arrays that have a shape and no numbers ("fake tensors" of torch). What it
computes from Labels is computed: plans, which are arrays of integers, and sizes. What it does to
values is recorded, operation by operation. The result is a recipe of which values, plans and sizes
are inputs, so that one recipe serves maps with other Labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, NoReturn

import torch
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.function import BackwardCFunction
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils import _pytree as pytree

from metatensor import _checks
from metatensor.labels import Labels, LabelsEntry
from metatensor.torch._tape import Array, Captured, NeedsNumbersError, Step, Tape, Watch

#: what may be in the result of a function besides arrays, blocks and maps
CONSTANTS = (bool, int, float, complex, str, bytes, type(None), Labels, LabelsEntry)


class Recipe(NamedTuple):
    """What to do with arrays and sizes; recipes for maps that differ in Labels only are equal."""

    n_inputs: int
    n_captured: int
    steps: tuple[Step, ...]
    #: the arrays of the result, None for each leaf that is a constant
    outputs: tuple[Array | Captured | None, ...]

    def makes(self, output: Array | Captured | None) -> bool:
        """Tell whether a leaf of the result is an array that was made, no input and no constant."""
        return isinstance(output, Array) and output.number >= self.n_inputs


class Recording(NamedTuple):
    """A recipe, what belongs to the Labels it was made for, and the rest of the result."""

    recipe: Recipe
    captured: list[torch.Tensor]
    sizes: tuple[int | float, ...]
    #: numbers of the sizes that differ for most Labels; the others are factors, and zeros and ones
    free: tuple[int, ...]
    #: the leaves of the result, None for those that are arrays
    constants: list[Any]
    structure: pytree.TreeSpec
    #: for each array that is made whether torch follows it
    followed: list[bool]
    #: numbers of the inputs that the function lets torch follow, and did not follow before
    newly_followed: list[int]
    #: numbers of what is captured that was computed from Labels, for these alone
    made: frozenset[int]
    surroundings: Surroundings

    def is_valid(self) -> bool:
        """Tell whether what is around the function is as it was, but for numbers in arrays."""
        return self.surroundings.are_as_before()

    def plans(self) -> list[torch.Tensor]:
        """Return what is captured and belongs to no module."""
        known = self.surroundings.arrays_of_modules()
        return [array for array in self.captured if id(array) not in known]


class Surroundings:
    """What is around a function, as it was when it ran: modules, and arrays that it captured."""

    def __init__(self, modules: Iterable[torch.nn.Module]) -> None:
        self._before: dict[torch.nn.Module, tuple[Any, ...]] = {}
        self._attributes: dict[torch.nn.Module, list[dict[str, Any]]] = {}
        self._after: dict[torch.nn.Module, tuple[Any, ...]] = {}
        self._arrays: list[tuple[torch.Tensor, tuple[Any, ...]]] = []
        self._versions: list[tuple[torch.Tensor, int]] = []
        for module in modules:
            self.note(module)

    @property
    def modules(self) -> list[torch.nn.Module]:
        """Return the modules that were called, or are in variables of the function."""
        return [*self._before]

    def note(self, module: torch.nn.Module, args: Any = None) -> None:
        """Remember what a module is like before it is called."""
        if module not in self._before:
            self._before[module] = _likeness(module)
            self._attributes[module] = [dict(attributes) for attributes in _attributes(module)]

    def take_back(self) -> list[str]:
        """Remove arrays without numbers that the function left in modules; return where it was."""
        left = []
        for module, copies in self._attributes.items():
            for attributes, copy in zip(_attributes(module), copies, strict=True):
                for name, value in list(attributes.items()):
                    if not isinstance(value, FakeTensor) or value is copy.get(name):
                        continue
                    del attributes[name]
                    if name in copy:
                        attributes[name] = copy[name]
                    left.append(f"the attribute `{name}` of {type(module).__name__}")
        self._attributes.clear()
        return left

    def close(self, arrays: list[torch.Tensor], versions: list[tuple[torch.Tensor, int]]) -> None:
        """Remember what modules are like after they were called, and arrays."""
        for module in self.modules:  # those that the function itself has made
            if any(isinstance(array, FakeTensor) for array in _arrays_of(module)):
                del self._before[module]
        self._after = {module: _likeness(module) for module in self._before}
        self._arrays = [(array, _array_likeness(array)) for array in arrays]
        self._versions = versions

    def are_as_before(self) -> bool:
        # a module may have changed attributes itself, which says nothing about later calls
        return (
            all(array._version == version for array, version in self._versions)
            and all(_array_likeness(array) == before for array, before in self._arrays)
            and all(
                _likeness(module) in (before, self._after[module])
                for module, before in self._before.items()
            )
        )

    def arrays_of_modules(self) -> set[int]:
        """Return the `id` of all parameters and buffers."""
        return {id(array) for module in self._before for array in _arrays_of(module)}


class Recorder:
    """Makes recordings of one function.

    Parameters
    ----------
    name : str
        of the function, for errors

    """

    def __init__(self, name: str) -> None:
        self._name = name

    def record(
        self,
        function: Callable[[list[torch.Tensor]], Any],
        arrays: Sequence[torch.Tensor],
        modules: Iterable[torch.nn.Module] = (),
    ) -> Recording:
        """Record what a function of a list of arrays does.

        Parameters
        ----------
        function : callable
            gets a list of arrays, returns a tree of arrays, blocks, maps and constants
        arrays : sequence of Tensor
            of which only shapes, strides, dtypes, devices and the need of gradients are used
        modules : iterable of Module
            that the function uses, besides those that it calls

        Returns
        -------
        Recording

        Raises
        ------
        RuntimeError
            if the function asks for numbers in arrays, has a backward pass of its own that is not
            recorded, or leaves arrays anywhere but in its result
        TypeError
            if the result has something else

        """
        tape = Tape(self._name)
        fakes = [tape.add_input(array) for array in arrays]
        surroundings = Surroundings(modules)
        handle = register_module_forward_pre_hook(surroundings.note)
        try:
            with tape, Watch(tape, self._name), torch.compiler.set_stance("force_eager"):
                result = function(fakes)
            leaves, structure = pytree.tree_flatten(result)
            outputs = tuple([self._output(leaf, tape) for leaf in leaves])
        except (
            NeedsNumbersError,
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
            left = surroundings.take_back() + _take_back(tape)
        self._check_left(left, fakes)
        made = [n for n, array in enumerate(tape.captured) if tape.is_made(array)]
        lasting = [array for n, array in enumerate(tape.captured) if n not in made]
        surroundings.close(lasting, [*tape.read.values()])
        steps, n_inputs = tape.steps, len(fakes)
        followed = [
            leaf.requires_grad
            for leaf, output in zip(leaves, outputs, strict=True)
            if isinstance(output, Array) and output.number >= n_inputs
        ]
        if not (any(followed) or torch.is_grad_enabled()):  # the same as with gradients
            steps = [step._replace(differentiable=True) for step in steps]
        newly_followed = [
            n
            for n, fake in enumerate(fakes)
            if fake.is_leaf and fake.requires_grad and not arrays[n].requires_grad
        ]
        return Recording(
            Recipe(n_inputs, len(tape.captured), tuple(steps), outputs),
            tape.captured,
            tuple(tape.sizes),
            tuple(tape.free),
            [None if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves],
            structure,
            followed,
            newly_followed,
            frozenset(made),
            surroundings,
        )

    def _output(self, leaf: Any, tape: Tape) -> Array | Captured | None:
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

    def _check_left(self, left: list[str], fakes: list[torch.Tensor]) -> None:
        for fake in fakes:
            self._check_backward(fake)
            if fake.is_leaf and fake.grad is not None:
                left.append("`.grad` of an argument")
        if left:
            raise RuntimeError(
                f"`{self._name}` leaves an array in {left[0]}, which compiled code does not; "
                "return the array, or change a buffer in place; use `torch.autograd.grad` instead "
                "of `.backward()`"
            )

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


def _take_back(tape: Tape) -> list[str]:
    """Undo what autograd did to arrays around a function; return what it was."""
    left = []
    for array in tape.captured:
        if array.is_leaf and isinstance(array.grad, FakeTensor):
            array.grad = None
            left.append("`.grad` of an array around it")
    for array, before in tape.written:
        if array.grad_fn is not before:
            (array if array._base is None else array._base).detach_()
            left.append("an array around it, which torch would differentiate from then on")
    return left


def _likeness(module: torch.nn.Module) -> tuple[Any, ...]:
    """Return all of a module that is no other module's, but for the numbers in arrays."""
    attributes = vars(module)
    return (
        *[value for value in attributes.values() if type(value) in _PLAIN],
        *map(id, _arrays_of(module)),
        *map(id, module._modules.values()),
        *module._forward_hooks,
        *module._forward_pre_hooks,
    )


def _attributes(module: torch.nn.Module) -> list[dict[str, Any]]:
    return [vars(module), module._buffers, module._parameters]


_PLAIN = {bool, int, float, str}


def _array_likeness(array: torch.Tensor) -> tuple[Any, ...]:
    return array.shape, array.stride(), array.dtype, array.device, array.requires_grad


def _arrays_of(module: torch.nn.Module) -> list[torch.Tensor | None]:
    return [*module._parameters.values(), *module._buffers.values()]
