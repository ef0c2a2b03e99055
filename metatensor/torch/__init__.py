"""Maps as citizens of torch: trees of tensors for its function transforms and compilers."""

from metatensor.torch import _pytree  # noqa: F401
