"""Assertions, gradient checks and hypothesis strategies, for tests of code that uses metatensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from metatensor import _arrays, _checks, o3
from metatensor._arrays import EXACT, Tolerance
from metatensor._strategies import blocks, labels, tensors
from metatensor.block import AXES, Difference, TensorBlock
from metatensor.labels import Labels
from metatensor.operations import _differences
from metatensor.operations._differences import EXPECTED
from metatensor.operations.sorting import sort
from metatensor.tensor import TensorMap

__all__ = [
    "assert_allclose",
    "assert_equal",
    "assert_equivariant",
    "blocks",
    "check_gradients",
    "directional_derivative",
    "finite_difference",
    "labels",
    "tensors",
]

Tensor = TypeVar("Tensor", TensorBlock, TensorMap)
Host = npt.NDArray[Any]
Direction = Callable[[Labels], Host]

_KINDS = {Labels: "Labels", TensorBlock: "blocks", TensorMap: "maps"}

# ---------------------------------------------------------------------------------- assertions


def assert_equal(
    actual: Labels | TensorBlock | TensorMap, expected: Labels | TensorBlock | TensorMap
) -> None:
    """Check that two Labels, blocks or maps are the same.

    Everything counts: names, entries and their order, values, dtypes, gradients, and the ``info``
    of maps; only the array library, the device and the order of gradients do not. NaN equals NaN.

    Parameters
    ----------
    actual, expected : Labels, TensorBlock or TensorMap
        what was computed, and what it should be

    Raises
    ------
    AssertionError
        that says where they differ first: the key, the gradient, the axis or the values
    TypeError
        if `expected` is something else, such as an array

    Examples
    --------
    >>> from metatensor import Labels
    >>> assert_equal(Labels.range("atom", 3), Labels.range("atom", 2))
    Traceback (most recent call last):
    ...
    AssertionError: Labels differ: sizes: got 3, expected 2; 1 unexpected, such as (atom=2)

    """
    __tracebackhide__ = True
    _assert_no_difference(actual, expected, Tolerance(equal_nan=True, same_dtype=True))
    if isinstance(actual, TensorMap) and isinstance(expected, TensorMap):
        info, wanted = actual.info(), expected.info()
        if info != wanted:
            raise AssertionError(f"maps differ: the info is {info}, expected {wanted}")


def assert_allclose(
    actual: Labels | TensorBlock | TensorMap,
    expected: Labels | TensorBlock | TensorMap,
    rtol: float = 1e-7,
    atol: float = 0.0,
) -> None:
    """Check that two blocks or maps have the same Labels, and values that are nearly the same.

    Values and gradients may differ by ``atol + rtol * abs(expected)``. Labels, keys and their
    order are compared exactly; dtypes and the ``info`` of maps are not. NaN is close to NaN.

    Parameters
    ----------
    actual, expected : Labels, TensorBlock or TensorMap
        what was computed, and what it should be
    rtol, atol : float
        relative and absolute tolerance

    Raises
    ------
    AssertionError
        that says where they differ first, with the largest deviation of the values
    TypeError
        if `expected` is something else, such as an array

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> axes = Labels.range("atom", 1), [], Labels.range("n", 2)
    >>> one = TensorBlock(np.array([[1.0, 2.0]]), *axes)
    >>> assert_allclose(one, TensorBlock(np.array([[1.0, 2.5]]), *axes), rtol=0.1)
    Traceback (most recent call last):
    ...
    AssertionError: blocks differ: the values differ in 1 of 2 places, most at [0, 1],
    sample (atom=0), property (n=1): got 2.0, expected 2.5, deviation 0.5

    """
    __tracebackhide__ = True
    _assert_no_difference(actual, expected, Tolerance(rtol, atol, equal_nan=True))


def _assert_no_difference(
    actual: Any, expected: Any, tolerance: Tolerance | None, what: str = ""
) -> None:
    """Raise what differs; without a tolerance only keys and axes are compared."""
    __tracebackhide__ = True
    if type(expected) not in _KINDS:
        raise TypeError(
            "`expected` must be Labels, a TensorBlock or a TensorMap, got "
            f"{_checks.kind(expected)}; arrays are compared by `numpy.testing`"
        )
    difference: str | None
    if type(actual) is not type(expected):
        difference = f"got {_checks.kind(actual)}, expected {_checks.kind(expected)}"
    else:
        difference = _difference(actual, expected, tolerance)
    if difference is not None:
        raise AssertionError(f"{what or _KINDS[type(expected)] + ' differ'}: {difference}")


def _difference(actual: Any, expected: Any, tolerance: Tolerance | None) -> str | None:
    """Return where two things of one kind differ first; without a tolerance values do not count."""
    if isinstance(expected, Labels):
        return _differences.labels(actual, expected, EXPECTED)
    # unlike for operations, the order of keys counts
    if isinstance(expected, TensorMap) and actual.keys != expected.keys:
        return f"the keys differ: {_differences.labels(actual.keys, expected.keys, EXPECTED)}"
    place = _differences.of_tensors(actual, expected, AXES, tolerance is not None, tolerance)
    if place is None:
        return None
    where, difference = place
    return where + _differences.describe(difference, tolerance or EXACT, EXPECTED)


def _host(values: _arrays.Array) -> Host:
    return _arrays.to_host(_arrays.detach(values))


# ----------------------------------------------------------------------------------- gradients


def check_gradients(
    function: Callable[..., TensorBlock | TensorMap],
    *tensors: TensorBlock | TensorMap,
    parameters: Sequence[str] | None = None,
    step: float | None = None,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> None:
    """Check the gradients of a function's result against finite differences of its values.

    The gradients of the inputs say how their values change along a direction. All values are
    moved along a random combination of these directions, the same in every input; the change of
    the result must be what its own gradients say. Both the chain rule and the bookkeeping of
    gradient rows are tested by this, for any function of blocks or maps: operations, or the
    ``predict`` of an estimator.

    Parameters
    ----------
    function : callable
        from blocks or maps with gradients to one block or map with gradients
    *tensors : TensorBlock or TensorMap
        the arguments; those without a gradient stay constant
    parameters : sequence of str, optional
        gradients to check, by default all those of the arguments
    step : float, optional
        largest change of a value, by default what suits the dtype
    tolerance : float, default=1e-6
        accepted deviation, relative to the largest derivative; round-off is added to it
    seed : int, default=0
        of the random directions

    Raises
    ------
    AssertionError
        if a gradient is absent from the result, has rows that no argument has, or deviates

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> samples, properties = Labels.range("system", 2), Labels.range("n", 1)
    >>> block = TensorBlock(np.array([[1.0], [2.0]]), samples, [], properties)
    >>> rows = Labels("sample", np.array([[1]]))
    >>> block.add_gradient("g", TensorBlock(np.array([[3.0]]), rows, [], properties))
    >>> def square(block):
    ...     result = TensorBlock(block.values**2, samples, [], properties)
    ...     chained = 2 * block.values[1:] * block.gradient("g").values
    ...     result.add_gradient("g", TensorBlock(chained, rows, [], properties))
    ...     return result
    >>> check_gradients(square, block)

    """
    __tracebackhide__ = True
    _deviations(
        function, *tensors, parameters=parameters, step=step, tolerance=tolerance, seed=seed
    )


def _deviations(
    function: Callable[..., TensorBlock | TensorMap],
    *tensors: TensorBlock | TensorMap,
    parameters: Sequence[str] | None = None,
    step: float | None = None,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> dict[str, float]:
    """Check gradients; return how far each is off, in units of its largest derivative."""
    __tracebackhide__ = True
    if parameters is None:
        parameters = sorted({name for tensor in tensors for name in _parameters(tensor)})
    if not parameters:
        raise ValueError("none of the arguments has gradients, there is nothing to check")
    return {
        parameter: _check_gradient(
            function, tensors, _RandomDirection(parameter, tensors, seed), step, tolerance
        )
        for parameter in parameters
    }


def _check_gradient(
    function: Callable[..., Any],
    tensors: Sequence[Any],
    direction: _RandomDirection,
    step: float | None,
    tolerance: float,
) -> float:
    __tracebackhide__ = True
    changes = [direction.change(tensor) for tensor in tensors]
    direction.complete = True
    result = function(*tensors)
    change = direction.change(result)
    if not _blocks(result):
        return 0.0
    if change is None:
        raise AssertionError(
            f"the result has no gradient {direction.parameter!r}, its arguments have"
        )
    eps = float(np.finfo(_host(_blocks(result)[0].values).dtype).eps)
    step = eps**0.2 if step is None else step
    # in units of the largest change of any value
    step /= max(_largest(change) for change in changes if change is not None) or 1.0

    def moved(amount: float) -> Any:
        return function(
            *[
                tensor if change is None else _move(tensor, change, amount)
                for tensor, change in zip(tensors, changes)
            ]
        )

    expected = finite_difference(moved, step)
    round_off = 100 * eps * _largest(result) / step
    largest = _largest(expected)
    what = f"gradient {direction.parameter!r} is not the derivative of the values"
    tolerated = Tolerance(0.0, tolerance * largest + round_off)
    _assert_no_difference(change, expected, tolerated, what)
    deviation = _each_block(
        lambda one, other: _like(one, one.values - other.values), change, expected
    )
    return _largest(deviation) / (largest or 1.0)


def directional_derivative(tensor: Tensor, parameter: str, direction: Direction) -> Tensor:
    """Return the derivative of values along a direction, as gradients tell it.

    Gradients: multiplied by the direction and summed over gradient rows and extra components; the
    result has none.

    Parameters
    ----------
    tensor : TensorBlock or TensorMap
        with gradients
    parameter : str
        name of the gradient
    direction : callable
        gives, for the samples of the gradient (Labels), how fast the parameter of each row
        changes: an array (n_rows, ...) with the extra components of the gradient as other axes

    Returns
    -------
    TensorBlock or TensorMap
        with numpy values, as large as `tensor`

    Examples
    --------
    With ``velocities`` of shape (n_systems, n_atoms, 3), the change per time of ``tensor``, and
    the same from structures that were moved::

        derivative = directional_derivative(
            tensor, "positions", lambda rows: velocities[rows["system"], rows["atom"]]
        )
        moved = finite_difference(lambda t: describe(positions + t * velocities))
        assert_allclose(derivative, moved, rtol=1e-6)

    """
    derivative: Tensor = _each_block(
        lambda block: _block_derivative(block, parameter, direction), tensor
    )
    return derivative


def _block_derivative(block: TensorBlock, parameter: str, direction: Direction) -> TensorBlock:
    gradient = block.gradient(parameter)
    rows = _host(gradient.values)
    n_axes = rows.ndim - len(block.shape) + 1
    rates = np.asarray(direction(gradient.samples))
    if rates.shape != rows.shape[:n_axes]:
        raise ValueError(
            f"`direction` must return an array of shape {rows.shape[:n_axes]} for the gradient "
            f"{parameter!r}, got {rates.shape}"
        )
    rates = rates.reshape(rates.shape + (1,) * (rows.ndim - n_axes))
    rows = (rates * rows).sum(axis=tuple(range(1, n_axes)))
    values = np.zeros(tuple(block.shape), dtype=rows.dtype)
    np.add.at(values, gradient.samples._table[:, 0], rows)
    return _like(block, values)


def finite_difference(compute: Callable[[float], Tensor], step: float = 1e-3) -> Tensor:
    """Return the derivative of the values of ``compute(t)`` at zero, by central differences.

    Gradients: not used, the result has none.

    Parameters
    ----------
    compute : callable
        from a number to a TensorBlock or TensorMap, always with the same Labels
    step : float, default=1e-3
        spacing of the four numbers for which `compute` is called; the error is of order step**4

    Returns
    -------
    TensorBlock or TensorMap
        with numpy values

    Raises
    ------
    AssertionError
        if the Labels of `compute(t)` depend on t

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> axes = Labels.range("system", 1), [], Labels.range("n", 1)
    >>> slope = finite_difference(lambda t: TensorBlock(np.array([[np.sin(3 * t)]]), *axes))
    >>> round(float(slope.values[0, 0]), 9)
    3.0

    """
    weights = {1: 8.0, -1: -8.0, 2: -1.0, -2: 1.0}
    first, *others = [compute(multiple * step) for multiple in weights]
    for other in others:
        _assert_no_difference(other, first, None, "the Labels depend on the step")

    def combine(*blocks: TensorBlock) -> TensorBlock:
        terms = [w * _host(block.values) for w, block in zip(weights.values(), blocks)]
        return _like(blocks[0], sum(terms[1:], terms[0]) / (12 * step))

    derivative: Tensor = _each_block(combine, first, *others)
    return derivative


class _RandomDirection:
    """How fast each entry of a parameter changes: at random, the same for all samples and blocks.

    An entry is a row of gradient samples without "sample", with one set of extra components.
    """

    def __init__(self, parameter: str, tensors: Sequence[Any], seed: int) -> None:
        self.parameter = parameter
        #: no further entries are expected
        self.complete = False
        first = next((b for t in tensors for b in _blocks(t) if b.has_gradient(parameter)), None)
        self._components = [] if first is None else _extra_components(first, parameter)
        self._rng = np.random.default_rng(seed)
        self._rates: dict[tuple[int, ...], Host] = {}

    def change(self, tensor: Any) -> Any:
        """Return the change of the values along this direction; None without gradient."""
        blocks = _blocks(tensor)
        if not blocks or not blocks[0].has_gradient(self.parameter):
            return None
        for block in blocks:
            components = _extra_components(block, self.parameter)
            if components != self._components:
                raise AssertionError(
                    f"all gradients {self.parameter!r} must have the same extra components, "
                    f"got {components} and {self._components}"
                )
        return directional_derivative(tensor, self.parameter, self)

    def __call__(self, samples: Labels) -> Host:
        shape = tuple(len(component) for component in self._components)
        rates = np.empty((len(samples), *shape))
        for position, row in enumerate(samples._table[:, 1:].tolist()):
            entry = tuple(row)
            if entry not in self._rates:
                if self.complete:
                    raise AssertionError(
                        f"gradient {self.parameter!r} of the result has a row "
                        f"{samples[position].print()} that no gradient of the arguments leads to"
                    )
                self._rates[entry] = self._rng.normal(size=shape)
            rates[position] = self._rates[entry]
        return rates


def _extra_components(block: TensorBlock, parameter: str) -> list[Labels]:
    components = block.gradient(parameter).components
    return components[: len(components) - len(block.components)]


def _blocks(tensor: TensorBlock | TensorMap) -> list[TensorBlock]:
    return [tensor] if isinstance(tensor, TensorBlock) else list(tensor)


def _parameters(tensor: TensorBlock | TensorMap) -> list[str]:
    return [name for block in _blocks(tensor)[:1] for name in block.gradients_list()]


def _largest(tensor: TensorBlock | TensorMap) -> float:
    return max(
        [float(np.abs(_host(b.values)).max(initial=0.0)) for b in _blocks(tensor)], default=0.0
    )


def _each_block(function: Callable[..., TensorBlock], first: Any, *others: Any) -> Any:
    """Apply a function of blocks to blocks, or to the blocks of maps with the same keys."""
    if isinstance(first, TensorBlock):
        return function(first, *others)
    return TensorMap(first.keys, [function(*blocks) for blocks in zip(first, *others)])


def _like(block: TensorBlock, values: _arrays.Array) -> TensorBlock:
    return TensorBlock(values, block.samples, block.components, block.properties)


def _move(tensor: Any, change: Any, amount: float) -> Any:
    """Return ``tensor + amount * change``, with the library and the gradients of ``tensor``."""

    def move(block: TensorBlock, change: TensorBlock) -> TensorBlock:
        values = block.values
        added = _arrays.namespace(values).asarray(
            amount * _host(change.values), dtype=values.dtype, device=_arrays.device(values)
        )
        moved = _like(block, values + added)
        for parameter, gradient in block.gradients():
            moved.add_gradient(parameter, gradient)
        return moved

    return _each_block(move, tensor, change)


# -------------------------------------------------------------------------------- equivariance


def assert_equivariant(
    function: Callable[[list[Any]], TensorMap],
    systems: Sequence[Any],
    *,
    n: int = 5,
    rtol: float = 1e-6,
    atol: float = 0.0,
    random_state: int | np.random.Generator | None = 0,
    improper: bool = True,
    rotate_systems: Callable[[list[Any], Host], Sequence[Any]] | None = None,
) -> None:
    """Check that what a function makes of rotated systems is what it makes of them, rotated.

    ``function(R systems)`` is compared with ``rotate(function(systems), R)`` for random rotations;
    :func:`metatensor.o3.rotate` says what they do to values and gradients. The order of keys,
    samples and gradient rows does not count. NaN deviates from everything.

    Parameters
    ----------
    function : callable
        from a list of systems to a TensorMap, such as a descriptor or the prediction of a model
    systems : sequence
        of :class:`ase.Atoms`, or of what has a method ``copy`` and attributes ``positions`` and
        ``cell`` with vectors as rows, which are all that is rotated
    n : int, default=5
        number of rotations
    rtol : float, default=1e-6
        accepted deviation, relative to the largest value of each block, and of each gradient of a
        block; the round-off of the largest value of all blocks is added to it
    atol : float, default=0
        accepted deviation, added to the others
    random_state : int, Generator or None
        of the rotations, which are distributed evenly
    improper : bool, default=True
        make every other rotation improper, the first one among them
    rotate_systems : callable, optional
        ``rotate_systems(systems, rotation)`` returns rotated systems of other types, or with more
        than positions and cell rotated; ``rotation`` is a matrix that acts as ``rotation @ r``

    Raises
    ------
    AssertionError
        that says for which rotation and where the result deviates most
    MetatensorError
        if the result does not fulfil :func:`metatensor.o3.check`
    TypeError
        if the systems are of another type, and there is no `rotate_systems`

    Examples
    --------
    >>> import numpy as np
    >>> from ase import Atoms
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> def heights(systems):
    ...     values = np.array([system.positions[:, 2].sum() for system in systems])
    ...     axes = Labels.range("system", len(systems)), [], Labels.single()
    ...     return TensorMap(Labels.single(), [TensorBlock(values[:, None], *axes)])
    >>> assert_equivariant(heights, [Atoms("H", [[0.0, 0.0, 1.0]])], n=1)
    Traceback (most recent call last):
    ...
    AssertionError: not equivariant, most under rotation 1 of 1, which is improper: in the block
    for key (_=0), the values differ in 1 of 1 places, most at [0, 0], sample (system=0), property
    (_=0): got ..., expected 1.0, deviation ...

    """
    __tracebackhide__ = True
    if n < 1:
        raise ValueError(f"`n` must be at least 1, got {n}")
    systems = list(systems)
    rotate_systems = _rotate_systems if rotate_systems is None else rotate_systems
    reference = function(systems)
    worst, text = 1.0, ""
    for number, rotation in enumerate(_random_rotations(n, random_state, improper), 1):
        expected = sort(o3.rotate(reference, rotation), ["keys", "samples"])
        actual = sort(function(list(rotate_systems(systems, rotation))), ["keys", "samples"])
        _assert_no_difference(actual, expected, None, "the Labels depend on the orientation")
        excess, where = _most_deviating(actual, expected, rtol, atol)
        if excess > worst:
            kind = "proper" if np.linalg.det(rotation) > 0 else "improper"
            worst, text = excess, f"rotation {number} of {n}, which is {kind}: {where}"
    if text:
        raise AssertionError(f"not equivariant, most under {text}")


def _random_rotations(
    n: int, random_state: int | np.random.Generator | None, improper: bool
) -> Iterator[Host]:
    """Yield orthogonal matrices, evenly distributed.

    As in F. Mezzadri, Notices of the AMS 54, 592 (2007), https://arxiv.org/abs/math-ph/0609050.
    """
    rng = np.random.default_rng(random_state)
    for number in range(n):
        matrix, triangle = np.linalg.qr(rng.normal(size=(3, 3)))
        matrix = matrix * np.sign(np.diag(triangle))
        determinant = -1 if improper and number % 2 == 0 else 1
        yield matrix * (determinant * np.sign(np.linalg.det(matrix)))


def _rotate_systems(systems: list[Any], rotation: Host) -> list[Any]:
    rotated = []
    for system in systems:
        if not all(hasattr(system, name) for name in ("copy", "positions", "cell")):
            raise TypeError(
                "`systems` must have `copy`, `positions` and `cell`, as ase.Atoms have, got "
                f"{_checks.kind(system)}; pass `rotate_systems` for other types"
            )
        copied = system.copy()
        copied.cell = np.asarray(system.cell) @ rotation.T
        copied.positions = np.asarray(system.positions) @ rotation.T
        rotated.append(copied)
    return rotated


def _most_deviating(
    actual: TensorMap, expected: TensorMap, rtol: float, atol: float
) -> tuple[float, str]:
    """Return the largest deviation in units of what is accepted, and text that says where it is."""
    found = [
        (key.print(), gradients, reduce(TensorBlock.gradient, gradients, block), wanted)
        for key, block, other in zip(expected.keys, actual, expected)
        for gradients, wanted in _with_gradients(other)
    ]
    largest: dict[tuple[str, ...], float] = {}
    for _, gradients, _, wanted in found:
        largest[gradients] = max(largest.get(gradients, 0.0), _largest(wanted))
    worst, text = 0.0, ""
    for key, gradients, block, wanted in found:
        values, reference = _host(block.values), _host(wanted.values)
        round_off = 100 * float(np.finfo(reference.dtype).eps) * largest[gradients]
        accepted = atol + rtol * _largest(wanted) + round_off
        deviation = np.abs(values - reference).max(initial=0.0)
        excess = float(np.nan_to_num(deviation / (accepted or 1e-300), nan=np.inf))
        if excess > worst:
            difference = Difference("values", block, wanted, gradients)
            differs = _differences.describe(difference, Tolerance(atol=accepted), EXPECTED)
            worst, text = excess, f"in the block for key {key}, {differs}"
    return worst, text


def _with_gradients(
    block: TensorBlock, names: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], TensorBlock]]:
    """Yield a block and its gradients, and theirs, with the names that lead to them."""
    yield names, block
    for name, gradient in block.gradients():
        yield from _with_gradients(gradient, (*names, name))
