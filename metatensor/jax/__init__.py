"""Blocks and maps for jax: importing this module makes them trees of arrays.

Functions of maps go through ``jax.jit``, ``jax.grad``, ``jax.vmap``, ``jax.lax.scan`` and all the
rest: the values and the gradients are the leaves; Labels, names and `info` are the structure, which
is known while a function is traced.
"""

try:
    import jax  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "`metatensor.jax` requires jax, which is not installed: "
        'pip install "metatensor-sklearn[jax]"',
        name="jax",
    ) from error

from metatensor.jax import _registration
from metatensor.jax.autograd import attach_gradients, store_gradients
from metatensor.jax.padding import pad_samples

__all__ = ["attach_gradients", "pad_samples", "store_gradients"]

_registration.register()
