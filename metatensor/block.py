"""TensorBlock: one dense array with Labels for every axis, and its gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from metatensor import _array_conversion, _arrays, _checks, _display
from metatensor._operators import Operators
from metatensor.labels import Labels


class TensorBlock(Operators):
    """One dense array of values with Labels for every axis, and gradients next to them.

    The first axis holds samples, the last one properties, and those between are components. A
    gradient is a block too: its samples start with "sample", the row in the samples of its parent;
    its components are its own followed by those of the parent; its properties are those of the
    parent. A row without gradient samples has a gradient of zero.

    Parameters
    ----------
    values : array, (n_samples, ..., n_properties)
        numbers of any array library, kept as they are
    samples : Labels
        what the rows are
    components : iterable of Labels
        what the entries of the axes in between are, one dimension each
    properties : Labels
        what the entries of the last axis are

    Raises
    ------
    ValueError
        if `values` is no array
    TypeError
        if the rest are not Labels
    MetatensorError
        if the axes of the values do not fit the Labels

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock
    >>> block = TensorBlock(
    ...     values=np.array([[1.0, 2.0], [3.0, 4.0]]),
    ...     samples=Labels.range("system", 2),
    ...     components=[],
    ...     properties=Labels.range("n", 2),
    ... )
    >>> block
    TensorBlock with shape (2, 2)
        samples: [system]
        properties: [n]

    """

    __slots__ = (
        "__weakref__",
        "_components",
        "_frozen",
        "_gradients",
        "_parameter",
        "_properties",
        "_samples",
        "_values",
    )
    __module__ = "metatensor"

    _values: _arrays.Array
    _samples: Labels
    _components: tuple[Labels, ...]
    _properties: Labels
    _gradients: dict[str, TensorBlock]
    _frozen: bool
    _parameter: str | None

    def __init__(
        self,
        values: _arrays.Array,
        samples: Labels,
        components: Iterable[Labels],
        properties: Labels,
    ) -> None:
        values = _arrays.as_values(values)
        if not isinstance(samples, Labels):
            _checks.require_type(samples, Labels, "samples")
        if not isinstance(properties, Labels):
            _checks.require_type(properties, Labels, "properties")
        components = tuple(components)
        shape: tuple[int, ...] = (len(samples), len(properties))
        if components:
            for labels in components:
                _checks.require_type(labels, Labels, "components")
            _checks.check_components(components)
            shape = (len(samples), *map(len, components), len(properties))
        if tuple(values.shape) != shape:
            _checks.check_shape(values.shape, samples, components, properties)
        self._values = values
        self._samples = samples
        self._components = components
        self._properties = properties
        self._gradients = {}
        self._frozen = False
        self._parameter = None

    @classmethod
    def _of(
        cls,
        values: _arrays.Array,
        samples: Labels,
        components: tuple[Labels, ...],
        properties: Labels,
        gradients: dict[str, TensorBlock] | None = None,
        parameter: str | None = None,
        frozen: bool = False,
    ) -> TensorBlock:
        """Make a block of parts that fit together; nothing is checked."""
        block = cls.__new__(cls)
        block._values = values
        block._samples = samples
        block._components = components
        block._properties = properties
        block._gradients = {} if gradients is None else gradients
        block._frozen = frozen
        block._parameter = parameter
        return block

    def _freeze(self, parameter: str | None = None) -> TensorBlock:
        """Return the shallow copy that a map, or a parent block, keeps for itself."""
        if self._frozen and self._parameter == parameter:
            return self
        if self._gradients:
            return self._map(None, parameter=parameter, frozen=True)
        return TensorBlock._of(
            self._values, self._samples, self._components, self._properties, {}, parameter, True
        )

    def _seal(self, parameter: str | None = None, frozen: bool = True) -> TensorBlock:
        """Freeze this block in place, which is new and nobody else has, and name its gradients."""
        self._frozen = frozen
        self._parameter = parameter
        if self._gradients:
            prefix = "" if parameter is None else f"{parameter}/"
            for name, gradient in self._gradients.items():
                if not gradient._frozen:
                    gradient._seal(prefix + name)
                elif gradient._parameter != prefix + name:  # that of another block
                    self._gradients[name] = gradient._freeze(prefix + name)
        return self

    # ---- access

    @property
    def values(self) -> _arrays.Array:
        """The array of this block, (n_samples, ..., n_properties), always the same object."""
        return self._values

    @property
    def samples(self) -> Labels:
        """What the rows are."""
        return self._samples

    @property
    def components(self) -> list[Labels]:
        """What the axes between samples and properties are."""
        return list(self._components)

    @property
    def properties(self) -> Labels:
        """What the entries of the last axis are."""
        return self._properties

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the values."""
        shape: tuple[int, ...] = self._values.shape
        return shape

    @property
    def dtype(self) -> Any:
        """Type of the values, in their library."""
        return self._values.dtype

    @property
    def device(self) -> Any:
        """Where the values live: "cpu" for numpy, what the library says otherwise."""
        return _arrays.device(self._values)

    @property
    def is_view(self) -> bool:
        """Whether this block is inside a map or another block; such a block takes no gradients."""
        return self._frozen

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self._samples)

    # ---- gradients

    def gradients_list(self) -> list[str]:
        """Return the names of the gradients, in the order they were added."""
        return list(self._gradients)

    def has_gradient(self, parameter: str) -> bool:
        """Tell whether there is a gradient with respect to ``parameter``."""
        return isinstance(parameter, str) and parameter in self._gradients

    def gradient(self, parameter: str) -> TensorBlock:
        """Return the gradient of the values with respect to ``parameter``.

        Parameters
        ----------
        parameter : str
            name of the gradient

        Returns
        -------
        TensorBlock

        Raises
        ------
        MetatensorError
            if there is no such gradient

        """
        try:
            return self._gradients[parameter]
        except (KeyError, TypeError):
            _checks.invalid(
                f"there is no gradient with respect to {parameter!r} in this block, "
                f"which has {self.gradients_list()}"
            )

    def gradients(self) -> Iterator[tuple[str, TensorBlock]]:
        """Iterate over the names of the gradients and the gradients."""
        yield from self._gradients.items()

    def add_gradient(self, parameter: str, gradient: TensorBlock) -> None:
        """Add a gradient of the values with respect to ``parameter``.

        The block given stays usable; this one keeps a shallow copy, with the same arrays. Gradients
        of the gradient must be added to it before.

        Parameters
        ----------
        parameter : str
            what the derivative is with respect to, such as "positions" or "strain"
        gradient : TensorBlock
            whose sample names start with "sample", the row in the samples of this block, whose
            components end with the components of this block, and with the properties of this block

        Raises
        ------
        MetatensorError
            if the gradient does not fit this block
        ValueError
            if this block is inside a map or another block: copy it first

        Examples
        --------
        >>> import numpy as np
        >>> samples, properties = Labels.range("system", 2), Labels.range("energy", 1)
        >>> block = TensorBlock(np.array([[1.0], [2.0]]), samples, [], properties)
        >>> block.add_gradient(
        ...     "volume",
        ...     TensorBlock(np.array([[-0.5]]), Labels("sample", np.array([[1]])), [], properties),
        ... )
        >>> block.gradient("volume")
        TensorBlock gradient for 'volume', with shape (1, 1)
            samples: [sample]
            properties: [energy]

        """
        if self._frozen:
            raise ValueError(
                "gradients can not be added to a block that is inside a TensorMap or a block; "
                "use `block.copy()` first, and make a new TensorMap"
            )
        if not isinstance(parameter, str):
            raise TypeError(f"`parameter` must be a str, got {_checks.kind(parameter)}")
        _checks.require_type(gradient, TensorBlock, "gradient")
        if difference := _arrays.difference(self._values, gradient._values):
            _checks.refuse_arrays("a gradient", "its block", *difference)
        _checks.check_gradient(self, parameter, gradient)
        self._gradients[parameter] = gradient._freeze(parameter)

    # ---- copying and moving

    def copy(self, deep: bool = True) -> TensorBlock:
        """Return a copy, to which gradients can be added.

        Parameters
        ----------
        deep : bool, default=True
            copy the values, and those of the gradients, into new C-contiguous arrays; otherwise the
            copy has the same arrays. Labels are always shared.

        Returns
        -------
        TensorBlock

        """
        return self._map(_arrays.copy if deep else None)

    def _map(
        self,
        function: Callable[[_arrays.Array], _arrays.Array] | None,
        labels: Callable[[Labels], Labels] | None = None,
        parameter: str | None = None,
        frozen: bool = False,
    ) -> TensorBlock:
        """Apply functions to the arrays and Labels of this block and of all its gradients."""
        values = self._values if function is None else function(self._values)
        samples, components, properties = self._samples, self._components, self._properties
        if labels is not None:
            samples, properties = labels(samples), labels(properties)
            components = tuple([labels(component) for component in components])
        gradients = {}
        if self._gradients:
            prefix = "" if parameter is None else f"{parameter}/"
            for name, gradient in self._gradients.items():
                gradients[name] = gradient._map(function, labels, prefix + name, True)
        return TensorBlock._of(
            values, samples, components, properties, gradients, parameter, frozen
        )

    def __copy__(self) -> TensorBlock:
        return self.copy(deep=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> TensorBlock:
        return self.copy(deep=True)

    def to(self, *args: Any, **kwargs: Any) -> TensorBlock:
        """Return the block in another array library, dtype or device, gradients and Labels too.

        Parameters
        ----------
        *args
            dtype, device and `non_blocking` in any order, told apart by their type; a str is a
            device; an array, block or map stands for its dtype and device
        **kwargs
            ``dtype``, ``device``, ``arrays`` ("numpy", "torch", "jax"), ``non_blocking``, and
            ``copy``, which makes new arrays in any case

        Returns
        -------
        TensorBlock
            a new block, with the same arrays where nothing changes and `copy` is not set

        Raises
        ------
        TypeError
            for a dtype of another library than the values'
        ValueError
            for a device that the library has not

        Examples
        --------
        >>> import numpy as np
        >>> block = TensorBlock(np.zeros((1, 1)), Labels.single(), [], Labels.single())
        >>> block.to(np.float32).dtype
        dtype('float32')

        """
        return self._map(*_array_conversion.parse_target(*args, **kwargs).functions())

    def cpu(self) -> TensorBlock:
        """Return the block in main memory.

        Gradients: likewise.

        Returns
        -------
        TensorBlock
            with the same arrays where they are there

        """
        return self.to(device="cpu")

    def cuda(self, device: Any = None, non_blocking: bool = False) -> TensorBlock:
        """Return the block in the memory of a GPU of CUDA.

        Gradients: likewise.

        Parameters
        ----------
        device : torch.device, str or int, optional
            which one, by default the current one
        non_blocking : bool, default=False
            do not wait for the copy to be complete

        Returns
        -------
        TensorBlock

        Raises
        ------
        ValueError
            for numpy arrays: use ``.to(arrays="torch", device="cuda")``

        """
        where = _array_conversion.cuda_device(device)
        return self.to(device=where, non_blocking=non_blocking)

    def pin_memory(self) -> TensorBlock:
        """Return the block with its tensors in memory that is quick to send to a GPU.

        Gradients: likewise. Arrays of other libraries than torch stay as they are, and all of them
        where there is no GPU of CUDA. Data loaders of torch call this for ``pin_memory=True``.

        Returns
        -------
        TensorBlock

        """
        return self._map(_arrays.pin_memory)

    def detach(self) -> TensorBlock:
        """Return the block with the same data, without the record of how they were computed.

        Gradients: likewise. Arrays of libraries that keep no record stay as they are.

        Returns
        -------
        TensorBlock

        See Also
        --------
        metatensor.detach : the same as operation

        """
        return self._map(_arrays.detach)

    def requires_grad_(self, requires_grad: bool = True) -> TensorBlock:
        """Have torch record, or no longer record, what is done with the values.

        Gradients: those of the block likewise. The tensors stay the same: as in torch, a tensor in
        another block or map requires gradients there too.

        Parameters
        ----------
        requires_grad : bool, default=True
            record, or not

        Returns
        -------
        TensorBlock
            this block

        Raises
        ------
        TypeError
            if the values are not of torch, unless `requires_grad` is False
        RuntimeError
            for integers, and to stop the record of tensors that are results of others; of torch

        See Also
        --------
        metatensor.requires_grad : makes tensors that start a record of their own

        Examples
        --------
        >>> import torch
        >>> import metatensor.torch as mts
        >>> block = mts.block_from_array(torch.ones(2, 3)).requires_grad_()
        >>> block.values.sum().backward()
        >>> block.values.grad.shape
        torch.Size([2, 3])

        """
        _arrays.requires_grad_in_place(self._values, requires_grad)
        for gradient in self._gradients.values():
            gradient.requires_grad_(requires_grad)
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        from metatensor.io import pickling

        return pickling.reduce_block(self, protocol)

    # ---- comparison

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TensorBlock):
            return NotImplemented
        return first_difference(self, other) is None

    __hash__ = None  # type: ignore[assignment]

    # ---- files

    def save(self, file: Any, use_numpy: bool = False) -> None:
        """Write this block to a file; see :func:`metatensor.save`."""
        from metatensor.io import mts

        mts.save(file, self, use_numpy=use_numpy)

    def save_buffer(self, use_numpy: bool = False) -> memoryview:
        """Return the bytes of a file with this block; see :func:`metatensor.io.save_buffer`."""
        from metatensor.io import mts

        return mts.save_buffer(self, use_numpy=use_numpy)

    @staticmethod
    def load(file: Any, use_numpy: bool = False) -> TensorBlock:
        """Read a block from a file; see :func:`metatensor.load_block`."""
        from metatensor.io import mts

        return mts.load_block(file, use_numpy=use_numpy)

    @staticmethod
    def load_buffer(buffer: Any, use_numpy: bool = False) -> TensorBlock:
        """Read a block from the bytes of a file; see :func:`metatensor.io.load_block_buffer`."""
        from metatensor.io import mts

        return mts.load_block_buffer(buffer, use_numpy=use_numpy)

    # ---- text

    def __repr__(self) -> str:
        return _display.block_text(self)

    def _repr_html_(self) -> str:
        return _display.block_html(self)


class Difference(NamedTuple):
    """Where two blocks, or maps, differ first."""

    #: "samples", "components", "properties", "gradients", "values", or "keys"
    what: str
    first: Any
    second: Any
    #: names of the gradients in which they do
    gradients: tuple[str, ...] = ()


AXES = ("samples", "components", "properties")


def first_difference(
    first: TensorBlock,
    second: TensorBlock,
    axes: Sequence[str] = AXES,
    gradients: bool = True,
    tolerance: _arrays.Tolerance | None = _arrays.EXACT,
) -> Difference | None:
    """Return where two blocks differ first, None if they do not.

    Parameters
    ----------
    first, second : TensorBlock
        two blocks
    axes : sequence of {"samples", "components", "properties"}
        which Labels count
    gradients : bool
        compare which gradients there are, and these as the blocks
    tolerance : Tolerance or None
        how near the values must be; None if they do not count. Values count with all axes alone.

    Returns
    -------
    Difference or None

    """
    if "samples" in axes and first._samples != second._samples:
        return Difference("samples", first._samples, second._samples)
    if "components" in axes and first._components != second._components:
        return Difference("components", first._components, second._components)
    if "properties" in axes and first._properties != second._properties:
        return Difference("properties", first._properties, second._properties)
    if tolerance is not None and not _arrays.near(first._values, second._values, tolerance):
        return Difference("values", first, second)
    if gradients and (first._gradients or second._gradients):
        if first._gradients.keys() != second._gradients.keys():
            return Difference("gradients", sorted(first._gradients), sorted(second._gradients))
        for name, gradient in first._gradients.items():
            found = first_difference(gradient, second._gradients[name], axes, True, tolerance)
            if found:
                return found._replace(gradients=(name, *found.gradients))
    return None
