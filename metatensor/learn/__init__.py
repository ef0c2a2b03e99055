"""Learning with torch: modules for maps."""

try:
    import torch  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "`metatensor.learn` requires torch, which is not installed: "
        'pip install "metatensor-sklearn[torch]"',
        name="torch",
    ) from error

from metatensor.learn import nn
from metatensor.learn.nn.linear import Linear
from metatensor.learn.nn.module_map import ModuleMap

__all__ = ["Linear", "ModuleMap", "nn"]
