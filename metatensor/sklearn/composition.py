"""What the composition of systems alone tells about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

from metatensor import _arrays, _checks
from metatensor._core import sets
from metatensor._core.rows import first_duplicate
from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.sklearn import _base, _baseline, _matching, _regression
from metatensor.sklearn._base import VALUES
from metatensor.sklearn._matching import Pair
from metatensor.sklearn.rows import Rows
from metatensor.tensor import TensorMap

Array = npt.NDArray[np.float64]
Table = npt.NDArray[np.int32]


class CompositionRegressor(_regression.TensorRegressor):
    r"""Predict a sum over atoms of one number for each type, the usual baseline for energies.

    .. math::

        y_s = \sum_z n_{sz} e_z

    with the number n of atoms of type z in sample s of y, and e the least-squares solution, that is
    the smallest :math:`\sum_s v_s (y_s - \sum_z n_{sz} e_z)^2 + \alpha \sum_z e_z^2` with the
    sample weights v. If all systems have the same ratio of types, the solution is not unique, and
    it is the shortest one. If y has one sample for each atom, e is the mean of each type.

    Only the labels of X are used: atoms are its samples, of the type in a dimension of the keys or
    samples. An atom counts once, whatever the number of blocks, such as those by the type of a
    neighbor, that it has samples in; one that has none, in any block, is not counted.

    Gradients: a composition does not change when atoms move, so that gradients of y do not count,
    and those of the predictions are zero: predictions have the gradients that X has, without rows,
    since rows that are absent count as zero. Blocks of y that are not invariant to rotations (with
    a component axis of more than one entry, "o3_lambda" other than 0 or "o3_sigma" other than 1)
    are predicted as zero.

    The rest is usually fitted by ``Ridge(fit_intercept=False)`` as next step of an
    :class:`AdditiveRegressor`: an intercept would not grow with the system.

    Parameters
    ----------
    types : str, default="center_type"
        name of the dimension of the keys or samples of X with the types of atoms. If it is among
        the key names of y too, a block of y only has atoms of its own type.
    atoms : str or sequence of str, default="atom"
        names of the sample dimensions of X that, together with the sample names of y, tell atoms
        apart
    alpha : float, default=0.0
        strength of the penalty on e, not negative
    fixed : dict of int to float or array (n_properties,), optional
        e of some types, which is not fitted. They need not be there in `fit`.

    Attributes
    ----------
    weights_ : TensorMap
        e, in blocks with the keys and properties of y, whose samples are the types; zero for blocks
        that are not invariant
    types_ : array of int32, (n_types,)
        the types that were there in `fit` or are fixed, sorted
    n_features_in_ : int
        number of properties of X, of all blocks together
    feature_labels_in_ : dict of LabelsEntry to Labels
        the properties of each block of X

    See Also
    --------
    AdditiveRegressor : fits other models to what is left
    DummyRegressor : the baseline for what does not grow with the system

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.sklearn import CompositionRegressor
    >>> def block(atoms):
    ...     samples = Labels(["system", "atom"], np.array(atoms))
    ...     return TensorBlock(np.ones((len(atoms), 1)), samples, [], Labels.range("n", 1))
    >>> types = Labels(["center_type"], np.array([[1], [8]]))
    >>> water_and_hydrogen = TensorMap(types, [block([[0, 1], [0, 2], [1, 0]]), block([[0, 0]])])
    >>> energies = np.array([[-17.0], [-0.5]])
    >>> energies = TensorBlock(energies, Labels.range("system", 2), [], Labels.range("energy", 1))
    >>> y = TensorMap(Labels.single(), [energies])
    >>> model = CompositionRegressor().fit(water_and_hydrogen, y)
    >>> model.types_
    array([1, 8], dtype=int32)
    >>> model.weights_.block().values.ravel().round(6)
    array([ -0.5, -16. ])

    """

    types_: npt.NDArray[np.int32]

    def __init__(
        self,
        types: str = "center_type",
        *,
        atoms: str | Sequence[str] = "atom",
        alpha: float = 0.0,
        fixed: Mapping[int, Any] | None = None,
    ) -> None:
        self.types = types
        self.atoms = atoms
        self.alpha = alpha
        self.fixed = fixed

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> CompositionRegressor:
        """Find the number of each type.

        Parameters
        ----------
        X : TensorMap or Rows
            with samples of each atom; its values are not looked at
        y : TensorMap, Rows, or array (n_rows,) or (n_rows, n_targets)
            targets, with samples that are sums over atoms, or the atoms themselves
        sample_weight : array (n_rows,), TensorMap, Rows or float, optional
            weight of each row, or of each value for a TensorMap like y

        Returns
        -------
        CompositionRegressor
            self, fitted

        Raises
        ------
        TypeError
            if X is an array
        ValueError
            if X has no types, an atom has two of them, a sample of y has no atoms, a parameter is
            not valid, or y has NaN or infinity

        """
        self.__dict__.pop("_sums", None)
        return self.partial_fit(X, y, sample_weight)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> CompositionRegressor:
        """Add a batch of data; the result is that of `fit` to all the data so far.

        Parameters
        ----------
        X, y, sample_weight
            as in :meth:`fit`, with other samples in each batch; new types may come

        Returns
        -------
        CompositionRegressor
            self

        """
        _base.check_not_negative(self.alpha, "alpha", "a number")
        self._check_fixed()
        tensor = self._tensor(X)
        y, ndim = _regression.labelled_target(X, y)
        target_map = _base.to_tensor(y)
        if not any(len(block._samples) for block in target_map):
            raise ValueError("y must have at least one sample, got none")
        _base.check_finite(target_map, "y")
        targets = _baseline.targets_of(target_map)
        tables = [self._atom_table(target, tensor) for target in targets]
        if not hasattr(self, "_sums"):
            self._remember_features(tensor)
            self._target_ndim = ndim
            self._targets, self._keys = targets, target_map._keys
            self._like = _base.as_float(_arrays.full((0,), 0, target_map._blocks[0]._values))
            fitted = np.array([*(self.fixed or {})], dtype=np.int32)
            self._sums = [_Sums(len(target.properties)) for target in targets]
        else:
            fitted = self.types_
            self._check_batch(targets, ndim)
        self.types_ = np.unique(np.concatenate([fitted, *(table[:, -1] for table in tables)]))
        if sample_weight is not None and isinstance(X, Rows) and not isinstance(y, Rows):
            y = X._like(y)  # its weights are those of the rows of X
        self._add(X, y, targets, tables, sample_weight)
        self._finish()
        return self

    def _tensor(self, X: Any) -> TensorMap:
        if not _base.is_tensor(X):
            raise TypeError(
                f"{type(self).__name__} needs a TensorMap, or Rows of one, since it counts atoms "
                f"by their labels; got {_checks.kind(X)}"
            )
        tensor = _base.to_tensor(X)
        if not len(tensor):
            raise ValueError(f"{type(self).__name__} needs X with at least one block, got none")
        return tensor

    def _check_batch(self, targets: list[_baseline.Target], ndim: int | None) -> None:
        expected = {target.key: target.properties for target in self._targets}
        got = {target.key: target.properties for target in targets}
        if ndim != self._target_ndim or got != expected or [*got] != [*expected]:
            raise ValueError("y must have the keys and properties of the first batch")

    def _atom_table(self, target: _baseline.Target, tensor: TensorMap) -> Table:
        """Return the atoms for a block of y: the dimensions that tell them apart, and the type."""
        atoms = _checks.names_tuple(self.atoms, "atoms")
        known = {*tensor.sample_names, *tensor._keys._names}
        if self.types not in known:
            raise ValueError(
                "`types` must be a name of the keys or samples of X, "
                f"{[*tensor._keys._names, *tensor.sample_names]}, got {self.types!r}; use "
                "CompositionRegressor before `KeysToProperties`"
            )
        if missing := [name for name in atoms if name not in tensor.sample_names]:
            raise ValueError(
                f"X must have the sample dimensions {list(atoms)} that tell atoms apart, {missing} "
                f"are not among {tensor.sample_names}; use CompositionRegressor before "
                "`SumOverSamples` and `KeysToProperties`, or another `atoms`"
            )
        identity = [name for name in target.sample_names if name != self.types]
        if not set(identity) <= known:
            raise ValueError(
                f"X must have the sample names of y, {list(target.sample_names)}, got "
                f"{tensor.sample_names}"
            )
        names = [*dict.fromkeys([*identity, *atoms]), self.types]
        tables = [
            _baseline.table_of(key, block, names)
            for key, block in _baseline.blocks_for(target, tensor)
        ]
        table = sets.unique(np.concatenate([np.empty((0, len(names)), np.int32), *tables]))[0]
        duplicate = first_duplicate(np.ascontiguousarray(table[:, :-1]))
        if duplicate >= 0:
            atom = dict(zip(names, table[duplicate].tolist(), strict=True))
            raise ValueError(
                f"each atom must have one type, but {self.types!r} differs between samples of the "
                f"same atom, one of them is {atom}"
            )
        return table

    def _counts(self, target: _baseline.Target, table: Table, samples: Labels) -> Array:
        """Return the number of atoms (n_samples, n_types)."""
        names = [name for name in target.sample_names if name != self.types]
        columns = {name: table[:, position] for position, name in enumerate(names)}
        columns[self.types] = table[:, -1]
        rows = np.stack([columns[name] for name in samples._names], axis=1)
        positions = samples._index.find_many(np.ascontiguousarray(rows))
        types = np.searchsorted(self.types_, table[:, -1])
        there = positions >= 0
        flat = positions[there] * len(self.types_) + types[there]
        counts = np.bincount(flat, minlength=len(samples) * len(self.types_))
        return counts.reshape(len(samples), len(self.types_)).astype(np.float64)

    # ---- fitting

    def _add(
        self,
        X: _base.Tensor,
        y: _base.Tensor,
        targets: list[_baseline.Target],
        tables: list[Table],
        sample_weight: Any,
    ) -> None:
        pairs = [
            Pair(key, key, block, block, np.arange(len(block._samples)))
            for key, block in _base.to_tensor(y).items()
        ]
        weights = _matching.term_weights(sample_weight, y, pairs)
        for target, table, pair, part, sums in zip(
            targets, tables, pairs, weights, self._sums, strict=True
        ):
            if target.invariant:
                samples = pair.wanted._samples
                counts = self._counts(target, table, samples)
                empty = counts.sum(axis=1) == 0
                if empty.any() and not isinstance(X, Rows):
                    raise ValueError(
                        "X must have the atoms of all samples of y, it has none for "
                        f"{_base.entries_text(samples, empty)} in the block with key "
                        f"{target.key.print()}"
                    )
                size = len(target.properties)
                values = _arrays.to_host(_base.to_float64(pair.wanted._values)).reshape(-1, size)
                sums.add(counts, values, part[VALUES].reshape(len(values), -1), self.types_)

    def _finish(self) -> None:
        """Solve for what is not fixed."""
        self._weights = []
        for target, sums in zip(self._targets, self._sums, strict=True):
            weights = np.zeros((len(self.types_), len(target.properties)))
            if target.invariant:
                fixed = self._fixed_weights(weights)
                weights = sums.solve(self.types_, fixed, weights, float(self.alpha))
            self._weights.append(weights)
        samples = Labels._of((self.types,), np.ascontiguousarray(self.types_[:, None]))
        blocks = [
            TensorBlock._of(_arrays.from_host(weights, self._like), samples, (), target.properties)
            for target, weights in zip(self._targets, self._weights, strict=True)
        ]
        self.weights_ = TensorMap._of(self._keys, blocks)

    def _check_fixed(self) -> None:
        if not isinstance(self.fixed, Mapping | None):
            raise TypeError(
                f"`fixed` must be a dict of numbers by type, or None, got "
                f"{_checks.kind(self.fixed)}"
            )
        limits = np.iinfo(np.int32)
        for type_, value in (self.fixed or {}).items():
            if not isinstance(type_, (int, np.integer)) or not limits.min <= type_ <= limits.max:
                raise ValueError(f"`fixed` must have types, which are 32-bit ints, got {type_!r}")
            if np.asarray(value).dtype.kind not in "iuf":
                raise TypeError(
                    f"`fixed` must have numbers for the types, got {value!r} for type {type_}"
                )

    def _fixed_weights(self, weights: Array) -> npt.NDArray[np.bool_]:
        """Fill in what is fixed, and tell which it is."""
        fixed = self.fixed or {}
        for type_, value in fixed.items():
            numbers = np.asarray(value, dtype=np.float64)
            if numbers.shape not in ((), (weights.shape[1],)) or not np.isfinite(numbers).all():
                raise ValueError(
                    f"`fixed` must have one finite number, or {weights.shape[1]}, for each type, "
                    f"got {value!r} for type {type_}"
                )
            weights[self.types_ == type_] = numbers
        return np.isin(self.types_, [*fixed])

    # ---- predictions

    def predict(self, X: Any) -> Any:
        """Sum the numbers of all atoms.

        Parameters
        ----------
        X : TensorMap or Rows
            with samples of each atom; properties do not count

        Returns
        -------
        TensorMap, Rows or array
            in blocks with the keys and properties of y, for all rows of Rows, or for what X has
            atoms of; an array if y was one

        Raises
        ------
        ValueError
            if there are types that were not there in `fit`, and are not fixed

        """
        check_is_fitted(self)
        tensor = self._tensor(X)
        blocks = []
        for target, weights in zip(self._targets, self._weights, strict=True):
            table = self._atom_table(target, tensor)
            self._check_types(table)
            samples = _baseline.samples_for(target, X)
            rows = self._counts(target, table, samples) @ weights
            blocks.append(_baseline.predicted(target, tensor, samples, rows))
        return self._to_container(X, TensorMap._of(self._keys, blocks))

    def _check_types(self, table: Table) -> None:
        new = np.setdiff1d(table[:, -1], self.types_)
        if len(new):
            raise ValueError(
                f"X has atoms with {self.types} {new.tolist()} that were not there in `fit`, only "
                f"{self.types_.tolist()}; fit to data with all types, or give their numbers with "
                f"`fixed={{{new[0]}: ...}}`"
            )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.no_validation = True
        return tags


class _Sums:
    """A triangular factor of all rows so far, for the properties that share their weights."""

    def __init__(self, n_properties: int) -> None:
        self._types = np.empty(0, np.int32)
        # positions of properties, the factor of the counts, and the targets rotated alike
        self._groups = [(np.arange(n_properties), np.empty((0, 0)), np.empty((0, n_properties)))]

    def add(self, counts: Array, values: Array, weights: Array, types: npt.NDArray[Any]) -> None:
        """Add rows; weights have one column, or one for each property."""
        if weights.shape[1] > 1 and len(self._groups) == 1:
            ((_, factor, targets),) = self._groups
            self._groups = [
                (np.array([n]), factor, targets[:, [n]]) for n in range(targets.shape[1])
            ]
        groups = []
        for columns, factor, targets in self._groups:
            roots = np.sqrt(weights[:, columns[:1]] if weights.shape[1] > 1 else weights)
            rows = np.concatenate([self._spread(factor, types), roots * counts])
            right = np.concatenate([targets, roots * values[:, columns]])
            rotation, triangle = np.linalg.qr(rows)
            groups.append((columns, triangle, rotation.T @ right))
        self._groups, self._types = groups, types

    def _spread(self, factor: Array, types: npt.NDArray[Any]) -> Array:
        """Return a factor with columns of zeros for new types."""
        wide = np.zeros((len(factor), len(types)))
        wide[:, np.searchsorted(types, self._types)] = factor
        return wide

    def solve(
        self,
        types: npt.NDArray[Any],
        fixed: npt.NDArray[np.bool_],
        weights: Array,
        alpha: float,
    ) -> Array:
        """Return the weights (n_types, n_properties), those that are fixed as they are given."""
        solution = weights.copy()
        free = np.flatnonzero(~fixed)
        if not len(free):
            return solution
        penalty = np.sqrt(alpha) * np.eye(len(free))
        for columns, factor, targets in self._groups:
            rows = self._spread(factor, types)
            right = targets - rows[:, fixed] @ weights[np.ix_(fixed, columns)]
            rows = np.concatenate([rows[:, free], penalty])
            right = np.concatenate([right, np.zeros((len(free), len(columns)))])
            solution[np.ix_(free, columns)] = np.linalg.lstsq(rows, right, rcond=None)[0]
        return solution
