"""TensorMap: the blocks of a block-sparse tensor, by key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from metatensor import _array_conversion, _arrays, _checks, _display, merge
from metatensor._operators import Operators
from metatensor._provenance import operation
from metatensor.block import TensorBlock, first_difference
from metatensor.labels import Labels, LabelsEntry

_Selection = int | Mapping[str, int] | Labels | LabelsEntry | None


class TensorMap(Operators):
    """Blocks by key: a block-sparse tensor with labelled axes and gradients.

    All blocks have the same names of samples, components and properties, the same gradients, and
    values of one array library, dtype and device.

    Parameters
    ----------
    keys : Labels
        one entry for each block
    blocks : iterable of TensorBlock
        the blocks in the order of the keys. They stay usable: the map keeps shallow copies that
        share their arrays and take no further gradients.

    Raises
    ------
    TypeError
        if `keys` are not Labels, or a block is no TensorBlock
    MetatensorError
        if there is not one block for each key, or blocks differ in what they must have in common
    ValueError
        if the values are neither bool, integer, real nor complex

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> block = TensorBlock(np.zeros((2, 1)), Labels.range("atom", 2), [], Labels.range("n", 1))
    >>> tensor = TensorMap(Labels(["center_type"], np.array([[1], [8]])), [block, block.copy()])
    >>> tensor
    TensorMap with 2 blocks
        keys: [center_type]
        blocks:
           1   => TensorBlock with shape (2, 1)
           8   => TensorBlock with shape (2, 1)
    >>> tensor.block(center_type=8).values.shape
    (2, 1)

    """

    __slots__ = ("__weakref__", "_blocks", "_info", "_keys")
    __module__ = "metatensor"

    _keys: Labels
    _blocks: list[TensorBlock]
    _info: dict[str, str]

    def __init__(self, keys: Labels, blocks: Iterable[TensorBlock]) -> None:
        _checks.require_type(keys, Labels, "keys")
        blocks = list(blocks)
        for block in blocks:
            if not isinstance(block, TensorBlock):
                raise TypeError(f"`blocks` must contain TensorBlocks, got {_checks.kind(block)}")
        if len(blocks) != len(keys):
            _checks.invalid(
                f"there must be one block for each of the {len(keys)} keys, got {len(blocks)}"
            )
        self._keys = keys
        self._blocks = [block._freeze() for block in blocks]
        self._info = {}
        if blocks:
            self._check_blocks()

    def _check_blocks(self) -> None:
        first = self._blocks[0]
        if not _arrays.has_format_dtype(first._values):
            raise ValueError(
                f"values must be bool, integers, real or complex numbers, got dtype {first.dtype}"
            )
        for position, block in enumerate(self._blocks):
            if difference := _arrays.difference(first._values, block._values):
                _checks.refuse_arrays(self._block_text(position), "the first one", *difference)
            if not _checks.same_names(first, block):
                _checks.refuse_names(first, block, self._block_text(position))

    def _block_text(self, position: int) -> str:
        return f"the block for key {self._keys.entry(position).print()}"

    @classmethod
    def _of(
        cls, keys: Labels, blocks: list[TensorBlock], info: dict[str, str] | None = None
    ) -> TensorMap:
        """Make a map of blocks that fit together; nothing is checked."""
        tensor = cls.__new__(cls)
        tensor._keys = keys
        tensor._blocks = [block._freeze() for block in blocks]
        tensor._info = {} if info is None else dict(info)
        return tensor

    # ---- access

    @property
    def keys(self) -> Labels:
        """The key of each block."""
        return self._keys

    @property
    def sample_names(self) -> list[str]:
        """Names of the sample dimensions of all blocks."""
        return self._blocks[0]._samples.names if self._blocks else []

    @property
    def component_names(self) -> list[str]:
        """Name of each component of all blocks."""
        return _checks.component_names(self._blocks[0]) if self._blocks else []

    @property
    def property_names(self) -> list[str]:
        """Names of the property dimensions of all blocks."""
        return self._blocks[0]._properties.names if self._blocks else []

    @property
    def dtype(self) -> Any:
        """Type of the values; None without blocks."""
        return self._blocks[0].dtype if self._blocks else None

    @property
    def device(self) -> Any:
        """Where the values live; "cpu" without blocks."""
        return self._blocks[0].device if self._blocks else "cpu"

    @property
    def is_view(self) -> bool:
        """Always False: a map is never inside another object."""
        return False

    def __len__(self) -> int:
        """Return the number of blocks."""
        return len(self._blocks)

    def __iter__(self) -> Iterator[TensorBlock]:
        """Iterate over the blocks."""
        return iter(self._blocks)

    def items(self) -> Iterator[tuple[LabelsEntry, TensorBlock]]:
        """Iterate over keys and blocks, in the order of the keys."""
        return zip(self._keys, self._blocks, strict=True)

    def __getitem__(self, selection: _Selection) -> TensorBlock:
        return self.block(selection)

    def block_by_id(self, index: int) -> TensorBlock:
        """Return the block at a position.

        Parameters
        ----------
        index : int
            position of the block, from 0

        Returns
        -------
        TensorBlock

        Raises
        ------
        IndexError
            if there is no such position
        MetatensorError
            if it is negative

        """
        index = _checks.require_int(index, "index")
        if index < 0:
            _checks.invalid(f"the position of a block can not be negative, got {index}")
        if index >= len(self._blocks):
            raise IndexError(
                f"block index out of bounds: there are {len(self._blocks)} blocks, got {index}"
            )
        return self._blocks[index]

    def blocks_by_id(self, indices: Sequence[int]) -> list[TensorBlock]:
        """Return the blocks at several positions.

        Parameters
        ----------
        indices : sequence of int
            positions, from 0

        Returns
        -------
        list of TensorBlock

        """
        return [self.block_by_id(index) for index in indices]

    def block(self, selection: _Selection = None, **kwargs: int) -> TensorBlock:
        """Return the one block that a selection matches.

        Parameters
        ----------
        selection : int, dict, Labels or LabelsEntry, optional
            position of the block; or values of some or all dimensions of its key
        **kwargs : int
            values of dimensions of the key, used without `selection`

        Returns
        -------
        TensorBlock

        Raises
        ------
        ValueError
            if no block matches, or more than one
        MetatensorError
            if the selection has a name that the keys have not
        TypeError
            if the selection is of another type

        Examples
        --------
        >>> import numpy as np
        >>> block = TensorBlock(np.zeros((1, 1)), Labels.single(), [], Labels.single())
        >>> tensor = TensorMap(Labels(["a", "b"], np.array([[0, 1], [1, 1]])), [block, block])
        >>> tensor.block(a=1)
        TensorBlock with shape (1, 1)
            samples: [_]
            properties: [_]

        """
        if isinstance(selection, int):
            return self.block_by_id(selection)
        if selection is None:
            selection = kwargs
        positions = self._matches(selection)
        if len(positions) == 1:
            return self._blocks[positions[0]]
        what = _selection_text(selection)
        if len(positions):
            raise ValueError(
                f"{len(positions)} blocks match {what}, `block` requires exactly one, such as "
                f"that for {self._keys.entry(positions[0]).print()}; use `blocks` for several"
            )
        raise ValueError(f"no block matches {what}; the keys have the names {self._keys.names}")

    def blocks(self, selection: _Selection | list[int] = None, **kwargs: int) -> list[TensorBlock]:
        """Return all the blocks that a selection matches.

        Parameters
        ----------
        selection : int, list of int, dict, Labels or LabelsEntry, optional
            positions of blocks; or values of some or all dimensions of the keys; without one, all
        **kwargs : int
            values of dimensions of the keys, used without `selection`

        Returns
        -------
        list of TensorBlock
            in the order of :meth:`Labels.select`

        Raises
        ------
        ValueError
            if no block matches
        MetatensorError
            if the selection has a name that the keys have not
        TypeError
            if the selection is of another type

        """
        if isinstance(selection, int):
            return [self.block_by_id(selection)]
        if isinstance(selection, list):
            return self.blocks_by_id(selection)
        if selection is None:
            selection = kwargs
        positions = self._matches(selection)
        if len(positions) == 0 and self._blocks:
            raise ValueError(
                f"no block matches {_selection_text(selection)}; "
                f"the keys have the names {self._keys.names}"
            )
        return [self._blocks[position] for position in positions]

    def _matches(self, selection: Any) -> Sequence[int]:
        """Return the positions of the blocks that a selection matches."""
        keys = self._keys
        if isinstance(selection, Labels) and len(selection) == 1:
            selection = selection.entry(0)
        if isinstance(selection, dict):
            if len(selection) == len(keys._names):
                try:
                    row = tuple([selection[name] for name in keys._names])
                    found = keys.position(row)
                    return () if found is None else (found,)
                except (KeyError, TypeError):
                    pass  # the general way below says what is wrong
            return _positions(keys, selection)
        if isinstance(selection, LabelsEntry):
            if selection._labels._names == keys._names:
                found = keys.position(selection)
                return () if found is None else (found,)
            return _positions(keys, dict(zip(selection.names, selection, strict=True)))
        if not isinstance(selection, Labels):
            raise TypeError(
                "blocks can be selected with int, dict, Labels or LabelsEntry, "
                f"got {_checks.kind(selection)}"
            )
        positions: list[int] = keys._matches(selection).tolist()
        return positions

    # ---- moving keys and components

    @operation
    def keys_to_samples(
        self,
        keys_to_move: str | Sequence[str] | Labels,
        fill_value: float = 0.0,
        sort_samples: bool = True,
    ) -> TensorMap:
        """Move dimensions of the keys to the samples, merging the blocks that differ in them only.

        The properties of merged blocks are united. Gradients move along: their rows follow the
        samples, and are sorted. `info` is kept.

        Parameters
        ----------
        keys_to_move : str, sequence of str, or Labels without entries
            names of the dimensions, which become the last sample dimensions in this order
        fill_value : scalar, default=0.0
            value of the properties that a block had not
        sort_samples : bool, default=True
            sort the new samples; otherwise they are in the order of the blocks

        Returns
        -------
        TensorMap

        Raises
        ------
        MetatensorError
            if a name is not among the keys, or merged blocks have different components

        Examples
        --------
        >>> import numpy as np
        >>> block = TensorBlock(np.ones((2, 1)), Labels.range("atom", 2), [], Labels.range("n", 1))
        >>> tensor = TensorMap(Labels(["type"], np.array([[1], [8]])), [block, block])
        >>> tensor.keys_to_samples("type").block().samples
        Labels
            atom  type
             0     1
             0     8
             1     1
             1     8

        """
        keys, blocks = merge.keys_to_samples(
            self._keys, self._blocks, keys_to_move, fill_value, sort_samples
        )
        return TensorMap._of(keys, blocks)

    @operation
    def keys_to_properties(
        self,
        keys_to_move: str | Sequence[str] | Labels,
        fill_value: float = 0.0,
        sort_samples: bool = True,
    ) -> TensorMap:
        """Move dimensions of the keys to the properties, merging blocks that differ in them only.

        The samples of merged blocks are united. Gradients move along: their rows are united and
        sorted. `info` is kept.

        Parameters
        ----------
        keys_to_move : str, sequence of str, or Labels
            names of the dimensions, which become the first property dimensions in this order;
            Labels with entries also say which values there are, and all merged blocks must then
            have the same properties
        fill_value : scalar, default=0.0
            value where a block had no such sample, or there was no block
        sort_samples : bool, default=True
            sort the new samples; otherwise they are in the order of first appearance

        Returns
        -------
        TensorMap

        Raises
        ------
        MetatensorError
            if a name is not among the keys, or merged blocks have different components

        Examples
        --------
        >>> import numpy as np
        >>> block = TensorBlock(np.ones((2, 1)), Labels.range("atom", 2), [], Labels.range("n", 1))
        >>> tensor = TensorMap(Labels(["type"], np.array([[1], [8]])), [block, block])
        >>> tensor.keys_to_properties("type").block().properties
        Labels
            type  n
             1    0
             8    0

        """
        keys, blocks = merge.keys_to_properties(
            self._keys, self._blocks, keys_to_move, fill_value, sort_samples
        )
        return TensorMap._of(keys, blocks)

    @operation
    def components_to_properties(self, dimensions: str | Sequence[str]) -> TensorMap:
        """Move components to the properties, in front of the names there.

        Gradients move along. `info` is kept.

        Parameters
        ----------
        dimensions : str or sequence of str
            names of the components; the last one becomes the first property dimension

        Returns
        -------
        TensorMap

        Raises
        ------
        MetatensorError
            if there is no such component

        Examples
        --------
        >>> import numpy as np
        >>> xyz = Labels.range("xyz", 3)
        >>> samples, properties = Labels.range("atom", 2), Labels.range("n", 1)
        >>> block = TensorBlock(np.ones((2, 3, 1)), samples, [xyz], properties)
        >>> TensorMap(Labels.single(), [block]).components_to_properties("xyz").block().shape
        (2, 3)

        """
        blocks = merge.components_to_properties(self._blocks, dimensions)
        return TensorMap._of(self._keys, blocks)

    # ---- info

    def info(self) -> dict[str, str]:
        """Return all the texts that go with this map, a new dict."""
        return dict(self._info)

    def get_info(self, key: str) -> str | None:
        """Return the text stored under ``key``, or None."""
        return self._info.get(key)

    def set_info(self, key: str, value: str) -> None:
        """Store a text that goes with this map: it is saved, copied and pickled with it.

        Parameters
        ----------
        key, value : str

        Raises
        ------
        TypeError
            if one is no str

        """
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(
                f"`key` and `value` must be str, got {_checks.kind(key)} and {_checks.kind(value)}"
            )
        self._info[key] = value

    # ---- copying and moving

    def copy(self, deep: bool = True) -> TensorMap:
        """Return a copy.

        Parameters
        ----------
        deep : bool, default=True
            copy all values into new C-contiguous arrays; otherwise the copy has the same arrays.
            Labels are always shared.

        Returns
        -------
        TensorMap

        """
        return self._map(_arrays.copy if deep else None)

    def _map(
        self,
        function: Callable[[_arrays.Array], _arrays.Array] | None,
        labels: Callable[[Labels], Labels] | None = None,
    ) -> TensorMap:
        """Apply functions to all the arrays and Labels."""
        blocks = [block._map(function, labels, frozen=True) for block in self._blocks]
        keys = self._keys if labels is None else labels(self._keys)
        return TensorMap._of(keys, blocks, self._info)

    def __copy__(self) -> TensorMap:
        return self.copy(deep=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> TensorMap:
        return self.copy(deep=True)

    def to(self, *args: Any, **kwargs: Any) -> TensorMap:
        """Return the map in another array library, dtype or device, as :meth:`TensorBlock.to`."""
        return self._map(*_array_conversion.parse_target(*args, **kwargs).functions())

    def cpu(self) -> TensorMap:
        """Return the map in main memory, as :meth:`TensorBlock.cpu`."""
        return self.to(device="cpu")

    def cuda(self, device: Any = None, non_blocking: bool = False) -> TensorMap:
        """Return the map in the memory of a GPU, as :meth:`TensorBlock.cuda`."""
        where = _array_conversion.cuda_device(device)
        return self.to(device=where, non_blocking=non_blocking)

    def pin_memory(self) -> TensorMap:
        """Return the map in memory quick to send to a GPU, as :meth:`TensorBlock.pin_memory`."""
        return self._map(_arrays.pin_memory)

    def detach(self) -> TensorMap:
        """Return the map without the record of its computation, as :meth:`TensorBlock.detach`."""
        return self._map(_arrays.detach)

    def requires_grad_(self, requires_grad: bool = True) -> TensorMap:
        """Have torch record what is done with the values; :meth:`TensorBlock.requires_grad_`."""
        for block in self._blocks:
            block.requires_grad_(requires_grad)
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        from metatensor.io import pickling

        return pickling.reduce_map(self, protocol)

    # ---- comparison

    def __eq__(self, other: object) -> bool:
        """Tell whether keys, Labels and values are the same; the order of keys does not count."""
        if not isinstance(other, TensorMap):
            return NotImplemented
        blocks = other._blocks_for(self._keys)
        return blocks is not None and all(
            first_difference(block, found) is None
            for block, found in zip(self._blocks, blocks, strict=True)
        )

    def _blocks_for(self, keys: Labels) -> list[TensorBlock] | None:
        """Return the blocks in the order of other keys, None if these are not the same ones."""
        if keys == self._keys:
            return self._blocks
        if keys._names != self._keys._names or len(keys) != len(self._keys):
            return None
        positions = self._keys._index.find_many(keys._table).tolist()
        return None if min(positions) < 0 else [self._blocks[position] for position in positions]

    __hash__ = None  # type: ignore[assignment]

    # ---- files

    def save(self, file: Any, use_numpy: bool = False) -> None:
        """Write this map to a file; see :func:`metatensor.save`."""
        from metatensor.io import mts

        mts.save(file, self, use_numpy=use_numpy)

    def save_buffer(self, use_numpy: bool = False) -> memoryview:
        """Return the bytes of a file with this map; see :func:`metatensor.io.save_buffer`."""
        from metatensor.io import mts

        return mts.save_buffer(self, use_numpy=use_numpy)

    @staticmethod
    def load(file: Any, use_numpy: bool = False) -> TensorMap:
        """Read a map from a file; see :func:`metatensor.load`."""
        from metatensor.io import mts

        return mts.load(file, use_numpy=use_numpy)

    @staticmethod
    def load_buffer(buffer: Any, use_numpy: bool = False) -> TensorMap:
        """Read a map from the bytes of a file; see :func:`metatensor.io.load_buffer`."""
        from metatensor.io import mts

        return mts.load_buffer(buffer, use_numpy=use_numpy)

    # ---- text

    def print(self, max_keys: int) -> str:
        """Return the map as text.

        Parameters
        ----------
        max_keys : int
            number of keys to show; all if negative

        Returns
        -------
        str

        """
        return _display.tensor_text(self, max_keys)

    def __str__(self) -> str:
        return self.print(7)

    def __repr__(self) -> str:
        return self.print(-1)

    def _repr_html_(self) -> str:
        return _display.tensor_html(self)


def _positions(keys: Labels, selection: Mapping[str, int]) -> Sequence[int]:
    """Return the positions of the keys that have the given values, in the order of the keys."""
    match: Any = True
    for name, value in selection.items():
        if name not in keys._names:
            _checks.refuse_selection(_checks.names_tuple([name])[0], keys._names)
        value = _checks.require_int(value, f"{name} of a selection")
        match = match & (keys._table[:, keys._names.index(name)] == value)
    return range(len(keys)) if match is True else np.flatnonzero(match).tolist()


def _selection_text(selection: Any) -> str:
    if isinstance(selection, dict) and not selection:
        return "an empty selection"
    if isinstance(selection, dict):
        return "(" + ", ".join(f"{name}={value}" for name, value in selection.items()) + ")"
    if isinstance(selection, LabelsEntry):
        return selection.print()
    return f"a selection of {len(selection)} entries for {selection.names}"
