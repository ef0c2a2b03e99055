"""What an estimator makes of data, and whether it is what was expected."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import get_tags
from sklearn.utils.validation import has_fit_parameter

from metatensor import testing
from metatensor.block import TensorBlock
from metatensor.operations.sorting import sort
from metatensor.sklearn import _base
from metatensor.sklearn.rows import Rows
from metatensor.sklearn.testing._data import Data
from metatensor.tensor import TensorMap

METHODS = ("predict", "transform")


def seeded(estimator: Any) -> Any:
    """Return a clone whose random numbers are always the same."""
    copied = clone(estimator)
    names = [name for name in copied.get_params() if name.split("__")[-1] == "random_state"]
    return copied.set_params(**dict.fromkeys(names, 0))


def fitted(estimator: Any, X: Any, y: Any = None, **parameters: Any) -> Any:
    """Return a clone that is fitted."""
    return seeded(estimator).fit(X, y, **parameters)


def outputs(estimator: Any, X: Any) -> dict[str, Any]:
    """Return the prediction, and what X becomes, by the names of the methods that there are."""
    return {name: getattr(estimator, name)(X) for name in METHODS if hasattr(estimator, name)}


def assert_same(
    found: dict[str, Any], expected: dict[str, Any], tolerance: float = 1e-10, what: str = ""
) -> None:
    """Check that outputs are the same, in any order of blocks, samples, properties and rows.

    Deviations are relative to the largest value of a block; some round-off is always accepted.
    """
    __tracebackhide__ = True
    for method, wanted in expected.items():
        try:
            _assert_same(found[method], wanted, tolerance)
        except AssertionError as error:
            raise AssertionError(f"`{method}`{what and ' ' + what}: {error}") from None


def _assert_same(found: Any, expected: Any, tolerance: float) -> None:
    __tracebackhide__ = True
    for data in (found, expected):
        if not isinstance(data, (TensorMap, Rows)):
            raise AssertionError(f"returned {type(data).__name__}, expected a TensorMap or Rows")
    actual, wanted = sort(_base.to_tensor(found)), sort(_base.to_tensor(expected))
    testing._assert_no_difference(actual, wanted, None)
    excess, text = testing._most_deviating(actual, wanted, tolerance, 0.0)
    if excess > 1:
        raise AssertionError(text)


def rounding(estimator: Any, data: Data) -> float:
    """Return how far outputs move when all of X is rounded, relative to the largest of a block."""
    rng = np.random.default_rng(0)

    def rounded(values: Any) -> Any:
        return values * (1 + np.finfo(values.dtype).eps * rng.choice([-1, 1], values.shape))

    plain = outputs(fitted(estimator, data.X, data.y), data.X)
    X = converted(data.X, rounded)
    moved = outputs(fitted(estimator, X, data.y), X)
    unit = 1e-12
    return unit * max(
        testing._most_deviating(sort(moved[name]), sort(plain[name]), unit, 0.0)[0]
        for name in plain
    )


def expect_error(
    kinds: type[Exception] | tuple[type[Exception], ...],
    words: tuple[str, ...],
    function: Callable[[], Any],
    when: str,
) -> None:
    """Check that a function raises an error of some kind, with all of some words in its text."""
    __tracebackhide__ = True
    names = " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
    try:
        function()
    except kinds as error:
        lacking = [word for word in words if word.lower() not in str(error).lower()]
        if lacking:
            raise AssertionError(
                f"{when}, the text of the {names} must have the words {lacking}, got: {error}"
            ) from error
        return
    raise AssertionError(f"{when}, expected a {names}, got no error")


def parts(tensor: TensorMap) -> Iterator[TensorBlock]:
    """Yield all blocks and their gradients."""
    for block in tensor:
        yield block
        for _, gradient in block.gradients():
            yield gradient


def converted(tensor: TensorMap, convert: Callable[[Any], Any]) -> TensorMap:
    """Return a map of what a function makes of the arrays of another one."""

    def block_of(block: TensorBlock) -> TensorBlock:
        values = convert(block.values)
        result = TensorBlock(values, block.samples, block.components, block.properties)
        for name, gradient in block.gradients():
            result.add_gradient(name, block_of(gradient))
        return result

    return TensorMap(tensor.keys, [block_of(block) for block in tensor])


def is_finite(tensor: TensorMap) -> bool:
    """Tell whether there is neither NaN nor infinity."""
    return all(bool(np.isfinite(np.asarray(part.values)).all()) for part in parts(tensor))


# ---- what is known about estimators


def predicts(estimator: Any) -> bool:
    return hasattr(estimator, "predict")


def transforms(estimator: Any) -> bool:
    return hasattr(estimator, "transform")


def takes_arrays(estimator: Any) -> bool:
    tags = get_tags(estimator)
    return bool(tags.input_tags.two_d_array and not tags.no_validation)


def takes_weights(estimator: Any) -> bool:
    return bool(has_fit_parameter(estimator, "sample_weight"))


def refusal(estimator: Any, data: Data) -> Exception | None:
    """Return the error with which an estimator refuses data, if it does."""
    try:
        fitted(estimator, data.X, data.y)
    except (TypeError, ValueError) as error:
        return error
    except Exception:
        return None  # nobody refuses like this, the checks will say so
    return None
