"""Reductions: samples, properties or components that agree in all but some dimensions become one.

The sums, means and norms here share what follows. Their gradients are those of the mathematical
function, in which samples without a gradient row have a gradient of zero. Values keep their
dtype unless they are integers; variances, deviations and norms of complex values are real. NaN
propagates. Where there is nothing to reduce, there is no result: no samples stay no samples.
Operations that are not linear refuse gradients of gradients.
"""

from __future__ import annotations

from collections.abc import Sequence

from metatensor._provenance import operation
from metatensor.operations._blockwise import Tensor
from metatensor.operations._reduce import reduce

__all__ = [
    "sum_over_samples",
    "sum_over_samples_block",
    "mean_over_samples",
    "mean_over_samples_block",
    "var_over_samples",
    "var_over_samples_block",
    "std_over_samples",
    "std_over_samples_block",
    "max_over_samples",
    "max_over_samples_block",
    "min_over_samples",
    "min_over_samples_block",
    "sum_over_properties",
    "sum_over_properties_block",
    "mean_over_properties",
    "mean_over_properties_block",
    "var_over_properties",
    "var_over_properties_block",
    "std_over_properties",
    "std_over_properties_block",
    "max_over_properties",
    "max_over_properties_block",
    "min_over_properties",
    "min_over_properties_block",
    "norm_over_properties",
    "norm_over_properties_block",
    "sum_over_components",
    "sum_over_components_block",
    "mean_over_components",
    "mean_over_components_block",
    "norm_over_components",
    "norm_over_components_block",
]


@operation
def sum_over_samples(tensor: Tensor, sample_names: str | Sequence[str]) -> Tensor:
    """Sum the samples that agree in all dimensions but ``sample_names``.

    Gradients: summed likewise, and gradients of gradients too. Gradient rows whose samples become
    one, and which agree in all their other dimensions, are added.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        what to sum; integers stay integers
    sample_names : str or sequence of str
        names of the sample dimensions to remove. Names that a block has not are ignored for a
        TensorBlock, and an error for a TensorMap.

    Returns
    -------
    TensorMap or TensorBlock
        with the remaining sample dimensions, samples and gradient rows sorted; one sample named
        "_" if no dimension remains

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock
    ValueError
        if a TensorMap has no such sample dimension
    OverflowError
        if integers get out of the range of their dtype

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, sum_over_samples
    >>> values = np.array([[1.0], [2.0], [6.0]])
    >>> block = TensorBlock(values, Labels.range("atom", 3), [], Labels.range("n", 1))
    >>> sum_over_samples(block, "atom").values
    array([[9.]])

    """
    return reduce("sum", "samples", tensor, sample_names)


sum_over_samples_block = sum_over_samples


@operation
def mean_over_samples(tensor: Tensor, sample_names: str | Sequence[str]) -> Tensor:
    """Average the samples that agree in all dimensions but ``sample_names``.

    Gradients: ``sum(gradient) / n``, and gradients of gradients too, where ``n`` is the number of
    samples that become one; samples without a gradient row count.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        what to average; integers become float64
    sample_names : str or sequence of str
        names of the sample dimensions to remove. Names that a block has not are ignored for a
        TensorBlock, and an error for a TensorMap.

    Returns
    -------
    TensorMap or TensorBlock
        with the remaining sample dimensions, samples and gradient rows sorted; one sample named
        "_" if no dimension remains

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock
    ValueError
        if a TensorMap has no such sample dimension

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, mean_over_samples
    >>> values = np.array([[1.0], [2.0], [6.0]])
    >>> block = TensorBlock(values, Labels.range("atom", 3), [], Labels.range("n", 1))
    >>> mean_over_samples(block, "atom").values
    array([[3.]])

    """
    return reduce("mean", "samples", tensor, sample_names)


mean_over_samples_block = mean_over_samples


@operation
def var_over_samples(tensor: Tensor, sample_names: str | Sequence[str]) -> Tensor:
    """Return the variance of the samples that agree in all dimensions but ``sample_names``.

    Gradients: ``sum(2 (x - mean) gradient) / n``, of complex values the real part with the
    conjugate of ``x - mean``.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        what to reduce; integers become float64
    sample_names : str or sequence of str
        names of the sample dimensions to remove. Names that a block has not are ignored for a
        TensorBlock, and an error for a TensorMap.

    Returns
    -------
    TensorMap or TensorBlock
        with the remaining sample dimensions, samples and gradient rows sorted; one sample named
        "_" if no dimension remains

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock
    ValueError
        if a TensorMap has no such sample dimension
    NotImplementedError
        for gradients of gradients

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, var_over_samples
    >>> values = np.array([[1.0], [2.0], [6.0]])
    >>> block = TensorBlock(values, Labels.range("atom", 3), [], Labels.range("n", 1))
    >>> var_over_samples(block, "atom").values
    array([[4.66666667]])

    """
    return reduce("var", "samples", tensor, sample_names)


var_over_samples_block = var_over_samples


@operation
def std_over_samples(tensor: Tensor, sample_names: str | Sequence[str]) -> Tensor:
    """Return the standard deviation of samples that agree in all but ``sample_names``.

    Gradients: ``sum((x - mean) gradient) / (n std)``, 0 where the deviation is 0; of complex values
    the real part with the conjugate of ``x - mean``.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        what to reduce; integers become float64
    sample_names : str or sequence of str
        names of the sample dimensions to remove. Names that a block has not are ignored for a
        TensorBlock, and an error for a TensorMap.

    Returns
    -------
    TensorMap or TensorBlock
        with the remaining sample dimensions, samples and gradient rows sorted; one sample named
        "_" if no dimension remains

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock
    ValueError
        if a TensorMap has no such sample dimension
    NotImplementedError
        for gradients of gradients

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, std_over_samples
    >>> values = np.array([[1.0], [2.0], [6.0]])
    >>> block = TensorBlock(values, Labels.range("atom", 3), [], Labels.range("n", 1))
    >>> std_over_samples(block, "atom").values
    array([[2.1602469]])

    """
    return reduce("std", "samples", tensor, sample_names)


std_over_samples_block = std_over_samples


@operation
def max_over_samples(tensor: Tensor, sample_names: str | Sequence[str]) -> Tensor:
    """Return the largest of the samples that agree in all dimensions but ``sample_names``.

    Gradients: those of the largest value, the average if several are largest.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        what to reduce; integers stay integers if they have no gradients
    sample_names : str or sequence of str
        names of the sample dimensions to remove. Names that a block has not are ignored for a
        TensorBlock, and an error for a TensorMap.

    Returns
    -------
    TensorMap or TensorBlock
        with the remaining sample dimensions, samples and gradient rows sorted; one sample named
        "_" if no dimension remains

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock, or its values are complex
    ValueError
        if a TensorMap has no such sample dimension
    NotImplementedError
        for gradients of gradients

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, max_over_samples
    >>> values = np.array([[1.0], [2.0], [6.0]])
    >>> block = TensorBlock(values, Labels.range("atom", 3), [], Labels.range("n", 1))
    >>> max_over_samples(block, "atom").values
    array([[6.]])

    """
    return reduce("max", "samples", tensor, sample_names)


max_over_samples_block = max_over_samples


@operation
def min_over_samples(tensor: Tensor, sample_names: str | Sequence[str]) -> Tensor:
    """Return the smallest of the samples that agree in all dimensions but ``sample_names``.

    Gradients: those of the smallest value, the average if several are smallest.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        what to reduce; integers stay integers if they have no gradients
    sample_names : str or sequence of str
        names of the sample dimensions to remove. Names that a block has not are ignored for a
        TensorBlock, and an error for a TensorMap.

    Returns
    -------
    TensorMap or TensorBlock
        with the remaining sample dimensions, samples and gradient rows sorted; one sample named
        "_" if no dimension remains

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock, or its values are complex
    ValueError
        if a TensorMap has no such sample dimension
    NotImplementedError
        for gradients of gradients

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, min_over_samples
    >>> values = np.array([[1.0], [2.0], [6.0]])
    >>> block = TensorBlock(values, Labels.range("atom", 3), [], Labels.range("n", 1))
    >>> min_over_samples(block, "atom").values
    array([[1.]])

    """
    return reduce("min", "samples", tensor, sample_names)


min_over_samples_block = min_over_samples


@operation
def sum_over_properties(tensor: Tensor, property_names: str | Sequence[str]) -> Tensor:
    """Sum the properties that agree in all dimensions but ``property_names``.

    Gradients: summed likewise, and gradients of gradients too.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        what to sum; integers stay integers
    property_names : str or sequence of str
        names of the property dimensions to remove. Names that a block has not are ignored for a
        TensorBlock, and an error for a TensorMap.

    Returns
    -------
    TensorMap or TensorBlock
        with the remaining property dimensions, properties sorted; one property named "_" if no
        dimension remains

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock
    ValueError
        if a TensorMap has no such property dimension
    OverflowError
        if integers get out of the range of their dtype

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, sum_over_properties
    >>> values = np.array([[2.0, 6.0, 3.0]])
    >>> block = TensorBlock(values, Labels.range("atom", 1), [], Labels.range("n", 3))
    >>> sum_over_properties(block, "n").values
    array([[11.]])

    """
    return reduce("sum", "properties", tensor, property_names)


sum_over_properties_block = sum_over_properties


@operation
def mean_over_properties(tensor: Tensor, property_names: str | Sequence[str]) -> Tensor:
    """Average the properties that agree in all dimensions but ``property_names``.

    Gradients: averaged likewise, and gradients of gradients too.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        what to average; integers become float64
    property_names : str or sequence of str
        names of the property dimensions to remove. Names that a block has not are ignored for a
        TensorBlock, and an error for a TensorMap.

    Returns
    -------
    TensorMap or TensorBlock
        with the remaining property dimensions, properties sorted; one property named "_" if no
        dimension remains

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock
    ValueError
        if a TensorMap has no such property dimension

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, mean_over_properties
    >>> values = np.array([[2.0, 6.0, 3.0]])
    >>> block = TensorBlock(values, Labels.range("atom", 1), [], Labels.range("n", 3))
    >>> mean_over_properties(block, "n").values
    array([[3.66666667]])

    """
    return reduce("mean", "properties", tensor, property_names)


mean_over_properties_block = mean_over_properties


@operation
def var_over_properties(tensor: Tensor, property_names: str | Sequence[str]) -> Tensor:
    """Return the variance of properties that agree in all but ``property_names``.

    Gradients: ``sum(2 (x - mean) gradient) / n`` over the ``n`` properties that become one, of
    complex values the real part with the conjugate of ``x - mean``.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        what to reduce; integers become float64
    property_names : str or sequence of str
        names of the property dimensions to remove. Names that a block has not are ignored for a
        TensorBlock, and an error for a TensorMap.

    Returns
    -------
    TensorMap or TensorBlock
        with the remaining property dimensions, properties sorted; one property named "_" if no
        dimension remains

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock
    ValueError
        if a TensorMap has no such property dimension
    NotImplementedError
        for gradients of gradients

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, var_over_properties
    >>> values = np.array([[2.0, 6.0, 3.0]])
    >>> block = TensorBlock(values, Labels.range("atom", 1), [], Labels.range("n", 3))
    >>> var_over_properties(block, "n").values
    array([[2.88888889]])

    """
    return reduce("var", "properties", tensor, property_names)


var_over_properties_block = var_over_properties


@operation
def std_over_properties(tensor: Tensor, property_names: str | Sequence[str]) -> Tensor:
    """Return the standard deviation of properties that agree in all but ``property_names``.

    Gradients: ``sum((x - mean) gradient) / (n std)`` over the ``n`` properties that become one, 0
    where the deviation is 0; of complex values the real part with the conjugate of ``x - mean``.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        what to reduce; integers become float64
    property_names : str or sequence of str
        names of the property dimensions to remove. Names that a block has not are ignored for a
        TensorBlock, and an error for a TensorMap.

    Returns
    -------
    TensorMap or TensorBlock
        with the remaining property dimensions, properties sorted; one property named "_" if no
        dimension remains

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock
    ValueError
        if a TensorMap has no such property dimension
    NotImplementedError
        for gradients of gradients

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, std_over_properties
    >>> values = np.array([[2.0, 6.0, 3.0]])
    >>> block = TensorBlock(values, Labels.range("atom", 1), [], Labels.range("n", 3))
    >>> std_over_properties(block, "n").values
    array([[1.69967317]])

    """
    return reduce("std", "properties", tensor, property_names)


std_over_properties_block = std_over_properties


@operation
def max_over_properties(tensor: Tensor, property_names: str | Sequence[str]) -> Tensor:
    """Return the largest of the properties that agree in all but ``property_names``.

    Gradients: those of the largest value, the average if several are largest.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        what to reduce; integers stay integers if they have no gradients
    property_names : str or sequence of str
        names of the property dimensions to remove. Names that a block has not are ignored for a
        TensorBlock, and an error for a TensorMap.

    Returns
    -------
    TensorMap or TensorBlock
        with the remaining property dimensions, properties sorted; one property named "_" if no
        dimension remains

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock, or its values are complex
    ValueError
        if a TensorMap has no such property dimension
    NotImplementedError
        for gradients of gradients

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, max_over_properties
    >>> values = np.array([[2.0, 6.0, 3.0]])
    >>> block = TensorBlock(values, Labels.range("atom", 1), [], Labels.range("n", 3))
    >>> max_over_properties(block, "n").values
    array([[6.]])

    """
    return reduce("max", "properties", tensor, property_names)


max_over_properties_block = max_over_properties


@operation
def min_over_properties(tensor: Tensor, property_names: str | Sequence[str]) -> Tensor:
    """Return the smallest of the properties that agree in all but ``property_names``.

    Gradients: those of the smallest value, the average if several are smallest.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        what to reduce; integers stay integers if they have no gradients
    property_names : str or sequence of str
        names of the property dimensions to remove. Names that a block has not are ignored for a
        TensorBlock, and an error for a TensorMap.

    Returns
    -------
    TensorMap or TensorBlock
        with the remaining property dimensions, properties sorted; one property named "_" if no
        dimension remains

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock, or its values are complex
    ValueError
        if a TensorMap has no such property dimension
    NotImplementedError
        for gradients of gradients

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, min_over_properties
    >>> values = np.array([[2.0, 6.0, 3.0]])
    >>> block = TensorBlock(values, Labels.range("atom", 1), [], Labels.range("n", 3))
    >>> min_over_properties(block, "n").values
    array([[2.]])

    """
    return reduce("min", "properties", tensor, property_names)


min_over_properties_block = min_over_properties


@operation
def norm_over_properties(tensor: Tensor, property_names: str | Sequence[str]) -> Tensor:
    """Return ``sqrt(sum(|x|^2))`` of the properties that agree in all but ``property_names``.

    Gradients: ``sum(x gradient) / norm``, 0 where the norm is 0; of complex values the real part
    with the conjugate of ``x``.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        what to reduce; integers become float64
    property_names : str or sequence of str
        names of the property dimensions to remove. Names that a block has not are ignored for a
        TensorBlock, and an error for a TensorMap.

    Returns
    -------
    TensorMap or TensorBlock
        with the remaining property dimensions, properties sorted; one property named "_" if no
        dimension remains

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock
    ValueError
        if a TensorMap has no such property dimension
    NotImplementedError
        for gradients of gradients

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, norm_over_properties
    >>> values = np.array([[2.0, 6.0, 3.0]])
    >>> block = TensorBlock(values, Labels.range("atom", 1), [], Labels.range("n", 3))
    >>> norm_over_properties(block, "n").values
    array([[7.]])

    """
    return reduce("norm", "properties", tensor, property_names)


norm_over_properties_block = norm_over_properties


@operation
def sum_over_components(tensor: Tensor, component_names: str | Sequence[str]) -> Tensor:
    """Sum over component axes, which are removed.

    Gradients: summed likewise, and gradients of gradients too.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        what to sum; integers stay integers
    component_names : str or sequence of str
        names of the components to remove

    Returns
    -------
    TensorMap or TensorBlock
        without these components

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock
    ValueError
        if there is no such component
    OverflowError
        if integers get out of the range of their dtype

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, sum_over_components
    >>> values, xyz = np.array([[[2.0], [6.0], [3.0]]]), Labels.range("xyz", 3)
    >>> block = TensorBlock(values, Labels.range("atom", 1), [xyz], Labels.single())
    >>> sum_over_components(block, "xyz").values
    array([[11.]])

    """
    return reduce("sum", "components", tensor, component_names)


sum_over_components_block = sum_over_components


@operation
def mean_over_components(tensor: Tensor, component_names: str | Sequence[str]) -> Tensor:
    """Average over component axes, which are removed.

    Gradients: averaged likewise, and gradients of gradients too.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        what to average; integers become float64
    component_names : str or sequence of str
        names of the components to remove

    Returns
    -------
    TensorMap or TensorBlock
        without these components

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock
    ValueError
        if there is no such component

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, mean_over_components
    >>> values, xyz = np.array([[[2.0], [6.0], [3.0]]]), Labels.range("xyz", 3)
    >>> block = TensorBlock(values, Labels.range("atom", 1), [xyz], Labels.single())
    >>> mean_over_components(block, "xyz").values
    array([[3.66666667]])

    """
    return reduce("mean", "components", tensor, component_names)


mean_over_components_block = mean_over_components


@operation
def norm_over_components(tensor: Tensor, component_names: str | Sequence[str]) -> Tensor:
    """Return ``sqrt(sum(|x|^2))`` over component axes, which are removed.

    Gradients: ``sum(x gradient) / norm``, 0 where the norm is 0; of complex values the real part
    with the conjugate of ``x``.

    Parameters
    ----------
    tensor : TensorMap or TensorBlock
        what to reduce; integers become float64
    component_names : str or sequence of str
        names of the components to remove

    Returns
    -------
    TensorMap or TensorBlock
        without these components

    Raises
    ------
    TypeError
        if `tensor` is neither a TensorMap nor a TensorBlock
    ValueError
        if there is no such component
    NotImplementedError
        for gradients of gradients

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, norm_over_components
    >>> values, xyz = np.array([[[2.0], [6.0], [3.0]]]), Labels.range("xyz", 3)
    >>> block = TensorBlock(values, Labels.range("atom", 1), [xyz], Labels.single())
    >>> norm_over_components(block, "xyz").values
    array([[7.]])

    """
    return reduce("norm", "components", tensor, component_names)


norm_over_components_block = norm_over_components
