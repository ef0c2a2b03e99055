"""Features whose products approximate a kernel."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from metatensor import _arrays
from metatensor.block import TensorBlock
from metatensor.labels import Labels, LabelsEntry
from metatensor.operations._blockwise import refuse_nested
from metatensor.sklearn import _alignment, _base, _counts, _kernels, _selection
from metatensor.sklearn._kernels import Custom, Kernel
from metatensor.sklearn._transformation import TensorTransformer
from metatensor.tensor import TensorMap

Positions = npt.NDArray[np.intp]
Array = npt.NDArray[np.float64]

_SELECTIONS = ("fps", "cur", "random")


class Nystroem(TensorTransformer):
    r"""Features whose products approximate a kernel, from its values with some of the samples.

    In each block, some samples are chosen as inducing points Z. With the matrix :math:`K_{ZZ}` of
    their kernels, the features of a sample x are

    .. math:: \phi(x) = k(x, Z) \, K_{ZZ}^{-1/2}

    so that :math:`\phi(x) \cdot \phi(x') \approx k(x, x')`, and exactly so for the inducing points.
    A linear model of them is a sparse kernel model.

    Gradients: by the derivative of the kernel,
    :math:`\partial \phi = (\partial k(x, Z) / \partial x \cdot \partial x) \, K_{ZZ}^{-1/2}`. They
    do not count in `fit`. A function as kernel has values only, and refuses gradients; gradients of
    gradients are refused.

    Blocks that are not invariant to rotations (with a component axis of more than one entry,
    "o3_lambda" other than 0 or "o3_sigma" other than 1) only have the linear kernel. It is a
    product with a matrix for all components alike, and whole samples are chosen: each gives as
    many features as it has components. The features rotate like the values; a fit to rotated
    samples gives other features with the same products.

    Plain 2-D arrays are taken as well, as in :class:`sklearn.kernel_approximation.Nystroem`.

    Parameters
    ----------
    kernel : {"rbf", "poly", "linear", "cosine"} or callable, default="rbf"
        :math:`\exp(-\gamma |x - z|^2)`, :math:`(\gamma \, x \cdot z + c_0)^d`, :math:`x \cdot z`,
        :math:`x \cdot z / |x| |z|`, or a function of two matrices of rows (n, n_features) and
        (m, n_features) that returns a matrix (n, m), in float64
    gamma : float, optional
        1/n_features by default; of "rbf" and "poly"
    coef0, degree : float, default=1.0 and 3.0
        :math:`c_0` and d; of "poly", where d is a whole number if what it is an exponent of is
        negative
    n_components : int or dict, default=100
        how many samples to choose in each block, all of them where there are fewer. Keys of a dict
        are those of X, as entries or tuples.
    selection : {"fps", "cur", "random"}, default="fps"
        how to choose them: each as far as possible from those before it, starting with the
        largest norm; those with the largest leverage scores, at most as many as the rank of the
        block; or at random. "fps" leaves out those that coincide with others.
    jitter : float, default=1e-12
        what is added to the diagonal of :math:`K_{ZZ}`, in units of its mean, since points that are
        close make it singular. Eigenvalues that are rounding errors are left out anyway.
    random_state : int, RandomState or None, default=None
        for selection="random": pass an int for the same choice every time

    Attributes
    ----------
    components_ : TensorMap or array (n_components, n_features)
        Z, the inducing points; a map has their samples
    component_indices_ : dict of LabelsEntry to array, or array (n_components,)
        their positions among the samples of each block in `fit`
    normalization_ : TensorMap or array (n_components, n_components)
        :math:`K_{ZZ}^{-1/2}`
    n_features_in_ : int
        number of properties of all blocks together
    feature_labels_in_ : dict of LabelsEntry to Labels
        the properties of each block, for labelled data
    feature_names_in_ : array of str
        names of the columns, for data frames

    See Also
    --------
    SparseKernelRidge : regression with these features
    sklearn.kernel_approximation.Nystroem : the transformer for arrays

    References
    ----------
    C. K. I. Williams and M. Seeger, Using the Nyström method to speed up kernel machines, NIPS 13,
    682 (2000)

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.sklearn import Nystroem
    >>> block = TensorBlock(
    ...     np.array([[0.0], [1.0], [3.0]]), Labels.range("atom", 3), [], Labels.range("n", 1)
    ... )
    >>> X = TensorMap(Labels.single(), [block])
    >>> step = Nystroem(gamma=0.5, n_components=2).fit(X)
    >>> step.components_.block().samples["atom"]
    array([2, 0], dtype=int32)
    >>> phi = step.transform(X).block().values
    >>> (phi @ phi.T).round(3)
    array([[1.   , 0.607, 0.011],
           [0.607, 0.384, 0.135],
           [0.011, 0.135, 1.   ]])

    """

    def __init__(
        self,
        kernel: Literal["rbf", "poly", "linear", "cosine"] | _kernels.Function = "rbf",
        *,
        gamma: float | None = None,
        coef0: float = 1.0,
        degree: float = 3.0,
        n_components: int | Mapping[Any, int] = 100,
        selection: Literal["fps", "cur", "random"] = "fps",
        jitter: float = 1e-12,
        random_state: Any = None,
    ) -> None:
        self.kernel = kernel
        self.gamma = gamma
        self.coef0 = coef0
        self.degree = degree
        self.n_components = n_components
        self.selection = selection
        self.jitter = jitter
        self.random_state = random_state

    # ---- fitting

    def fit(self, X: Any, y: Any = None) -> Nystroem:
        """Choose the inducing points.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
            without NaN; gradients do not count
        y : None
            not used

        Returns
        -------
        Nystroem
            self, fitted

        Raises
        ------
        ValueError
            if a parameter is not valid, or a block is not invariant and the kernel not linear

        """
        self._check_parameters()
        tensor = _base.to_tensor(self._labelled_features(X, reset=True))
        _base.check_finite(tensor, "X")
        random = check_random_state(self.random_state)
        counts = _counts.by_key(self.n_components, tensor._keys, "n_components")
        positions: dict[int, Positions] = {}
        for number in _selection.order_of(tensor._keys):  # random numbers are drawn in this order
            key, block = tensor._keys.entry(int(number)), tensor._blocks[number]
            self._check_invariant(key, block)
            positions[int(number)] = self._chosen(block, counts[number], random)
        chosen, roots = [], []
        for number, block in enumerate(tensor):
            values = _arrays.detach(_base.as_float(block._values))
            bare = TensorBlock._of(values, block._samples, block._components, block._properties)
            chosen.append(_alignment.take_samples(bare, positions[number]))
            roots.append(self._inverse_root(tensor._keys.entry(number), chosen[-1]))
        self._remember(tensor._keys, chosen, roots, [positions[n] for n in range(len(tensor))])
        return self

    def _check_parameters(self) -> None:
        _kernels.check_parameters(self.kernel, self.gamma, self.coef0, self.degree)
        if self.selection not in _SELECTIONS:
            raise ValueError(
                f"`selection` must be one of {list(_SELECTIONS)}, got {self.selection!r}"
            )
        counts = self.n_components
        for count in counts.values() if isinstance(counts, Mapping) else [counts]:
            if not isinstance(count, (int, np.integer)) or isinstance(count, bool) or count < 1:
                raise ValueError(
                    "`n_components` must be an integer from 1 on, or a dict of these by key, got "
                    f"{counts!r}"
                )
        _base.check_not_negative(self.jitter, "jitter", "a number")

    def _check_invariant(self, key: LabelsEntry, block: TensorBlock) -> None:
        if self.kernel != "linear" and not _base.is_invariant(key, block):
            raise ValueError(
                f"kernel={self.kernel!r} needs blocks that are invariant to rotations, the block "
                f"with key {key.print()} is not; use kernel='linear', or invariants of its "
                "components"
            )

    def _chosen(self, block: TensorBlock, n_components: int, random: Any) -> Positions:
        """Return the positions of the inducing points among the samples of a block."""
        n_samples = len(block._samples)
        size = min(n_components, n_samples)
        if size == 0:
            return np.arange(0)
        if self.selection == "random":
            order = _selection.order_of(block._samples)
            chosen: Positions = order[random.permutation(n_samples)[:size]]
            return chosen
        # whole samples: distances and leverages do not change when all components rotate
        values = _arrays.to_host(_base.to_float64(block._values))
        rows = values.reshape(n_samples, math.prod(values.shape[1:]))
        if self.selection == "cur":
            return _selection.leverage(rows, size)[0]
        first = _selection.first_largest(np.sum(rows**2, axis=1))
        return _selection.farthest_points(rows, size, first)[0]

    def _inverse_root(self, key: LabelsEntry, inducing: TensorBlock) -> Array:
        """Return the inverse square root of the kernel matrix of the inducing points."""
        rows = _kernels.rows_of(inducing._values)
        n_features = len(inducing._properties)
        matrix = _arrays.to_host(self._kernel_for(n_features).values(rows, rows))
        if not np.isfinite(matrix).all():
            raise ValueError(
                f"the kernel of X is not finite, for the block with key {key.print()}; scale X, or "
                "choose other parameters of the kernel"
            )
        squares, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
        there = squares > 10 * np.finfo(np.float64).eps * squares.max(initial=0.0)
        squares = squares[there] + self.jitter * np.trace(matrix) / max(len(matrix), 1)
        vectors = vectors[:, there]
        root: Array = (vectors / np.sqrt(squares)) @ vectors.T
        return root

    def _kernel_for(self, n_features: int) -> Kernel | Custom:
        return _kernels.of_parameters(self.kernel, self.gamma, self.coef0, self.degree, n_features)

    def _remember(
        self,
        keys: Labels,
        chosen: list[TensorBlock],
        roots: list[Array],
        positions: list[Positions],
    ) -> None:
        outputs = [Labels.range("component", len(root)) for root in roots]
        self._labels_out = dict(zip(keys, outputs, strict=True))
        self._components = TensorMap._of(keys, chosen)
        like = _base.to_float64(chosen[0]._values[:0, ...])
        self._roots = TensorMap._of(
            keys,
            [
                TensorBlock._of(_arrays.from_host(root, like), labels, (), labels)
                for root, labels in zip(roots, outputs, strict=True)
            ],
        )
        self._n_features_out = sum(map(len, outputs))
        self.components_ = self._components if self._is_labelled else chosen[0]._values
        self.normalization_ = self._roots if self._is_labelled else self._roots._blocks[0]._values
        self.component_indices_ = (
            dict(zip(keys, positions, strict=True)) if self._is_labelled else positions[0]
        )

    # ---- results

    def transform(self, X: Any) -> Any:
        """Compute the features.

        Parameters
        ----------
        X : TensorMap, Rows, or array (n_samples, n_features)
            with the keys, components and properties of the X in `fit`; blocks may be absent

        Returns
        -------
        TensorMap, Rows or array
            like X, with properties "component"; float32 stays float32, integers become float64

        Raises
        ------
        ValueError
            if keys, components or properties are not those in `fit`, or the kernel is a function
            and X has gradients
        NotImplementedError
            for gradients of gradients

        """
        check_is_fitted(self)
        return self._contracted(X, self._roots)

    def _contracted(self, X: Any, matrices: TensorMap | None) -> Any:
        """Return k(x, Z) times the matrix with the same key, or for None in double precision."""
        tensor = _base.to_tensor(self._labelled_features(X))
        blocks = []
        for key, block in tensor.items():
            number = self._components._keys.position(key)
            assert number is not None  # checked with the properties
            inducing = self._components._blocks[number]
            if block._components != inducing._components:
                raise ValueError(
                    "X must have the components it had in `fit`, "
                    f"{_base.components_text(inducing)}, in the block with key {key.print()}, got "
                    f"{_base.components_text(block)}"
                )
            kernel = self._kernel_for(len(block._properties))
            if matrices is None:
                mapped = _KernelMap(kernel, inducing, None, self._labels_out[key])
            else:
                matrix = matrices._blocks[number]
                mapped = _KernelMap(kernel, inducing, matrix._values, matrix._properties)
            blocks.append(mapped.apply(block))
        return self._in_container(X, tensor, blocks)

    def _column_names(self, input_features: Any) -> npt.NDArray[np.object_]:
        """Return "nystroem0", "nystroem1"..."""
        names: npt.NDArray[np.object_] = ClassNamePrefixFeaturesOutMixin.get_feature_names_out(
            self, input_features
        )
        return names


class _KernelMap:
    """k(x, Z) times a matrix, if there is one, and its derivative, in double precision.

    The kernels of samples that are close differ in their last digits, which the matrix magnifies.
    """

    def __init__(
        self,
        kernel: Kernel | Custom,
        inducing: TensorBlock,
        matrix: _arrays.Array | None,
        properties: Labels,
    ) -> None:
        self._kernel = kernel
        self._inducing = inducing._values
        self._matrix = matrix
        self._properties = properties

    def apply(self, block: TensorBlock) -> TensorBlock:
        refuse_nested(block, "Nystroem")
        if block._gradients and isinstance(self._kernel, Custom):
            raise ValueError(
                f"a callable `kernel` has no derivatives, got X with gradients "
                f"{block.gradients_list()}; use one of {list(_kernels.KERNELS)}, or "
                "`remove_gradients(X)`"
            )
        z = _kernels.rows_of(_kernels.moved(self._inducing, block._values))
        matrix = self._matrix
        if matrix is not None:
            matrix = _kernels.moved(matrix, block._values)
        gradients = {}
        for name, gradient in block._gradients.items():
            along = self._derivative(block, gradient, z)
            gradients[name] = self._mapped(gradient, along, matrix)
        mapped = self._mapped(block, lambda rows, _: self._kernel.values(rows, z), matrix)
        return TensorBlock._of(
            mapped._values, block._samples, block._components, self._properties, gradients
        )

    def _derivative(
        self, block: TensorBlock, gradient: TensorBlock, z: _arrays.Array
    ) -> Callable[[_arrays.Array, slice], _arrays.Array]:
        """Return the function that gives the derivative of k(x, z) along some gradient rows."""
        assert isinstance(self._kernel, Kernel)
        kernel = self._kernel
        if kernel.is_linear:
            return lambda rows, _: kernel.values(rows, z)
        x = _arrays.reshape(block._values, (len(block._samples), z.shape[1]))
        samples = gradient._samples._table[:, 0]

        def along(rows: _arrays.Array, chunk: slice) -> _arrays.Array:
            needed, owners = np.unique(samples[chunk].astype(np.intp), return_inverse=True)
            owners = np.repeat(owners, rows.shape[0] // max(len(owners), 1))
            return kernel.first(_kernels.rows_of(_arrays.take(x, needed)), z, rows, owners)

        return along

    def _mapped(
        self,
        block: TensorBlock,
        function: Callable[[_arrays.Array, slice], _arrays.Array],
        matrix: _arrays.Array | None,
    ) -> TensorBlock:
        """Apply a function to rows of properties, a bounded number at once."""
        values = _base.as_float(block._values)
        xp = _arrays.namespace(values)
        dtype = xp.float64 if matrix is None else values.dtype
        size = len(self._properties)
        n_columns = self._inducing.shape[0] + size + len(block._properties)
        empty = _arrays.full((0, *values.shape[1:-1], size), 0, values)
        parts = [xp.astype(empty, dtype, copy=False)]
        for chunk in _base.chunks(len(values), 8 * n_columns * math.prod(values.shape[1:-1])):
            part = values[chunk, ...]
            result = function(_kernels.rows_of(part), chunk)
            result = result if matrix is None else result @ matrix
            result = _arrays.reshape(result, (*part.shape[:-1], size))
            parts.append(xp.astype(result, dtype, copy=False))
        joined = parts[1] if len(parts) == 2 else xp.concat(parts, axis=0)
        return TensorBlock._of(joined, block._samples, block._components, self._properties)
