"""Operations on blocks and maps that carry metadata and gradients along."""

from metatensor.operations.reductions import sum_over_samples, sum_over_samples_block

__all__ = ["sum_over_samples", "sum_over_samples_block"]
