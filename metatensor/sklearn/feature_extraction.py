"""Features of systems from blocks of atoms: moving keys, and reducing samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from sklearn.utils.validation import check_is_fitted

from metatensor import _arrays, _checks
from metatensor.block import TensorBlock
from metatensor.labels import Labels, LabelsEntry
from metatensor.operations.reductions import mean_over_samples, sum_over_samples
from metatensor.sklearn import _alignment, _base
from metatensor.sklearn._transformation import NamedLabelTransformer
from metatensor.sklearn.rows import Rows
from metatensor.tensor import TensorMap

if TYPE_CHECKING:
    from typing import Self


class _MovedKeys(NamedLabelTransformer):
    """What moves dimensions of the keys, and learns the keys and properties of the result."""

    properties_: dict[LabelsEntry, Labels]

    #: the method of maps that does it
    _move: Callable[[TensorMap, Sequence[str]], TensorMap]

    def __init__(
        self,
        keys: str | Sequence[str] = "center_type",
        *,
        unknown: Literal["error", "ignore"] = "error",
    ) -> None:
        self.keys = keys
        self.unknown = unknown

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the keys and properties of the result.

        Parameters
        ----------
        X : TensorMap or Rows
        y : None
            not used

        Returns
        -------
        self
            fitted

        """
        self._fit_moved(X)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Fit, and transform the same data, in one go.

        Parameters
        ----------
        X : TensorMap or Rows
        y : None
            not used

        Returns
        -------
        TensorMap or Rows
            like X

        """
        return _base.like_container(X, self._fit_moved(X))

    def _fit_moved(self, X: Any) -> TensorMap:
        _base.check_choice(self.unknown, "unknown", ("error", "ignore"))
        tensor = self._tensor(X)
        self._remember_features(tensor)
        moved = self._moved(tensor)
        self._result_keys = moved._keys
        self._components = [block._components for block in moved]
        self.properties_ = {key: block._properties for key, block in moved.items()}
        return moved

    def _moved(self, tensor: TensorMap) -> TensorMap:
        return self._move(tensor, _checks.names_tuple(self.keys, "keys"))

    def transform(self, X: Any) -> Any:
        """Move the keys.

        Parameters
        ----------
        X : TensorMap or Rows
            blocks and properties may be absent

        Returns
        -------
        TensorMap or Rows
            like X, always with the same keys and properties; a block of the result for which X has
            no block at all has no samples

        Raises
        ------
        ValueError
            if X has keys or properties that were not there in `fit`, unless they are ignored

        """
        check_is_fitted(self)
        tensor = self._tensor(X)
        names = next(iter(self.feature_labels_in_)).names
        if tensor._keys.names != names:
            raise ValueError(
                f"X has the key names {tensor._keys.names}, but {type(self).__name__} was fitted "
                f"on {names}"
            )
        moved = self._moved(tensor)
        if {key: block._properties for key, block in moved.items()} != self.properties_:
            if self.unknown == "error":
                self._refuse_unknown(moved)
            moved = self._aligned(moved)
        return _base.like_container(X, moved)

    def _aligned(self, moved: TensorMap) -> TensorMap:
        """Return the blocks of the result, each with all its properties and no other."""
        blocks = []
        for (key, properties), components in zip(
            self.properties_.items(), self._components, strict=True
        ):
            position = moved._keys.position(key)
            if position is None:
                block = _without_samples(moved._blocks[0], components, properties)
            else:
                block = _alignment.take_properties(moved._blocks[position], properties)
            blocks.append(block)
        return TensorMap._of(self._result_keys, blocks, moved._info)

    def _refuse_unknown(self, moved: TensorMap) -> None:
        for key, block in moved.items():
            known = self.properties_.get(key)
            if known is None:
                raise ValueError(
                    "X has keys that were not there in `fit`, and give a block with key "
                    f"{key.print()}; fit to data with all keys, or use unknown='ignore'"
                )
            extra = _alignment.find(block._properties, known) < 0
            if extra.any():
                raise ValueError(
                    "X has keys or properties that were not there in `fit`: "
                    f"{_base.entries_text(block._properties, extra)}; fit to data with all of "
                    "them, or use unknown='ignore'"
                )

    def _output_labels(self) -> dict[LabelsEntry, Labels]:
        return self.properties_


def _without_samples(
    like: TensorBlock, components: tuple[Labels, ...], properties: Labels
) -> TensorBlock:
    """Return a block without samples, whose gradients have the names of another block's."""
    gradients = {}
    for name, gradient in like._gradients.items():
        own = gradient._components[: len(gradient._components) - len(like._components)]
        gradients[name] = _without_samples(gradient, own + components, properties)
    shape = (0, *map(len, components), len(properties))
    samples = Labels.empty(like._samples._names)
    values = _arrays.full(shape, 0, like._values)
    return TensorBlock._of(values, samples, components, properties, gradients)


class KeysToProperties(_MovedKeys):
    """Move dimensions of the keys to the properties, always to the same ones.

    This is :meth:`metatensor.TensorMap.keys_to_properties`, with the keys and properties of the
    result learnt in `fit`: what a block, or a property, that was there in `fit` would have given is
    filled with zeros when it is absent later (a system without atoms of some type). That makes it
    the first step of a pipeline for systems of changing composition.

    Gradients move along; what is filled in has gradients of zero.

    Parameters
    ----------
    keys : str or sequence of str, default="center_type"
        names of the dimensions to move, which become the first property dimensions
    unknown : {"error", "ignore"}, default="error"
        what to do with keys and properties that were not there in `fit`: refuse them, or leave them
        out. Samples stay, with zeros for all known properties.

    Attributes
    ----------
    properties_ : dict of LabelsEntry to Labels
        the properties of each block of the result
    n_features_in_ : int
        number of properties of all blocks together
    feature_labels_in_ : dict of LabelsEntry to Labels
        the properties of each block in `fit`

    See Also
    --------
    SumOverSamples : the usual next step
    KeysToSamples : the same weights for all values that move

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.sklearn import KeysToProperties
    >>> def block(atoms):
    ...     samples = Labels(["system", "atom"], np.array(atoms))
    ...     return TensorBlock(np.ones((len(atoms), 1)), samples, [], Labels.range("n", 1))
    >>> types = Labels(["center_type"], np.array([[1], [8]]))
    >>> water = TensorMap(types, [block([[0, 1], [0, 2]]), block([[0, 0]])])
    >>> step = KeysToProperties("center_type").fit(water)
    >>> hydrogen = TensorMap(Labels(["center_type"], np.array([[1]])), [block([[1, 0], [1, 1]])])
    >>> step.transform(hydrogen).block().properties
    Labels
        center_type  n
             1       0
             8       0

    """

    _move = staticmethod(TensorMap.keys_to_properties)


class KeysToSamples(_MovedKeys):
    """Move dimensions of the keys to the samples: what differed in them alone becomes one block.

    This is :meth:`metatensor.TensorMap.keys_to_samples`, with the keys and properties of the result
    learnt in `fit`: a property that was there in `fit` is filled with zeros when it is absent
    later. Models fitted to such blocks have the same weights for all the values that moved, such
    as types of atoms; values that were not there in `fit` are samples like all others.

    Gradients move along; what is filled in has gradients of zero.

    Parameters
    ----------
    keys : str or sequence of str, default="center_type"
        names of the dimensions to move, which become the last sample dimensions
    unknown : {"error", "ignore"}, default="error"
        what to do with blocks of the result and properties that were not there in `fit`: refuse
        them, or leave them out

    Attributes
    ----------
    properties_ : dict of LabelsEntry to Labels
        the properties of each block of the result
    n_features_in_ : int
        number of properties of all blocks together
    feature_labels_in_ : dict of LabelsEntry to Labels
        the properties of each block in `fit`

    See Also
    --------
    KeysToProperties : weights of their own for all values that move

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.sklearn import KeysToSamples
    >>> def block(atoms):
    ...     samples = Labels(["system", "atom"], np.array(atoms))
    ...     return TensorBlock(np.ones((len(atoms), 1)), samples, [], Labels.range("n", 1))
    >>> types = Labels(["center_type"], np.array([[1], [8]]))
    >>> water = TensorMap(types, [block([[0, 1], [0, 2]]), block([[0, 0]])])
    >>> KeysToSamples("center_type").fit_transform(water).block().samples
    Labels
        system  atom  center_type
          0      0         8
          0      1         1
          0      2         1

    """

    _move = staticmethod(TensorMap.keys_to_samples)


class _ReducedSamples(NamedLabelTransformer):
    """What makes one sample of those that agree in all dimensions but some."""

    #: the operation that does it
    _reduce: Callable[[TensorMap, str | Sequence[str]], TensorMap]

    def __init__(self, dimensions: str | Sequence[str] = "atom") -> None:
        self.dimensions = dimensions

    def fit(self, X: Any, y: Any = None) -> Self:
        """Check X; there is nothing to learn.

        Parameters
        ----------
        X : TensorMap or Rows
        y : None
            not used

        Returns
        -------
        self

        Raises
        ------
        ValueError
            if X lacks one of the dimensions

        """
        tensor = self._tensor(X)
        self._remember_features(tensor)
        names = _checks.names_tuple(self.dimensions, "dimensions")
        if not set(names) <= set(tensor.sample_names):
            raise ValueError(
                f"`dimensions` must be sample names of X, {tensor.sample_names}, got {list(names)}"
            )
        return self

    def transform(self, X: Any) -> Any:
        """Reduce the samples.

        Parameters
        ----------
        X : TensorMap or Rows

        Returns
        -------
        TensorMap or Rows
            like X

        """
        reduced = self._reduce(self._tensor(X), self.dimensions)
        if isinstance(X, Rows) and set(X.by) == set(reduced.sample_names):
            blocks = [_alignment.spread_samples(block, X.rows) for block in reduced]
            reduced = TensorMap._of(reduced._keys, blocks, reduced._info)
        return _base.like_container(X, reduced)

    def _output_labels(self) -> dict[LabelsEntry, Labels]:
        return self.feature_labels_in_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags


class SumOverSamples(_ReducedSamples):
    """Sum the samples that agree in all dimensions but some, usually the atoms of each system.

    This is :func:`metatensor.operations.sum_over_samples`. Gradients are summed likewise: rows
    whose samples fall together, and which agree in all their other dimensions, are added.

    If the samples of the result are the rows of Rows, every row gets one in each block: zero where
    there was nothing to sum (a system without atoms of some type).

    Parameters
    ----------
    dimensions : str or sequence of str, default="atom"
        names of the sample dimensions to remove

    Attributes
    ----------
    n_features_in_ : int
        number of properties of all blocks together
    feature_labels_in_ : dict of LabelsEntry to Labels
        the properties of each block

    See Also
    --------
    KeysToProperties : the usual step before
    MeanOverSamples : for what does not grow with the system

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.sklearn import SumOverSamples
    >>> atoms = Labels(["system", "atom"], np.array([[0, 0], [0, 1], [1, 0]]))
    >>> block = TensorBlock(np.array([[1.0], [2.0], [4.0]]), atoms, [], Labels.range("n", 1))
    >>> X = TensorMap(Labels.single(), [block])
    >>> SumOverSamples("atom").fit_transform(X).block().values.ravel()
    array([3., 4.])

    """

    _reduce = staticmethod(sum_over_samples)


class MeanOverSamples(_ReducedSamples):
    """Average the samples that agree in all dimensions but some, usually the atoms of a system.

    This is :func:`metatensor.operations.mean_over_samples`. Gradients are summed, as by
    :class:`SumOverSamples`, and divided by the number of all the samples that fall together,
    whether they have a gradient row or not: they stay the derivatives of the averages.

    After :class:`KeysToProperties` that is the average over all atoms of a system, before it over
    those of each type.

    If the samples of the result are the rows of Rows, every row gets one in each block: zero where
    there was nothing to average (a system without atoms of some type).

    Parameters
    ----------
    dimensions : str or sequence of str, default="atom"
        names of the sample dimensions to remove

    Attributes
    ----------
    n_features_in_ : int
        number of properties of all blocks together
    feature_labels_in_ : dict of LabelsEntry to Labels
        the properties of each block

    See Also
    --------
    KeysToProperties : the usual step before
    SumOverSamples : for what grows with the system, such as energies

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.sklearn import MeanOverSamples
    >>> atoms = Labels(["system", "atom"], np.array([[0, 0], [0, 1], [1, 0]]))
    >>> block = TensorBlock(np.array([[1.0], [2.0], [4.0]]), atoms, [], Labels.range("n", 1))
    >>> X = TensorMap(Labels.single(), [block])
    >>> MeanOverSamples("atom").fit_transform(X).block().values.ravel()
    array([1.5, 4. ])

    """

    _reduce = staticmethod(mean_over_samples)
