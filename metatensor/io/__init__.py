"""Reading and writing files."""

from metatensor.io.custom import (
    create_numpy_array,
    create_torch_array,
    load_block_buffer_custom_array,
    load_block_custom_array,
    load_buffer_custom_array,
    load_custom_array,
)
from metatensor.io.mts import (
    load,
    load_block,
    load_block_buffer,
    load_buffer,
    load_labels,
    load_labels_buffer,
    save,
    save_buffer,
)

__all__ = [
    "create_numpy_array",
    "create_torch_array",
    "load",
    "load_block",
    "load_block_buffer",
    "load_block_buffer_custom_array",
    "load_block_custom_array",
    "load_buffer",
    "load_buffer_custom_array",
    "load_custom_array",
    "load_labels",
    "load_labels_buffer",
    "save",
    "save_buffer",
]
