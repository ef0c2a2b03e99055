"""What is done to arrays, step by step, seen below autograd.

Arrays that follow from Labels alone are computed: these are real, all others have a shape and no
numbers ("fake tensors" of torch). A step is what torch did to at least one of the latter.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_ATEN = torch.ops.aten


class Array(NamedTuple):
    """An array in a recipe, by number: the inputs first, then all results as they come."""

    number: int


class Captured(NamedTuple):
    """An array that is no argument, by number: a parameter of a module, a plan, a constant."""

    number: int


class Size(NamedTuple):
    """A size, or a factor, that may depend on Labels, by number."""

    number: int
    kind: type


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


class NeedsNumbersError(Exception):
    """Numbers in an array are asked for, which are not known."""


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees all operations below autograd, those of its passes backwards too.

    Parameters
    ----------
    name : str
        of the function, for errors

    """

    def __init__(self, name: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[Step] = []
        self.captured: list[torch.Tensor] = []
        self.sizes: list[int | float] = []
        #: which of these differ for most Labels: sizes above one
        self.free: list[int] = []
        #: arrays that were there before and whose numbers were used, with their versions
        self.read: dict[int, tuple[torch.Tensor, int]] = {}
        #: arrays that were there before and are changed, with what torch differentiated them by
        self.written: list[tuple[torch.Tensor, Any]] = []
        self.takes_data = False
        self._name = name
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._numbers: dict[int, Array | Captured] = {}
        self._kept: list[torch.Tensor] = []  # since numbers go by `id`
        self._saves: list[torch.Tensor] = []
        self._made: dict[int, torch.Tensor] = {}  # real arrays computed here, by their memory
        self._fakes: dict[int, torch.Tensor] = {}  # what stands for real arrays, by their `id`
        self._owners: dict[int, torch.Tensor] = {}  # real arrays, by what stands for their memory
        self._changed: set[int] = set()  # memory of real arrays that steps write to
        self._moved: dict[int, torch.Tensor] = {}  # what stands for such memory that was made here

    def add_input(self, array: torch.Tensor) -> torch.Tensor:
        """Return a new array like another one, without numbers."""
        fake = self._like(array)
        fake.requires_grad_(array.requires_grad)
        self._add(fake)
        return fake

    def _like(self, array: torch.Tensor) -> torch.Tensor:
        with self._mode, torch.inference_mode(array.is_inference()):
            fake = torch.empty_strided(
                array.shape, array.stride(), dtype=array.dtype, device=array.device
            )
            if array.is_conj():
                fake = fake.conj()
            if array.is_neg():
                fake = fake._neg_view()
        return fake

    def reference(self, array: torch.Tensor) -> Array | Captured:
        """Return what stands for an array in steps."""
        if not isinstance(array, FakeTensor) and _memory(array) in self._moved:
            whole = self._moved[_memory(array)]
            where = ([*array.shape], [*array.stride()], array.storage_offset())
            return self._numbers[id(self._record(_ATEN.as_strided.default, (whole, *where), {}))]
        found = self._numbers.get(id(array))
        if found is None:
            if array.layout is not torch.strided:
                raise RuntimeError(f"`{self._name}` uses a sparse array, which can not be compiled")
            if isinstance(array, FakeTensor):
                raise RuntimeError(
                    f"`{self._name}` uses an array that an earlier recording has left in a "
                    "variable or attribute; what it computes must come from its arguments"
                )
            found = self._numbers[id(array)] = Captured(len(self.captured))
            self.captured.append(array)
        return found

    def is_made(self, array: torch.Tensor) -> bool:
        """Tell whether a real array was computed here, from Labels."""
        return _memory(array) in self._made

    def note_read(self, array: torch.Tensor) -> None:
        """Remember that the numbers in a real array were used."""
        if _memory(array) in self._changed:
            raise NeedsNumbersError("of an array that was changed")
        if _memory(array) not in self._made and not array.is_inference():
            self.read.setdefault(id(array), (array, array._version))

    def _add(self, fake: torch.Tensor) -> None:
        # what was changed in place keeps its number: it may be followed where the change is not
        self._numbers.setdefault(id(fake), Array(len(self._kept)))
        self._kept.append(fake)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.prim.device.default:
            return args[0].fake_device
        if func is _ATEN.detach.default and self._is_saving() and not self._is_plan(args[0]):
            return self._saved(args[0])
        kwargs = kwargs or {}
        arrays = [part for part in _parts((args, kwargs)) if isinstance(part, torch.Tensor)]
        written = _written(func, args, kwargs)
        if not self._computes(func, arrays, written, args, kwargs):
            self._prepare_writing(written)
            return self._record(func, args, kwargs)
        for array in arrays:
            self.note_read(array)
        result = func(*args, **kwargs)
        memories = {_memory(array) for array in arrays}
        for part in _parts(result):
            is_new = isinstance(part, torch.Tensor) and _memory(part) not in memories
            if is_new or func is _ATEN.lift_fresh.default:
                self._made.setdefault(_memory(part), part)
        return result

    def _computes(
        self, func: Any, arrays: list[torch.Tensor], written: list[torch.Tensor], *given: Any
    ) -> bool:
        """Tell whether an operation gives integers that depend on nothing but Labels."""
        if torch.Tag.nondeterministic_seeded in func.tags:
            return False
        if arrays:
            known = all(self._is_plan(array) or self._is_known(array) for array in arrays)
            return known and all(map(self._is_known, written))
        args, kwargs = given
        with self._mode:
            made = func(*args, **kwargs)
        return isinstance(made, torch.Tensor) and _is_integer(made)

    def _is_plan(self, array: torch.Tensor) -> bool:
        is_real = not isinstance(array, FakeTensor)
        return is_real and _is_integer(array) and _memory(array) not in self._changed

    def _is_known(self, array: torch.Tensor) -> bool:
        if isinstance(array, FakeTensor) or array.requires_grad:
            return False
        return _memory(array) in self._made and _memory(array) not in self._changed

    def _prepare_writing(self, written: list[torch.Tensor]) -> None:
        """Let steps write to real arrays, but not to those that other calls find again."""
        for array in written:
            if isinstance(array, FakeTensor):  # which may be a view of a real one
                real = self._owners.get(_memory(array))
                if real is None:
                    continue
                array = real
            if _memory(array) in self._changed:
                continue
            self._changed.add(_memory(array))
            if _memory(array) in self._made:
                whole = array.detach().new_empty(0).set_(array.untyped_storage()).clone()
                self._made[_memory(whole)] = whole
                self._moved[_memory(array)] = self._record(_ATEN.clone.default, (whole,), {})
            elif not array.untyped_storage().resizable():
                raise RuntimeError(
                    f"`{self._name}` changes an array in place whose memory is that of a numpy "
                    "array; use `.clone()` before"
                )
            else:
                self.written.append((array, array.grad_fn))

    def _is_saving(self) -> bool:
        """Tell whether autograd detaches an array to save it, and the function does not."""
        key = torch._C.DispatchKey.ADInplaceOrView
        return not (self.takes_data or torch._C._dispatch_tls_is_dispatch_key_excluded(key))

    def _saved(self, array: torch.Tensor) -> torch.Tensor:
        """Return what autograd saves of a result, which it differentiates nevertheless."""
        saved: torch.Tensor = _ATEN.detach.default(array)
        self._numbers[id(saved)] = self.reference(array)
        self._saves.append(saved)
        return saved

    def _record(self, func: Any, args: Any, kwargs: Any) -> Any:
        if func is _ATEN.lift_fresh.default:
            self._made[_memory(args[0])] = args[0]
        func, args, kwargs = _compilable(func, args, kwargs)
        with self._mode:
            result = func(*self._fake(args), **self._fake(kwargs))
        several = isinstance(result, (list, tuple))
        parts = result if several else (result,)
        are_arrays = tuple([isinstance(part, torch.Tensor) for part in parts])
        if not any(are_arrays) and not func._schema.is_mutable:
            return result
        sized = _sized_arguments(func)
        described = [self._described(value, n in sized) for n, value in enumerate(args)]
        named = [(name, self._described(value, name in sized)) for name, value in kwargs.items()]
        if func in _WITH_FACTORS and _may_vary(args[1]):
            described[1] = self._size(args[1])
        for part in parts:
            if isinstance(part, torch.Tensor):
                self._add(part)
        results = None if are_arrays == (True,) and not several else are_arrays
        self.steps.append(
            Step(func, tuple(described), tuple(named), results, torch.is_grad_enabled())
        )
        return result

    def _fake(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            if isinstance(value, FakeTensor):
                return value
            if id(value) not in self._fakes:
                fake = self._fakes[id(value)] = self._like(value)
                self._owners[_memory(fake)] = value
            return self._fakes[id(value)]
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
            if value > 1:
                self.free.append(len(self.sizes))
            return self._size(value)
        if isinstance(value, (bool, int, float, complex)):
            return Number(repr(value), math.nan if value != value else value)
        if isinstance(value, torch.Generator):
            raise RuntimeError(
                f"`{self._name}` draws random numbers from a generator of its own, which compiled "
                "code can not; use that of torch, and `torch.manual_seed`"
            )
        return value

    def _size(self, value: int | float) -> Size:
        self.sizes.append(value)
        return Size(len(self.sizes) - 1, type(value))


class Watch(TorchFunctionMode):
    """Sees functions of torch that do something else than operations below autograd.

    Parameters
    ----------
    tape : Tape
        that is told
    name : str
        of the function, for errors

    """

    def __init__(self, tape: Tape, name: str) -> None:
        super().__init__()
        self._tape = tape
        self._name = name

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _NOT_RECORDED:
            raise RuntimeError(
                f"`{self._name}` uses {_NOT_RECORDED[func]}, which is not recorded; change it to "
                "an operation that returns another array, or do this outside of it"
            )
        if func in _READING:
            wrapped = torch._C._functorch.is_functorch_wrapped_tensor(args[0])
            if wrapped or isinstance(args[0], FakeTensor):
                raise NeedsNumbersError(f"Tensor.{func.__name__}")
            self._tape.note_read(args[0])
        self._tape.takes_data = func == _DATA.__get__
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self._tape.takes_data = False


_DATA: Any = torch.Tensor.data

_READING = {torch.Tensor.numpy, torch.Tensor.tolist, torch.Tensor.__array__}

_NOT_RECORDED = {
    _DATA.__set__: "an assignment to `Tensor.data`",
    torch.Tensor.detach_: "`Tensor.detach_`",
    torch.detach_: "`torch.detach_`",
    torch.Tensor.register_hook: "`Tensor.register_hook`",
    torch.Tensor.register_post_accumulate_grad_hook: "`Tensor.register_post_accumulate_grad_hook`",
}


def _compilable(func: Any, args: Any, kwargs: Any) -> tuple[Any, Any, Any]:
    """Return an operation that does the same, for those that compilers do not know."""
    if func is _ATEN.lift_fresh.default:  # of a constant, which is not to be changed
        func = _ATEN.lift_fresh_copy.default
    elif func.overloadpacket in _INDEXED:  # masks that follow from Labels are positions
        array, positions, *rest = args
        args = (array, [part for position in positions for part in _positions(position)], *rest)
    # of forward mode
    elif func is _ATEN._fw_primal.default:
        func, args = _ATEN.alias.default, args[:1]
    elif func is _ATEN._efficientzerotensor.default:
        func = _ATEN.zeros.default
    elif func is _ATEN._new_zeros_with_same_feature_meta.default:
        array, other = args
        n_batched = kwargs.get("self_num_batch_dims", 0)
        func, args, kwargs = (
            _ATEN.new_zeros.default,
            (array, [*array.shape[:n_batched], *other.shape]),
            {},
        )
    return func, args, kwargs


_INDEXED = {
    _ATEN.index,
    _ATEN.index_put,
    _ATEN.index_put_,
    _ATEN._index_put_impl_,
    _ATEN._unsafe_index,
    _ATEN._unsafe_index_put,
}


def _positions(position: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
    is_mask = position is not None and position.dtype in (torch.bool, torch.uint8)
    if position is None or not is_mask or isinstance(position, FakeTensor):
        return (position,)
    return position.nonzero(as_tuple=True)


#: operations whose second argument can be a number that comes from Labels, such as a count
_WITH_FACTORS = {_ATEN.add.Tensor, _ATEN.sub.Tensor, _ATEN.mul.Tensor, _ATEN.div.Tensor}


def _may_vary(value: Any) -> bool:
    """Tell whether code for a number can be that for others: zeros, ones and such are special."""
    if type(value) is float:
        return math.isfinite(value) and value != 0
    return type(value) is int and value > 1


def _memory(array: torch.Tensor) -> int:
    """Return what arrays with the same memory have in common."""
    if array.layout is not torch.strided:
        return id(array)
    number: int = array.untyped_storage()._cdata
    return number


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


def _written(func: Any, args: Any, kwargs: Any) -> list[torch.Tensor]:
    """Return the arrays that an operation changes."""
    if not func._schema.is_mutable:
        return []
    names = [argument.name for argument in func._schema.arguments]
    given = dict(zip(names, args, strict=False)) | kwargs
    arguments = [argument for argument in func._schema.arguments if argument.is_write]
    parts = [part for argument in arguments for part in _parts(given.get(argument.name))]
    return [part for part in parts if isinstance(part, torch.Tensor)]


@cache
def _sized_arguments(func: Any) -> set[int | str]:
    """Return positions and names of the arguments that torch itself takes for sizes."""
    names = set(re.findall(r"SymInt(?:\[\d*\])?\?? (\w+)", str(func._schema)))
    positions = [n for n, argument in enumerate(func._schema.arguments) if argument.name in names]
    return names.union(positions)
