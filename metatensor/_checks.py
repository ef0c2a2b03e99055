"""Checks shared by the classes, and the one text of each error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import index
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from metatensor.block import TensorBlock
    from metatensor.labels import Labels


class MetatensorError(ValueError):
    """Labels, blocks, maps or files that break a rule of the format.

    Parameters
    ----------
    message : str
        What was required, what was got, and what to do.
    status : int, optional
        Accepted for compatibility, and kept.

    Examples
    --------
    >>> import metatensor
    >>> try:
    ...     metatensor.Labels.range("not valid", 3)
    ... except metatensor.MetatensorError as error:
    ...     print(error.message[:56])
    invalid parameter: 'not valid' is not a valid label name

    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


MetatensorError.__module__ = "metatensor"


class NotEqualError(ValueError):
    """Two blocks or maps that have to agree in keys, Labels or values, and do not.

    Examples
    --------
    >>> import numpy as np
    >>> import metatensor
    >>> block = metatensor.block_from_array(np.zeros((2, 1)))
    >>> try:
    ...     metatensor.equal_block_raise(block, metatensor.block_from_array(np.zeros((1, 1))))
    ... except metatensor.NotEqualError as error:
    ...     print(type(error).__name__)
    NotEqualError

    """


NotEqualError.__module__ = "metatensor"


def invalid(message: str) -> NoReturn:
    """Raise the error for input that breaks a rule of the format."""
    raise MetatensorError(f"invalid parameter: {message}")


def kind(value: Any) -> str:
    """Name the type of ``value`` as error messages do."""
    module = type(value).__module__.split(".")[0]
    return (
        type(value).__qualname__ if module == "builtins" else f"{module}.{type(value).__qualname__}"
    )


def require_type(value: Any, expected: type, name: str) -> None:
    """Raise TypeError unless ``value`` is an ``expected``."""
    if not isinstance(value, expected):
        raise TypeError(f"`{name}` must be a metatensor {expected.__name__}, got {kind(value)}")


def require_int(value: Any, name: str) -> int:
    """Turn anything that can serve as index into an int, or raise TypeError."""
    try:
        return index(value)
    except TypeError:
        raise TypeError(f"`{name}` must be an int, got {value!r} of type {kind(value)}") from None


def require_real(value: Any, name: str) -> float:
    """Turn one real number into a float, or raise TypeError."""
    try:
        if not isinstance(value, (str, bytes)):
            return float(value)
    except (TypeError, ValueError):
        pass
    raise TypeError(f"`{name}` must be a real number, got {kind(value)}")


def refuse_selection(name: str, names: Sequence[str]) -> NoReturn:
    """Raise the error for a selection with a name that what it selects from has not."""
    invalid(f"the names of a selection must be among {list(names)}, got {name!r}")


def check_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Check the names of the dimensions of Labels."""
    for name in names:
        if not (name.isascii() and name.isidentifier()):
            invalid(
                f"{name!r} is not a valid label name, names are made of ASCII letters, digits and "
                "'_', and do not start with a digit"
            )
    if len(set(names)) != len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        invalid(f"the names of Labels must be unique, got {repeated!r} more than once")
    return names


def names_tuple(names: str | Iterable[str], what: str = "names") -> tuple[str, ...]:
    """Turn one name or several into a tuple, or raise TypeError."""
    if isinstance(names, str):
        return (str(names),) if names else ()
    try:
        names = tuple(names)
    except TypeError:
        raise TypeError(f"`{what}` must be a str or a sequence of str, got {kind(names)}") from None
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"`{what}` must be a str or a sequence of str, got an element {name!r}")
    return tuple([str(name) for name in names])


def check_shape(
    shape: Sequence[int], samples: Labels, components: Sequence[Labels], properties: Labels
) -> None:
    """Check that the axes of the values fit their Labels."""
    axes = [("samples", samples)]
    axes += [(f"component {names_text(labels)}", labels) for labels in components]
    axes.append(("properties", properties))
    if len(shape) != len(axes):
        invalid(
            f"the values must have {len(axes)} dimensions: samples, {len(components)} component(s) "
            f"and properties, got shape {tuple(shape)}"
        )
    for axis, (what, labels) in enumerate(axes):
        if shape[axis] != len(labels):
            invalid(
                f"axis {axis} of the values must have one entry for each of the {len(labels)} "
                f"{what}, got shape {tuple(shape)}"
            )


def names_text(labels: Labels) -> str:
    """Names of Labels, as messages print them."""
    return "[" + ", ".join(labels._names) + "]"


def check_components(components: Sequence[Labels]) -> None:
    """Check what the format asks of the Labels of component axes."""
    seen = set()
    for labels in components:
        if len(labels._names) != 1:
            invalid(f"component Labels must have exactly one dimension, got {names_text(labels)}")
        if len(labels) == 0:
            invalid(
                f"component Labels must have at least one entry, got none for {labels._names[0]!r}"
            )
        if labels._names[0] in seen:
            invalid(f"component names must be distinct, got {labels._names[0]!r} more than once")
        seen.add(labels._names[0])


def check_gradient(block: TensorBlock, parameter: str, gradient: TensorBlock) -> None:
    """Check that ``gradient`` can be the gradient of ``block`` with respect to ``parameter``."""
    who = f"the gradient with respect to {parameter!r}"
    if parameter in block._gradients:
        invalid(f"{who} already exists in this block")
    samples = gradient._samples
    if not samples._names or samples._names[0] != "sample":
        invalid(f"{who} must have 'sample' as first sample name, got {names_text(samples)}")
    if len(samples):
        low, high = first_column_range(samples)
        if low < 0 or high >= len(block._samples):
            invalid(
                f"{who} must refer to samples by their row, 0 to {len(block._samples) - 1}, "
                f"got {low if low < 0 else high}"
            )
    extra = len(gradient._components) - len(block._components)
    if extra < 0 or gradient._components[extra:] != block._components:
        invalid(f"{who} must have the components of its block as last components")
    if gradient._properties != block._properties:
        invalid(f"{who} must have the properties of its block")


def first_column_range(labels: Labels) -> tuple[int, int]:
    """Return the smallest and the largest number in the first column of Labels with entries."""
    rows = labels._table[:, 0]
    return int(rows.min()), int(rows.max())


def component_names(block: TensorBlock) -> list[str]:
    """Return the name of each component."""
    return [labels._names[0] for labels in block._components] if block._components else []


def same_names(first: TensorBlock, other: TensorBlock) -> bool:
    """Tell whether two blocks have what the blocks of one map must have in common."""
    if (
        first._samples._names != other._samples._names
        or first._properties._names != other._properties._names
        or component_names(first) != component_names(other)
    ):
        return False
    if not first._gradients and not other._gradients:
        return True
    return first._gradients.keys() == other._gradients.keys() and all(
        same_names(gradient, other._gradients[name]) for name, gradient in first._gradients.items()
    )


def refuse_names(first: TensorBlock, other: TensorBlock, who: str) -> NoReturn:
    """Say in what a block differs from the first one of its map."""
    for (what, expected), (_, got) in zip(_common(first), _common(other), strict=False):
        if expected != got:
            invalid(f"{who} must have the {what} of the first one, {expected}, got {got}")
    name = next(
        name
        for name in first._gradients
        if not same_names(first.gradient(name), other.gradient(name))
    )
    refuse_names(first.gradient(name), other.gradient(name), f"the gradient {name!r} of {who}")


def _common(block: TensorBlock) -> list[tuple[str, Any]]:
    return [
        ("sample names", list(block._samples._names)),
        ("component names", component_names(block)),
        ("property names", list(block._properties._names)),
        ("gradients", sorted(block._gradients)),
    ]


def refuse_arrays(who: str, whose: str, what: str, expected: Any, got: Any) -> NoReturn:
    """Say in what the values of a block differ from those they go together with."""
    invalid(f"{who} must have the {what} of {whose}, {expected}, got {got}; use `.to(...)`")
