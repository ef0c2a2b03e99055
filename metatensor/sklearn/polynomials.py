"""Products of properties."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from itertools import chain, combinations, combinations_with_replacement
from typing import Any

import numpy as np
import numpy.typing as npt

from metatensor import _arrays, _checks
from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.operations._blockwise import refuse_nested
from metatensor.sklearn import _base, _selection
from metatensor.sklearn._transformation import TensorTransformer

Positions = npt.NDArray[np.intp]


class PolynomialFeatures(TensorTransformer):
    """Add all products of properties of a sample, up to some degree.

    Only for blocks that are invariant to rotations (no component axis of more than one entry,
    "o3_lambda" 0 and "o3_sigma" 1 where the key has them): products of others do not rotate as
    their factors do.

    Gradients: the product rule, ``d(x y) = x dy + y dx``.

    Plain 2-D arrays are taken as well, as in :class:`sklearn.preprocessing.PolynomialFeatures`.

    Parameters
    ----------
    degree : int, default=2
        largest number of factors
    include_bias : bool, default=False
        add a property that is one, the product without factors
    interaction_only : bool, default=False
        only products of different properties, no powers

    Attributes
    ----------
    n_output_features_ : int
        number of properties of all blocks together after `transform`
    n_features_in_ : int
        number of properties of all blocks together
    feature_labels_in_ : dict of LabelsEntry to Labels
        the properties of each block, for labelled data
    feature_names_in_ : array of str
        names of the columns, for data frames

    See Also
    --------
    sklearn.preprocessing.PolynomialFeatures : the transformer for arrays

    Notes
    -----
    A property of the result has the number of its factors as "degree", followed by the labels of
    the first factor under names that end in "_1", of the second one in "_2"...; where there are
    fewer factors, these are -1. Factors are sorted by their labels.

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.sklearn import PolynomialFeatures
    >>> block = TensorBlock(
    ...     np.array([[2.0, 3.0]]), Labels.range("system", 1), [], Labels.range("n", 2)
    ... )
    >>> result = PolynomialFeatures().fit_transform(TensorMap(Labels.single(), [block])).block()
    >>> result.values
    array([[2., 3., 4., 6., 9.]])
    >>> result.properties
    Labels
        degree  n_1  n_2
          1      0   -1
          1      1   -1
          2      0    0
          2      0    1
          2      1    1

    """

    def __init__(
        self, degree: int = 2, *, include_bias: bool = False, interaction_only: bool = False
    ) -> None:
        self.degree = degree
        self.include_bias = include_bias
        self.interaction_only = interaction_only

    def fit(self, X: Any, y: Any = None) -> PolynomialFeatures:
        """Find out which products there are.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
            without NaN; only the labels count
        y : None
            not used

        Returns
        -------
        PolynomialFeatures
            self, fitted

        Raises
        ------
        ValueError
            if a block is not invariant to rotations, or there are too many products

        """
        self.__dict__.pop("_labels_out", None)
        if _checks.require_int(self.degree, "degree") < 1:
            raise ValueError(f"`degree` must be from 1 on, got {self.degree}")
        _base.check_flags(self, "include_bias", "interaction_only")
        tensor = _base.to_tensor(self._labelled_features(X, reset=True))
        _base.check_finite(tensor, "X")
        for key, block in tensor.items():
            if not _base.is_invariant(key, block):
                raise ValueError(
                    "PolynomialFeatures needs blocks that are invariant to rotations (no component "
                    "axis of more than one entry, o3_lambda=0 and o3_sigma=1), got the block with "
                    f"key {key.print()}; select the others, or multiply by their norm"
                )
            self._check_number(len(block._properties))
        self._factors = {
            key: list(self._products(_selection.order_of(block._properties)))
            for key, block in tensor.items()
        }
        self._labels_out = {
            key: self._labels_of(block._properties, self._factors[key])
            for key, block in tensor.items()
        }
        self.n_output_features_ = sum(map(len, self._labels_out.values()))
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_labels_out")

    def _check_number(self, n_properties: int) -> None:
        degree = _checks.require_int(self.degree, "degree")
        if self.interaction_only:
            factors = range(1, min(n_properties, degree) + 1)
            n_products = sum(math.comb(n_properties, n) for n in factors)
        else:
            n_products = math.comb(n_properties + degree, n_properties) - 1
        if n_products * degree > np.iinfo(np.int32).max:
            raise ValueError(
                f"{n_properties} properties have too many products up to degree={degree}; use a "
                "smaller degree, or fewer properties, as `FPSSelector` gives"
            )

    def _products(self, order: Positions) -> Iterator[Positions]:
        """Give the positions of the factors of all products of each degree.

        Properties are sorted, so that products do not depend on their order.
        """
        choose = combinations if self.interaction_only else combinations_with_replacement
        for degree in range(0 if self.include_bias else 1, self.degree + 1):
            flat = np.fromiter(chain.from_iterable(choose(order.tolist(), degree)), np.intp)
            yield flat.reshape(-1, degree) if degree else np.zeros((1, 0), dtype=np.intp)

    def _labels_of(self, properties: Labels, products: list[Positions]) -> Labels:
        names = [f"{name}_{n + 1}" for n in range(self.degree) for name in properties._names]
        tables = []
        for factors in products:
            n_products, degree = factors.shape
            table = np.full((n_products, 1 + len(names)), -1, dtype=np.int32)
            table[:, 0] = degree
            width = degree * len(properties._names)
            table[:, 1 : 1 + width] = properties._table[factors].reshape(n_products, width)
            tables.append(table)
        return Labels(["degree", *names], np.concatenate(tables))

    def transform(self, X: Any) -> Any:
        """Multiply properties.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
            with the keys and properties of the X in `fit`; blocks may be absent

        Returns
        -------
        TensorMap, Rows or array
            like X; float32 stays float32, integers become float64

        Raises
        ------
        NotImplementedError
            for gradients of gradients

        """
        tensor = _base.to_tensor(self._labelled_features(X))
        blocks = [
            _multiplied(block, self._factors[key], self._labels_out[key])
            for key, block in tensor.items()
        ]
        return self._in_container(X, tensor, blocks)

    def _column_names(self, input_features: Any) -> npt.NDArray[np.object_]:
        """Return names such as "x0^2" or "x0 x1"."""
        names = super()._column_names(input_features)
        (products,) = self._factors.values()
        texts = [_product_name(names[row]) for factors in products for row in factors]
        return np.array(texts, dtype=object)


def _product_name(names: npt.NDArray[np.object_]) -> str:
    """Return the name of a product of columns with these names, as scikit-learn has it."""
    powers = Counter(names.tolist())
    return " ".join(f"{name}^{n}" if n > 1 else name for name, n in powers.items()) or "1"


def _multiplied(block: TensorBlock, products: list[Positions], properties: Labels) -> TensorBlock:
    refuse_nested(block, "PolynomialFeatures")
    values = _base.as_float(block._values)
    xp = _arrays.namespace(values)
    parts = [_product(values, factors) for factors in products]
    gradients = {}
    for name, gradient in block._gradients.items():
        rows = _base.as_float(gradient._values)
        x = _arrays.rows_of(values, gradient._samples._table[:, 0], rows.ndim)
        slopes = xp.concat([_slope(x, rows, factors) for factors in products], axis=-1)
        gradients[name] = TensorBlock._of(
            slopes, gradient._samples, gradient._components, properties
        )
    return TensorBlock._of(
        xp.concat(parts, axis=-1), block._samples, block._components, properties, gradients
    )


def _product(values: _arrays.Array, factors: Positions) -> _arrays.Array:
    """Return the products of some properties, whose positions are (n_products, n_factors)."""
    product = _arrays.full((*values.shape[:-1], len(factors)), 1, values)
    for column in factors.T:
        product = product * _arrays.take(values, column, axis=-1)
    return product


def _slope(x: _arrays.Array, gradient: _arrays.Array, factors: Positions) -> _arrays.Array:
    """Return the gradients of products, given values and gradients of their factors."""
    slope = _arrays.full((*gradient.shape[:-1], len(factors)), 0, gradient)
    product = _arrays.full((*x.shape[:-1], len(factors)), 1, x)
    for column in factors.T:
        factor = _arrays.take(x, column, axis=-1)
        slope = slope * factor + product * _arrays.take(gradient, column, axis=-1)
        product = product * factor
    return slope
