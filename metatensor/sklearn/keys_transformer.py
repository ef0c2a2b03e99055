"""Different transformers for different keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.utils import Bunch
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.validation import check_is_fitted

from metatensor import _checks
from metatensor.labels import Labels, LabelsEntry
from metatensor.sklearn import _base
from metatensor.sklearn._delegation import require, require_named
from metatensor.sklearn._transformation import NamedLabelTransformer
from metatensor.tensor import TensorMap

if TYPE_CHECKING:
    from typing import Self

_REMAINDER = "remainder"


class KeysTransformer(NamedLabelTransformer, _BaseComposition):
    """Apply different transformers to the blocks with different keys.

    The result has the blocks that all transformers give, in the order of the transformers, with
    those of the remainder last; the transformers must give the same key names, sample names and
    gradients, and no key twice. What happens to gradients, and to blocks with components, is up to
    the transformers: they can be told apart by their "o3_lambda", for instance.

    Which keys go to which transformer is learnt in `fit`; blocks may be absent later.

    Parameters
    ----------
    transformers : list of (str, transformer, selection)
        name, transformer or "drop" or "passthrough", and the keys that it is for: a dict, Labels or
        LabelsEntry as for :meth:`metatensor.TensorMap.blocks`, a callable that takes a LabelsEntry
        and tells whether it is meant, or a list of these. Positions are refused, since blocks come
        in any order. A block can go to several transformers. Parameters of a transformer can be set
        by its name, as in ``set_params(scale__with_mean=False)``.
    remainder : {"drop", "passthrough"} or transformer, default="drop"
        what to do with blocks that are not selected

    Attributes
    ----------
    transformers_ : list of (str, transformer, Labels)
        the fitted transformers, with the keys they were fitted on, those with none left out; the
        last one is for the remainder if there is any
    named_transformers_ : Bunch
        the fitted transformers by name
    n_features_in_ : int
        number of properties of all blocks together
    feature_labels_in_ : dict of LabelsEntry to Labels
        the properties of each block

    See Also
    --------
    BlockwiseTransformer : the same transformer for all blocks, fitted to each
    sklearn.compose.ColumnTransformer : different transformers for columns of arrays

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.sklearn import KeysTransformer, Normalizer, StandardScaler
    >>> samples, n = Labels.range("system", 2), Labels.range("n", 1)
    >>> values = np.array([[[0.0]], [[4.0]]])
    >>> scalar = TensorBlock(values, samples, [Labels.range("m", 1)], n)
    >>> vector = TensorBlock(np.ones((2, 3, 1)), samples, [Labels.range("m", 3)], n)
    >>> X = TensorMap(Labels(["o3_lambda"], np.array([[0], [1]])), [scalar, vector])
    >>> step = KeysTransformer(
    ...     [
    ...         ("scalars", StandardScaler(), {"o3_lambda": 0}),
    ...         ("tensors", Normalizer(), lambda key: key["o3_lambda"] > 0),
    ...     ]
    ... )
    >>> step.fit_transform(X)[0].values.ravel()
    array([-1.,  1.])

    """

    def __init__(
        self, transformers: Sequence[tuple[str, Any, Any]], *, remainder: Any = "drop"
    ) -> None:
        self.transformers = transformers
        self.remainder = remainder

    # ---- parameters

    @property
    def _transformers(self) -> Any:
        """Names and transformers, for `get_params` and `set_params`."""
        try:
            return [(name, transformer) for name, transformer, _ in self.transformers]
        except (TypeError, ValueError):
            return self.transformers

    @_transformers.setter
    def _transformers(self, value: list[tuple[str, Any]]) -> None:
        self.transformers = [
            (name, transformer, selection)
            for (name, transformer), (_, _, selection) in zip(value, self.transformers, strict=True)
        ]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, and those of the transformers by their names.

        Parameters
        ----------
        deep : bool, default=True
            whether to return those of the transformers

        Returns
        -------
        dict

        """
        parameters: dict[str, Any] = self._get_params("_transformers", deep=deep)
        return parameters

    def set_params(self, **params: Any) -> KeysTransformer:
        """Set parameters, transformers by their names, or parameters of them.

        Parameters
        ----------
        **params
            ``name=transformer`` or ``name__parameter=value``

        Returns
        -------
        KeysTransformer
            self

        """
        self._set_params("_transformers", **params)
        return self

    def _check_transformers(self) -> None:
        require_named(self.transformers, ("name", "transformer", "selection"), "`transformers`")
        self._validate_names([name for name, _, _ in self.transformers])
        steps = [(name, transformer) for name, transformer, _ in self.transformers]
        for name, transformer in [*steps, (_REMAINDER, self.remainder)]:
            if isinstance(transformer, str) and transformer in ("drop", "passthrough"):
                continue
            others = ", or 'drop' or 'passthrough'"
            require(transformer, ("fit", "transform"), f"the transformer {name!r}", others)

    # ---- transforming

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit each transformer to the blocks that it is for.

        Parameters
        ----------
        X : TensorMap or Rows
        y : TensorMap, Rows or array, optional
            passed to all transformers

        Returns
        -------
        KeysTransformer
            self, fitted

        Raises
        ------
        TypeError
            if X is an array, or a transformer is none
        ValueError
            if the transformers give blocks that can not be in one map

        """
        self.fit_transform(X, y)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Fit, and transform the same data, in one go.

        Parameters
        ----------
        X : TensorMap or Rows
        y : TensorMap, Rows or array, optional
            passed to all transformers

        Returns
        -------
        TensorMap or Rows
            like X

        """
        self._check_transformers()
        tensor = self._tensor(X)
        self._remember_features(tensor)
        self.transformers_ = []
        parts: list[tuple[str, TensorMap]] = []
        for name, transformer, positions in self._selected(tensor):
            if not len(positions):
                continue
            part = _part(tensor, positions)
            if not isinstance(transformer, str):
                transformer = clone(transformer)
                given = _base.like_container(X, part)
                if hasattr(transformer, "fit_transform"):
                    result = transformer.fit_transform(given, y)
                else:
                    result = transformer.fit(given, y).transform(given)
                parts.append((name, self._labelled_result(name, result)))
            elif transformer == "passthrough":
                parts.append((name, part))
            self.transformers_.append((name, transformer, part._keys))
        joined = self._joined(parts, tensor)
        self._features_out = {key: block._properties for key, block in joined.items()}
        return _base.like_container(X, joined)

    @property
    def named_transformers_(self) -> Bunch:
        """The fitted transformers by name."""
        check_is_fitted(self)
        return Bunch(**{name: transformer for name, transformer, _ in self.transformers_})

    def _selected(self, tensor: TensorMap) -> Iterator[tuple[str, Any, npt.NDArray[np.intp]]]:
        """Yield each transformer with the positions of its blocks."""
        rest = np.ones(len(tensor), dtype=bool)
        for name, transformer, selection in self.transformers:
            several = selection if isinstance(selection, list) else [selection]
            mask = np.zeros(len(tensor), dtype=bool)
            for part in several:
                mask[_positions(tensor, part)] = True
            rest &= ~mask
            yield name, transformer, np.flatnonzero(mask)
        yield _REMAINDER, self.remainder, np.flatnonzero(rest)

    def transform(self, X: Any) -> Any:
        """Transform the blocks of each transformer.

        Parameters
        ----------
        X : TensorMap or Rows
            with keys of the X in `fit`; blocks may be absent

        Returns
        -------
        TensorMap or Rows
            like X

        Raises
        ------
        ValueError
            if X has keys that were not there in `fit`

        """
        check_is_fitted(self)
        tensor = self._tensor(X)
        for key in tensor._keys:
            if key not in self.feature_labels_in_:
                raise ValueError(
                    f"X has a block with key {key.print()}, but KeysTransformer was fitted on "
                    f"blocks with the keys {_base.entries_text(self._known_keys())}"
                )
        parts = []
        for name, transformer, keys in self.transformers_:
            positions = tensor._keys._index.find_many(keys._table)
            positions = positions[positions >= 0]
            if not len(positions) or (isinstance(transformer, str) and transformer == "drop"):
                continue
            part = _part(tensor, positions)
            if not isinstance(transformer, str):
                result = transformer.transform(_base.like_container(X, part))
                part = self._labelled_result(name, result)
            parts.append((name, part))
        return _base.like_container(X, self._joined(parts, tensor))

    def _known_keys(self) -> Labels:
        keys = [*self.feature_labels_in_]
        return Labels(keys[0].names, np.array([tuple(key) for key in keys], dtype=np.int32))

    def _labelled_result(self, name: str, result: Any) -> TensorMap:
        if not _base.is_tensor(result):
            raise TypeError(
                f"the transformer {name!r} must give labelled data, got {_checks.kind(result)}; "
                "wrap transformers for arrays in `BlockwiseTransformer`"
            )
        return _base.to_tensor(result)

    def _joined(self, parts: list[tuple[str, TensorMap]], tensor: TensorMap) -> TensorMap:
        """Return all blocks in one map, with the info of X."""
        if not parts:
            raise ValueError(
                f"no block is left of X with the keys {_base.entries_text(tensor._keys)}: all are "
                "dropped, or none is selected"
            )
        names = parts[0][1]._keys.names
        owners: dict[LabelsEntry, str] = {}
        for name, part in parts:
            if part._keys.names != names:
                raise ValueError(
                    f"all transformers must give the same key names; {parts[0][0]!r} gives "
                    f"{names}, {name!r} {part._keys.names}"
                )
            for key in part._keys:
                if key in owners:
                    raise ValueError(
                        f"the transformers {owners[key]!r} and {name!r} both give a block with key "
                        f"{key.print()}; select other keys"
                    )
                owners[key] = name
        keys = Labels(names, np.concatenate([part._keys._table for _, part in parts]))
        blocks = [block for _, part in parts for block in part]
        joined = TensorMap._of(keys, blocks, tensor._info)
        joined._check_blocks()
        return joined

    def _output_labels(self) -> dict[LabelsEntry, Labels]:
        return self._features_out


def _part(tensor: TensorMap, positions: npt.NDArray[np.intp]) -> TensorMap:
    """Return some of the blocks."""
    keys = tensor._keys._like(np.ascontiguousarray(tensor._keys._table[positions]))
    return TensorMap._of(keys, [tensor._blocks[position] for position in positions], tensor._info)


def _positions(tensor: TensorMap, selection: Any) -> Sequence[int]:
    """Return the positions of the blocks that a selection matches."""
    if callable(selection):
        return [position for position, key in enumerate(tensor._keys) if selection(key)]
    if not isinstance(selection, (dict, Labels, LabelsEntry)):
        raise TypeError(
            "`transformers` must select keys with a dict, Labels, LabelsEntry, a callable, or a "
            f"list of these, got {_checks.kind(selection)}"
        )
    return tensor._matches(selection)
