"""Elementwise operations, whose gradients follow the chain rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from metatensor import _arrays, _checks
from metatensor._provenance import operation
from metatensor.block import TensorBlock
from metatensor.operations._blockwise import (
    Tensor,
    assemble,
    check_same,
    on_blocks,
    on_pairs,
    refuse_nested,
    require_tensor,
    same_keys,
    within_range,
)
from metatensor.operations._rules import (
    BINARY,
    COMPARISON,
    CONNECTIVE,
    NUMBER,
    NUMBER_FIRST,
    UNARY,
    Binary,
    Unary,
)
from metatensor.tensor import TensorMap

__all__ = [
    "abs",
    "add",
    "clip",
    "cos",
    "divide",
    "exp",
    "log",
    "multiply",
    "pow",
    "sin",
    "sqrt",
    "subtract",
    "tanh",
    "where",
]


_Number = Any  # a number of Python, a numpy scalar, an array without axes


@operation
def add(A: Tensor | _Number, B: Tensor | _Number) -> Tensor:
    """Add two tensors, or a number to a tensor.

    Gradients: ∇A + ∇B, gradients of gradients as well; with a number those of the tensor, the same
    arrays.

    Parameters
    ----------
    A, B : TensorMap, TensorBlock or number
        two maps with the same keys, in any order, or two blocks; or one of them a number: of
        Python, a numpy scalar, or an array without axes. Blocks must have the same samples,
        components, properties, gradients, and gradient samples.

    Returns
    -------
    TensorMap or TensorBlock
        with the keys of `A` in their order. Integers and bools become 64-bit real numbers if the
        other is a number, other values keep their dtype.

    Raises
    ------
    NotEqualError
        if keys, Labels or gradients differ
    TypeError
        if `A` or `B` is something else, such as an array with axes, or a complex number for real
        values
    OverflowError
        if integers get out of the range of their dtype

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> from metatensor.operations import add
    >>> block = TensorBlock(
    ...     np.array([[1.0, -2.0]]), Labels.range("s", 1), [], Labels.range("p", 2)
    ... )
    >>> add(block, block).values
    array([[ 2., -4.]])
    >>> (1 + block).values
    array([[ 2., -1.]])

    """
    return _arithmetic("add", A, B)  # type: ignore[no-any-return]


@operation
def subtract(A: Tensor | _Number, B: Tensor | _Number) -> Tensor:
    """Subtract a tensor or a number from another one.

    Gradients: ∇A - ∇B, gradients of gradients as well; without a term for what is a number.

    Parameters
    ----------
    A, B : TensorMap, TensorBlock or number
        as for :func:`add`

    Returns
    -------
    TensorMap or TensorBlock
        with the keys of `A` in their order. Integers and bools become 64-bit real numbers, other
        values keep their dtype.

    Raises
    ------
    NotEqualError
        if keys, Labels or gradients differ
    TypeError
        if `A` or `B` is something else

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> from metatensor.operations import subtract
    >>> block = TensorBlock(
    ...     np.array([[1.0, -2.0]]), Labels.range("s", 1), [], Labels.range("p", 2)
    ... )
    >>> subtract(block, 0.5).values
    array([[ 0.5, -2.5]])

    """
    return _arithmetic("subtract", A, B)  # type: ignore[no-any-return]


@operation
def multiply(A: Tensor | _Number, B: Tensor | _Number) -> Tensor:
    """Multiply two tensors, or a tensor and a number.

    Gradients: ∇A B + A ∇B, where A and B are taken at the sample of each gradient row; b ∇A with a
    number b, for gradients of gradients as well.

    Parameters
    ----------
    A, B : TensorMap, TensorBlock or number
        as for :func:`add`

    Returns
    -------
    TensorMap or TensorBlock
        with the keys of `A` in their order. Integers and bools become 64-bit real numbers if the
        other is a number, other values keep their dtype.

    Raises
    ------
    NotEqualError
        if keys, Labels or gradients differ
    TypeError
        if `A` or `B` is something else
    NotImplementedError
        if neither is a number, and gradients have gradients
    OverflowError
        if integers get out of the range of their dtype

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> from metatensor.operations import multiply
    >>> properties = Labels.range("p", 2)
    >>> block = TensorBlock(np.array([[1.0, -2.0]]), Labels.range("s", 1), [], properties)
    >>> block.add_gradient(
    ...     "x",
    ...     TensorBlock(np.array([[10.0, 20.0]]), Labels.range("sample", 1), [], properties),
    ... )
    >>> square = multiply(block, block)
    >>> square.values
    array([[1., 4.]])
    >>> square.gradient("x").values
    array([[ 20., -80.]])

    """
    return _arithmetic("multiply", A, B)  # type: ignore[no-any-return]


@operation
def divide(A: Tensor | _Number, B: Tensor | _Number) -> Tensor:
    """Divide a tensor or a number by another one.

    Gradients: ∇A / B - A ∇B / B², where A and B are taken at the sample of each gradient row;
    ∇A / b with a number b, for gradients of gradients as well; -a ∇B / B² with a number a.

    Parameters
    ----------
    A, B : TensorMap, TensorBlock or number
        as for :func:`add`

    Returns
    -------
    TensorMap or TensorBlock
        with the keys of `A` in their order. Integers and bools become 64-bit real numbers, other
        values keep their dtype. Division by zero gives what the array library gives: infinity or
        not-a-number, with a warning of numpy.

    Raises
    ------
    NotEqualError
        if keys, Labels or gradients differ
    TypeError
        if `A` or `B` is something else
    NotImplementedError
        if `B` is no number, and gradients have gradients

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> from metatensor.operations import divide
    >>> block = TensorBlock(
    ...     np.array([[1.0, -2.0]]), Labels.range("s", 1), [], Labels.range("p", 2)
    ... )
    >>> divide(block, 4).values
    array([[ 0.25, -0.5 ]])
    >>> (1 / block).values
    array([[ 1. , -0.5]])

    """
    return _arithmetic("divide", A, B)  # type: ignore[no-any-return]


@operation
def pow(A: Tensor | _Number, B: Tensor | _Number) -> Tensor:
    """Raise a tensor to a power that is a number, or a number to powers in a tensor.

    Gradients: B A**(B-1) ∇A for a number B, which is zero for B = 0; log(A) A**B ∇B for a number A.

    Parameters
    ----------
    A, B : TensorMap, TensorBlock or number
        one of the two must be a number, as for :func:`add`

    Returns
    -------
    TensorMap or TensorBlock
        of real or complex numbers: integers and bools become 64-bit real numbers

    Raises
    ------
    TypeError
        if both are tensors, or one is something else
    NotImplementedError
        if gradients have gradients

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> from metatensor.operations import pow
    >>> block = TensorBlock(
    ...     np.array([[1.0, -2.0]]), Labels.range("s", 1), [], Labels.range("p", 2)
    ... )
    >>> pow(block, 2).values
    array([[1., 4.]])

    """
    tensors = (TensorMap, TensorBlock)
    if isinstance(A, tensors) and isinstance(B, tensors):
        raise TypeError(
            "`pow` takes one tensor and one number, got two tensors; use `exp(multiply(B, log(A)))`"
        )
    return _arithmetic("pow", A, B)  # type: ignore[no-any-return]


@operation
def abs(A: Tensor) -> Tensor:
    """Take the absolute value.

    Gradients: sign(A) ∇A; for complex values Re(conj(A) ∇A) / abs(A), as the parameters that
    gradients are taken with respect to are real numbers. Zero where A is zero.

    Parameters
    ----------
    A : TensorMap or TensorBlock
        of any numbers

    Returns
    -------
    TensorMap or TensorBlock
        of the same dtype, a complex one too

    Raises
    ------
    TypeError
        if `A` is neither a TensorMap nor a TensorBlock
    NotImplementedError
        if gradients have gradients
    OverflowError
        if an integer has no counterpart in its dtype, such as -128 in 8 bits

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> import metatensor
    >>> block = TensorBlock(
    ...     np.array([[1.0, -2.0]]), Labels.range("s", 1), [], Labels.range("p", 2)
    ... )
    >>> metatensor.abs(block).values
    array([[1., 2.]])

    """
    return _function("abs", A, "A")


@operation
def exp(tensor: Tensor) -> Tensor:
    """Take the exponential.

    Gradients: exp(A) ∇A.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        of any numbers

    Returns
    -------
    TensorMap or TensorBlock
        of real or complex numbers: integers and bools become 64-bit real numbers

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock
    NotImplementedError
        if gradients have gradients

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> import metatensor
    >>> block = TensorBlock(
    ...     np.array([[0.0, 1.0]]), Labels.range("s", 1), [], Labels.range("p", 2)
    ... )
    >>> metatensor.exp(block).values
    array([[1.        , 2.71828183]])

    """
    return _function("exp", tensor)


@operation
def log(tensor: Tensor) -> Tensor:
    """Take the natural logarithm.

    Gradients: ∇A / A.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        of any numbers

    Returns
    -------
    TensorMap or TensorBlock
        of real or complex numbers: integers and bools become 64-bit real numbers.
        Of zero and of negative real numbers it is what the array library gives: infinity or
        not-a-number, with a warning of numpy.

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock
    NotImplementedError
        if gradients have gradients

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> import metatensor
    >>> block = TensorBlock(
    ...     np.array([[1.0, 10.0]]), Labels.range("s", 1), [], Labels.range("p", 2)
    ... )
    >>> metatensor.log(block).values
    array([[0.        , 2.30258509]])

    """
    return _function("log", tensor)


@operation
def sqrt(tensor: Tensor) -> Tensor:
    """Take the square root.

    Gradients: ∇A / (2 sqrt(A)): where A is zero infinite, or not-a-number if ∇A is zero too.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        of any numbers

    Returns
    -------
    TensorMap or TensorBlock
        of real or complex numbers: integers and bools become 64-bit real numbers.
        Of negative real numbers it is not-a-number, with a warning of numpy.

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock
    NotImplementedError
        if gradients have gradients

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> import metatensor
    >>> block = TensorBlock(
    ...     np.array([[4.0, 9.0]]), Labels.range("s", 1), [], Labels.range("p", 2)
    ... )
    >>> metatensor.sqrt(block).values
    array([[2., 3.]])

    """
    return _function("sqrt", tensor)


@operation
def tanh(tensor: Tensor) -> Tensor:
    """Take the hyperbolic tangent.

    Gradients: (1 - tanh(A)²) ∇A.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        of any numbers

    Returns
    -------
    TensorMap or TensorBlock
        of real or complex numbers: integers and bools become 64-bit real numbers

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock
    NotImplementedError
        if gradients have gradients

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> import metatensor
    >>> block = TensorBlock(
    ...     np.array([[0.0, 1.0]]), Labels.range("s", 1), [], Labels.range("p", 2)
    ... )
    >>> metatensor.tanh(block).values
    array([[0.        , 0.76159416]])

    """
    return _function("tanh", tensor)


@operation
def sin(tensor: Tensor) -> Tensor:
    """Take the sine.

    Gradients: cos(A) ∇A.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        of any numbers

    Returns
    -------
    TensorMap or TensorBlock
        of real or complex numbers: integers and bools become 64-bit real numbers

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock
    NotImplementedError
        if gradients have gradients

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> import metatensor
    >>> block = TensorBlock(
    ...     np.array([[0.0, 1.0]]), Labels.range("s", 1), [], Labels.range("p", 2)
    ... )
    >>> metatensor.sin(block).values
    array([[0.        , 0.84147098]])

    """
    return _function("sin", tensor)


@operation
def cos(tensor: Tensor) -> Tensor:
    """Take the cosine.

    Gradients: -sin(A) ∇A.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        of any numbers

    Returns
    -------
    TensorMap or TensorBlock
        of real or complex numbers: integers and bools become 64-bit real numbers

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock
    NotImplementedError
        if gradients have gradients

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> import metatensor
    >>> block = TensorBlock(
    ...     np.array([[0.0, 1.0]]), Labels.range("s", 1), [], Labels.range("p", 2)
    ... )
    >>> metatensor.cos(block).values
    array([[1.        , 0.54030231]])

    """
    return _function("cos", tensor)


@operation
def clip(tensor: Tensor, min: _Number | None = None, max: _Number | None = None) -> Tensor:
    """Replace values below a minimum and above a maximum by these.

    Gradients: those of values within the limits, zero for the others; gradients of gradients as
    well.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        of real numbers
    min, max : number, optional
        the limits, at least one; the maximum, if it is the smaller one

    Returns
    -------
    TensorMap or TensorBlock
        of real numbers: integers and bools become 64-bit real numbers

    Raises
    ------
    ValueError
        if neither `min` nor `max` is given
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock, or has complex values, or a limit is
        no number

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> from metatensor.operations import clip
    >>> block = TensorBlock(
    ...     np.array([[1.0, -2.0]]), Labels.range("s", 1), [], Labels.range("p", 2)
    ... )
    >>> clip(block, min=0).values
    array([[1., 0.]])

    """
    require_tensor(tensor)
    if min is None and max is None:
        raise ValueError("`clip` needs `min`, `max` or both, got neither")
    tensor = _floating(tensor)
    limits = [
        None if limit is None else _number_for(tensor, _require_number(limit, name))
        for name, limit in [("min", min), ("max", max)]
    ]
    return on_blocks(_clip, tensor, *limits)


@operation
def where(condition: Tensor, tensor_1: Tensor | _Number, tensor_2: Tensor | _Number) -> Tensor:
    """Choose values of one tensor where a condition holds, and those of another one elsewhere.

    Gradients: those of the tensor that is chosen, zero for a number; gradients of gradients as
    well.

    Parameters
    ----------
    condition : TensorMap or TensorBlock
        of bools, such as ``tensor > 0`` or ``(tensor > 0) & ~(other > 1)``; its gradients do not
        count, and may be others
    tensor_1, tensor_2 : TensorMap, TensorBlock or number
        what to choose from, where the condition holds, and elsewhere; one of them may be a number.
        The keys, samples, components and properties must be those of `condition`, the order of the
        keys does not count. Two tensors must have the same gradients and gradient samples.

    Returns
    -------
    TensorMap or TensorBlock
        with the keys of `condition` in their order. Integers and bools become 64-bit real numbers
        if the other is a number.

    Raises
    ------
    NotEqualError
        if keys, Labels or gradients differ
    TypeError
        if `condition` has no bools, or both `tensor_1` and `tensor_2` are numbers, or something
        else

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> from metatensor.operations import where
    >>> block = TensorBlock(
    ...     np.array([[1.0, -2.0]]), Labels.range("s", 1), [], Labels.range("p", 2)
    ... )
    >>> where(block > 0, block, 0.1 * block).values
    array([[ 1. , -0.2]])

    """
    require_tensor(condition, "condition")
    choices = _choices(tensor_1, tensor_2)
    for choice, name in zip(choices, ["tensor_1", "tensor_2"], strict=True):
        if isinstance(choice, (TensorMap, TensorBlock)):
            expected = TensorMap if isinstance(condition, TensorMap) else TensorBlock
            _checks.require_type(choice, expected, name)
    if isinstance(condition, TensorBlock):
        return _choose(condition, *choices)._seal(frozen=False)
    columns = [
        same_keys(condition, choice) if isinstance(choice, TensorMap) else [choice] * len(condition)
        for choice in choices
    ]
    parts = list(zip(condition._blocks, *columns, strict=True))
    return assemble(condition._keys, parts, _choose)


@operation
def compare(A: Any, B: Any, relation: str) -> Any:
    """Tell where values are less, or greater: a map or block of bools, without gradients.

    This is what the operators ``<``, ``<=``, ``>`` and ``>=`` do.
    """
    if isinstance(B, (TensorMap, TensorBlock)):
        return on_pairs(_with_values, A, B, _compare, relation, names=("A", "B"))
    require_tensor(A, "A")
    tensor = _floating(A)
    return on_blocks(_compare, tensor, _number_for(tensor, _require_number(B, "B")), relation)


@operation
def connect(A: Any, B: Any, connective: str) -> Any:
    """Combine conditions, maps or blocks of bools: what ``&``, ``|``, ``^`` and ``~`` do."""
    if isinstance(B, bool):
        return on_blocks(_connect, A, B, connective, name="A")
    return on_pairs(_with_values, A, B, _connect, connective, names=("A", "B"))


# ---- what they have in common


def _arithmetic(name: str, A: Any, B: Any) -> Any:
    """Apply an operation of two tensors, or of a tensor and a number on either side."""
    if not isinstance(B, (TensorMap, TensorBlock)):
        return _with_number(NUMBER[name], name, A, _require_number(B, "B"), "A")
    if not isinstance(A, (TensorMap, TensorBlock)):
        return _with_number(NUMBER_FIRST[name], name, B, _require_number(A, "A"), "B")
    rule = BINARY[name]
    if not rule.integers:
        A, B = _floating(A), _floating(B)
    x, y = _first_values(A), _first_values(B)
    combine, xp = _combine, None
    if x is not None and y is not None:
        xp = _arrays.namespace(x, y)
        if "integer" in (_arrays.kind(x), _arrays.kind(y)):
            combine = within_range(_combine, name)
    return on_pairs(combine, A, B, xp, rule, name, names=("A", "B"))


def _with_number(rule: Unary, name: str, tensor: Any, number: Any, given: str) -> Any:
    require_tensor(tensor, given)
    tensor = _floating(tensor)
    number = _number_for(tensor, number)
    return on_blocks(_change, tensor, _namespace(tensor), rule, name, number)


def _function(name: str, tensor: Tensor, given: str = "tensor") -> Tensor:
    """Apply a function of one tensor."""
    require_tensor(tensor, given)
    rule, values = UNARY[name], _first_values(tensor)
    change = _change
    if rule.integers and values is not None and _arrays.kind(values) == "integer":
        change = within_range(_change, name)
    else:
        tensor = _floating(tensor)
    return on_blocks(change, tensor, _namespace(tensor), rule, name)


def _require_number(value: Any, name: str) -> Any:
    number = _arrays.as_number(value)
    if number is None:
        shape = getattr(value, "shape", None)
        raise TypeError(
            f"`{name}` must be a metatensor TensorMap, a TensorBlock, or one number, got "
            f"{_checks.kind(value)}"
            + ("" if shape is None else f" of shape {tuple(shape)}, which has no Labels")
        )
    return number


# What holds for the values of one block of a map holds for all of them: their library, whether
# they are integers, and what a number has to be to go together with them.


def _first_values(tensor: TensorMap | TensorBlock) -> Any:
    """Return the values of a block, or of the first one of a map; None without blocks."""
    if isinstance(tensor, TensorBlock):
        return tensor._values
    return tensor._blocks[0]._values if tensor._blocks else None


def _namespace(tensor: TensorMap | TensorBlock) -> Any:
    values = _first_values(tensor)
    return None if values is None else _arrays.namespace(values)


def _number_for(tensor: TensorMap | TensorBlock, number: Any) -> Any:
    """Return a number that goes together with real or complex values."""
    values = _first_values(tensor)
    return number if values is None else _arrays.number_like(number, values)


def _floating(tensor: Any) -> Any:
    """Return a tensor of real or complex numbers, itself if it has them."""
    values = _first_values(tensor)
    if values is None or _arrays.kind(values) in ("real", "complex"):
        return tensor
    if isinstance(tensor, TensorBlock):
        return tensor._map(_arrays.as_floating)
    blocks = [block._map(_arrays.as_floating, frozen=True) for block in tensor._blocks]
    return TensorMap._of(tensor._keys, blocks)


# ---- one block


def _change(block: TensorBlock, xp: Any, rule: Unary, name: str, *numbers: Any) -> TensorBlock:
    """Apply a function to the values of a block, and the chain rule to its gradients."""
    x = block._values
    y = rule.value(xp, x, *numbers)
    gradients: dict[str, TensorBlock] = {}
    if not block._gradients:
        pass
    elif rule.derivative is not None:
        refuse_nested(block, name)
        factor = rule.derivative(xp, x, y, *numbers)
        for parameter, gradient in block._gradients.items():
            values = _chain(factor, gradient, rule.real_part)
            gradients[parameter] = _like(gradient, values)
    elif (linear := rule.linear) is not None:
        for parameter, gradient in block._gradients.items():
            gradients[parameter] = gradient._map(lambda values: linear(values, *numbers))
    else:
        for parameter, gradient in block._gradients.items():
            gradients[parameter] = gradient._freeze(parameter)
    return _like(block, y, gradients)


def _combine(
    block: TensorBlock, other: TensorBlock, xp: Any, rule: Binary, name: str
) -> TensorBlock:
    """Apply a function to the values of two blocks, and the chain rule to their gradients."""
    check_same(block, other)
    return _join(block, other, xp, rule, name)


def _join(block: TensorBlock, other: TensorBlock, xp: Any, rule: Binary, name: str) -> TensorBlock:
    x, y = block._values, other._values
    z = rule.value(xp, x, y)
    gradients: dict[str, TensorBlock] = {}
    if not block._gradients:
        pass
    elif rule.derivatives is None:
        for parameter, gradient in block._gradients.items():
            gradients[parameter] = _join(gradient, other._gradients[parameter], xp, rule, name)
    else:
        refuse_nested(block, name)
        by_x, by_y = [derivative(xp, x, y, z) for derivative in rule.derivatives]
        for parameter, gradient in block._gradients.items():
            values = _chain(by_x, gradient) + _chain(by_y, other._gradients[parameter])
            gradients[parameter] = _like(gradient, values)
    return _like(block, z, gradients)


def _chain(factor: _arrays.Array, gradient: TensorBlock, real_part: bool = False) -> _arrays.Array:
    """Multiply gradient rows by the factors of their samples."""
    rows, values = gradient._samples._table[:, 0], gradient._values
    if not real_part:
        return _arrays.scale_rows(factor, rows, values)
    product = _arrays.real_product(factor, rows, values)
    return _arrays.namespace(product).astype(product, values.dtype, copy=False)


def _like(
    block: TensorBlock, values: _arrays.Array, gradients: dict[str, TensorBlock] | None = None
) -> TensorBlock:
    return TensorBlock._of(values, block._samples, block._components, block._properties, gradients)


def _with_values(
    block: TensorBlock,
    other: TensorBlock,
    function: Callable[[TensorBlock, _arrays.Array, str], TensorBlock],
    symbol: str,
) -> TensorBlock:
    """Apply a function of a block and values to two blocks, whose gradients do not count."""
    check_same(block, other, gradients=False)
    _arrays.namespace(block._values, other._values)
    return function(block, other._values, symbol)


def _compare(block: TensorBlock, other: Any, relation: str) -> TensorBlock:
    for values in (block._values, other):
        if hasattr(values, "shape"):
            _require_order(values)
    return _like(block, COMPARISON[relation](block._values, other))


def _connect(block: TensorBlock, other: Any, connective: str) -> TensorBlock:
    for values in (block._values, other):
        if hasattr(values, "shape") and _arrays.kind(values) != "bool":
            raise TypeError(
                f"conditions combined by `{connective}` must be bools, got {values.dtype}; "
                "compare them with something, such as `tensor > 0`"
            )
    return _like(block, CONNECTIVE[connective](block._values, other))


def _require_order(values: _arrays.Array) -> None:
    if _arrays.kind(values) == "complex":
        raise TypeError(f"complex numbers have no order, got values of dtype {values.dtype}")


def _clip(block: TensorBlock, low: Any, high: Any) -> TensorBlock:
    x = block._values
    _require_order(x)
    xp = _arrays.namespace(x)
    values, inside = x, xp.ones_like(x, dtype=xp.bool)
    if low is not None:
        values, inside = xp.where(values < low, low, values), inside & (x >= low)
    if high is not None:
        values, inside = xp.where(values > high, high, values), inside & (x <= high)
    return _like(block, values, _choose_gradients(inside, block, 0.0))


def _choices(first: Any, second: Any) -> tuple[Any, Any]:
    """Return two tensors, or one of real or complex numbers and a number to go with it."""
    tensors = (TensorMap, TensorBlock)
    if isinstance(first, tensors) and isinstance(second, tensors):
        return first, second
    if isinstance(first, tensors):
        first = _floating(first)
        return first, _number_for(first, _require_number(second, "tensor_2"))
    number = _require_number(first, "tensor_1")
    if not isinstance(second, tensors):
        _require_number(second, "tensor_2")
        raise TypeError(
            "one of `tensor_1` and `tensor_2` must be a TensorMap or a TensorBlock, got two numbers"
        )
    second = _floating(second)
    return _number_for(second, number), second


def _choose(condition: TensorBlock, first: Any, second: Any) -> TensorBlock:
    """Choose from two blocks, or from a block and a number."""
    if _arrays.kind(condition._values) != "bool":
        raise TypeError(
            f"`condition` must hold bools, got {condition._values.dtype}; compare it with a number"
        )
    blocks = [choice for choice in (first, second) if isinstance(choice, TensorBlock)]
    for block in blocks:
        check_same(condition, block, gradients=False)
    _arrays.namespace(condition._values, *[block._values for block in blocks])
    if len(blocks) == 2:
        check_same(first, second)
    return _choose_rows(condition._values, first, second)


def _choose_rows(mask: _arrays.Array, first: Any, second: Any) -> TensorBlock:
    block = first if isinstance(first, TensorBlock) else second
    xp = _arrays.namespace(block._values)
    values = xp.where(
        mask,
        *[part._values if isinstance(part, TensorBlock) else part for part in (first, second)],
    )
    return _like(block, values, _choose_gradients(mask, first, second))


def _choose_gradients(mask: _arrays.Array, first: Any, second: Any) -> dict[str, TensorBlock]:
    """Choose gradient rows by the choice made for their samples."""
    block = first if isinstance(first, TensorBlock) else second
    gradients = {}
    for parameter, gradient in block._gradients.items():
        rows = _arrays.rows_of(mask, gradient._samples._table[:, 0], len(gradient._values.shape))
        parts = [
            part._gradients[parameter] if isinstance(part, TensorBlock) else 0.0
            for part in (first, second)
        ]
        gradients[parameter] = _choose_rows(rows, *parts)
    return gradients
