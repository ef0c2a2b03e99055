"""Rotations, proper and improper, of maps whose components are spherical or Cartesian.

A component ``o3_mu`` is spherical: its entries are -l..l, where l is ``o3_lambda`` of the key, and
the values transform as real spherical harmonics. ``o3_sigma`` of the key is 1, or -1 for
pseudotensors; without it, it is 1. A component ``xyz`` is Cartesian. Names may end with a number,
such as ``xyz_1``; ``o3_mu_1`` goes with ``o3_lambda_1`` and ``o3_sigma_1``. Other axes, and blocks
without such components, are invariant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from math import prod

import numpy as np
import numpy.typing as npt

from metatensor import _arrays, _checks
from metatensor._arrays import Array
from metatensor._provenance import operation
from metatensor.block import TensorBlock
from metatensor.labels import Labels
from metatensor.operations._blockwise import assemble, say_where
from metatensor.tensor import TensorMap

__all__ = ["check", "rotate", "wigner_d"]

Reals = npt.NDArray[np.float64]
Key = Mapping[str, int]

#: what a name means, and how the names that go together end
_NAME = re.compile(r"(o3_lambda|o3_sigma|o3_mu|xyz)((?:_\d+)?)")
#: by how much the columns of a matrix may fail to be orthonormal; single precision is fine
_TOLERANCE = 1e-5


def wigner_d(l: int, rotation: npt.ArrayLike) -> Reals:  # noqa: E741
    r"""Return the matrix that rotates real spherical harmonics of degree ``l``.

    It is the orthogonal matrix D of

    .. math::

       Y_{lm}(R\, r) = \sum_{m'} D_{mm'}(R)\, Y_{lm'}(r), \qquad
       D_{mm'}(R) = \int Y_{lm}(R\, r)\, Y_{lm'}(r)\, dr

    for any orthogonal matrix R; that of the inversion is :math:`(-1)^l`. The integral over the unit
    sphere is a sum, exact for polynomials of degree 2 l.

    Real spherical harmonics are here, with :math:`P_l^m` without the Condon-Shortley phase,

    .. math::

       Y_{lm} = \sqrt{\frac{2l + 1}{4 \pi} \frac{(l - |m|)!}{(l + |m|)!}}\, P_l^{|m|}(\cos\theta)
       \begin{cases}
         \sqrt 2 \sin(|m| \varphi) & m < 0 \\ 1 & m = 0 \\ \sqrt 2 \cos(m \varphi) & m > 0
       \end{cases}

    Parameters
    ----------
    l : int
        degree of the harmonics, not negative
    rotation : array-like, (3, 3)
        orthogonal matrix, proper or improper, that acts on vectors as ``rotation @ r``

    Returns
    -------
    numpy.ndarray of float64, (2 * l + 1, 2 * l + 1)
        rows and columns for m = -l..l, which for ``l=1`` is the order y, z, x

    Raises
    ------
    ValueError
        if `l` is negative or `rotation` is no orthogonal matrix
    TypeError
        if `l` is no integer

    Notes
    -----
    Nodes are those of Gauss and Legendre in :math:`\cos\theta` and evenly spaced in
    :math:`\varphi` [1]_. The functions of :math:`\theta` come from their recursion in *l* [2]_.

    References
    ----------
    .. [1] K. Atkinson, "Numerical integration on the sphere", J. Austral. Math. Soc. B 23, 332
       (1982)
    .. [2] NIST Digital Library of Mathematical Functions, https://dlmf.nist.gov/14.10

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor.o3 import wigner_d
    >>> quarter = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    >>> wigner_d(1, quarter).round(12) + 0.0
    array([[ 0.,  0.,  1.],
           [ 0.,  1.,  0.],
           [-1.,  0.,  0.]])

    """
    degree = _checks.require_int(l, "l")
    if degree < 0:
        raise ValueError(f"`l` must not be negative, got {degree}")
    return _wigner(degree, _orthogonal(rotation))


def _wigner(degree: int, rotation: Reals) -> Reals:
    directions, weighted = _nodes(degree)
    return _harmonics(degree, directions @ rotation.T) @ weighted


@lru_cache(maxsize=64)
def _nodes(degree: int) -> tuple[Reals, Reals]:
    """Return directions to integrate over, and the harmonics there times weights."""
    heights, weights = np.polynomial.legendre.leggauss(degree + 1)
    n_angles = 2 * degree + 1
    angles = 2 * np.pi / n_angles * np.arange(n_angles)
    radii = np.sqrt(1 - heights**2)[:, None]
    coordinates = [radii * np.cos(angles), radii * np.sin(angles), heights[:, None] + 0 * angles]
    directions = np.stack(coordinates, axis=-1).reshape(-1, 3)
    weights = np.repeat(weights / (2 * n_angles), n_angles)
    return directions, (weights * _harmonics(degree, directions)).T


def _harmonics(degree: int, directions: Reals) -> Reals:
    """Return the harmonics at unit vectors, (2 * degree + 1, n), with a mean square of one.

    In powers of x + iy the azimuth needs no angle, and the rest is a polynomial in z.
    """
    x, y, z = directions.T
    m = np.arange(degree + 1)[:, None]
    before, polynomials = np.zeros((2, degree + 1, len(z)))
    polynomials[0] = 1
    for l in range(1, degree + 1):  # noqa: E741
        below = m[:l]
        slope = np.sqrt((4 * l**2 - 1) / (l**2 - below**2))
        share = np.sqrt(((l - 1) ** 2 - below**2) / (4 * (l - 1) ** 2 - 1))
        following = np.zeros_like(before)
        following[:l] = slope * (z * polynomials[:l] - share * before[:l])
        following[l] = np.sqrt((2 * l + 1) / (2 * l)) * polynomials[l - 1]
        before, polynomials = polynomials, following
    powers = np.ones((degree + 1, len(z)), dtype=np.complex128)
    powers[1:] = x + 1j * y
    waves = polynomials * np.cumprod(powers, axis=0)
    return np.concatenate(
        [np.sqrt(2) * waves.imag[:0:-1], waves.real[:1], np.sqrt(2) * waves.real[1:]]
    )


def _orthogonal(rotation: npt.ArrayLike) -> Reals:
    matrix = np.asarray(rotation)
    if matrix.shape != (3, 3) or matrix.dtype.kind not in "iuf":
        raise ValueError(
            "`rotation` must be a 3 x 3 matrix of real numbers, got shape "
            f"{matrix.shape} of {matrix.dtype}; a rotation of scipy has `.as_matrix()`"
        )
    matrix = matrix.astype(np.float64)
    deviation = np.abs(matrix @ matrix.T - np.eye(3)).max()
    if not deviation <= _TOLERANCE:
        raise ValueError(
            "`rotation` must be an orthogonal matrix, got one whose product with its transpose "
            f"deviates from the unit matrix by {deviation:.3g}"
        )
    for _ in range(2):  # Newton's steps to the nearest matrix that is orthogonal to the last digit
        matrix = matrix @ (1.5 * np.eye(3) - 0.5 * matrix.T @ matrix)
    return matrix


@operation
def rotate(tensor: TensorMap, rotation: npt.ArrayLike) -> TensorMap:
    r"""Rotate a map as if the systems it describes were rotated.

    Spherical and Cartesian components transform as

    .. math::

       A'_\mu = s \sum_\nu D^\lambda_{\mu\nu}(R)\, A_\nu, \qquad A'_a = \sum_b R_{ab}\, A_b

    where s is ``o3_sigma`` if the rotation is improper, and 1 otherwise: under inversion, spherical
    components have the parity :math:`\sigma (-1)^\lambda`. See :func:`wigner_d` for D. If the map
    describes positions :math:`r_i`, the result describes the positions :math:`R\, r_i`.

    Gradients: rotated likewise, and gradients of gradients too; their own components, such as
    ``xyz`` of positions, and ``xyz_1`` and ``xyz_2`` of strain, transform as those of values.

    Parameters
    ----------
    tensor : TensorMap
        which fulfils :func:`check`; integers become float64
    rotation : array-like, (3, 3)
        orthogonal matrix, proper or improper

    Returns
    -------
    TensorMap
        with the same Labels; blocks that are invariant share their arrays

    Raises
    ------
    MetatensorError
        if `tensor` does not fulfil :func:`check`
    ValueError
        if `rotation` is no orthogonal matrix

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.o3 import rotate
    >>> dipole = TensorBlock(
    ...     np.array([[[1.0], [2.0], [3.0]]]),
    ...     Labels.range("system", 1),
    ...     [Labels.range("xyz", 3)],
    ...     Labels.single(),
    ... )
    >>> quarter = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    >>> rotate(TensorMap(Labels.single(), [dipole]), quarter).block().values.ravel()
    array([-2., 1., 3.])

    """
    check(tensor)
    matrix = _orthogonal(rotation)
    improper = bool(np.linalg.det(matrix) < 0)
    wigner = cache(lambda degree: _wigner(degree, matrix))

    def matrix_for(component: Labels, key: Key) -> Reals | None:
        kind, ending = _parse(component._names[0])
        if kind == "xyz":
            return matrix
        if kind != "o3_mu":
            return None
        degree, sigma = len(component) // 2, key.get(f"o3_sigma{ending}", 1) if improper else 1
        return None if (degree, sigma) == (0, 1) else sigma * wigner(degree)

    return assemble(
        tensor._keys,
        list(zip(tensor._blocks, _keys(tensor), strict=True)),
        lambda block, key: _transform(block, lambda component: matrix_for(component, key)),
    )


def _transform(block: TensorBlock, matrix_for: Callable[[Labels], Reals | None]) -> TensorBlock:
    """Multiply the components of a block, and of its gradients, by the matrices they have."""
    values = _arrays.as_floating(block._values)
    for axis, component in enumerate(block._components, 1):
        matrix = matrix_for(component)
        if matrix is not None:
            values = _multiply(matrix, values, axis)
    gradients = {
        name: _transform(gradient, matrix_for) for name, gradient in block._gradients.items()
    }
    unchanged = all(gradient is block._gradients[name] for name, gradient in gradients.items())
    if unchanged and values is block._values:
        return block
    return TensorBlock._of(values, block._samples, block._components, block._properties, gradients)


def _multiply(matrix: Reals, values: Array, axis: int) -> Array:
    """Return the product of a matrix and one axis of an array."""
    shape = tuple(values.shape)
    stacked = _arrays.reshape(values, (prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])))
    return _arrays.reshape(_arrays.from_host(matrix, values) @ stacked, shape)


def check(tensor: TensorMap) -> None:
    """Check that rotations know what to do with a map: the metadata of its components and keys.

    The entries of ``o3_mu`` must be -l..l where l is ``o3_lambda`` of the key, if it is there, and
    is not negative; ``o3_sigma`` must be 1 or -1; the entries of ``xyz`` must be 0, 1, 2. The same
    holds for names that end with a number. All of ``o3_mu`` and ``xyz`` must be components,
    because the values for different samples, properties or keys can not be mixed.

    Gradients: checked too.

    Parameters
    ----------
    tensor : TensorMap
        whose values do not matter

    Raises
    ------
    MetatensorError
        that says what is wrong in the block for which key

    Examples
    --------
    >>> import numpy as np
    >>> from metatensor import Labels, TensorBlock, TensorMap
    >>> from metatensor.o3 import check
    >>> mu = Labels.range("o3_mu", 3)
    >>> block = TensorBlock(np.zeros((1, 3, 1)), Labels.single(), [mu], Labels.single())
    >>> check(TensorMap(Labels(["o3_lambda", "o3_sigma"], np.array([[1, 1]])), [block]))
    Traceback (most recent call last):
    ...
    metatensor.MetatensorError: invalid parameter: the component 'o3_mu' must have the entries
    -1 to 1 in this order, got [0, 1, 2] (in the block for key (o3_lambda=1, o3_sigma=1))

    """
    _checks.require_type(tensor, TensorMap, "tensor")
    _refuse(tensor._keys, "keys")
    for position, (block, key) in enumerate(zip(tensor._blocks, _keys(tensor), strict=True)):
        try:
            _check_key(key)
            _check_block(block, key)
        except _checks.MetatensorError as error:
            say_where(error, tensor._keys, position)
            raise


def _keys(tensor: TensorMap) -> list[Key]:
    names = tensor._keys._names
    return [dict(zip(names, row)) for row in tensor._keys._table.tolist()]


@lru_cache(maxsize=256)
def _parse(name: str) -> tuple[str, str]:
    """Return what a name means, which is nothing for most, and how it ends."""
    found = _NAME.fullmatch(name)
    return ("", "") if found is None else (found[1], found[2])


def _check_key(key: Key) -> None:
    for name, entry in key.items():
        kind, _ = _parse(name)
        if kind == "o3_lambda" and entry < 0:
            _checks.invalid(f"{name!r} must not be negative, got {entry}")
        if kind == "o3_sigma" and entry not in (1, -1):
            _checks.invalid(f"{name!r} must be 1, or -1 for pseudotensors, got {entry}")


def _check_block(block: TensorBlock, key: Key, where: str = "") -> None:
    _refuse(block._samples, f"samples{where}")
    _refuse(block._properties, f"properties{where}")
    for component in block._components:
        name = component._names[0]
        kind, ending = _parse(name)
        if kind == "o3_mu":
            degree = key.get(f"o3_lambda{ending}", len(component) // 2)
            expected = range(-degree, degree + 1)
        elif kind == "xyz":
            expected = range(3)
        else:
            continue
        got: list[int] = component._table[:, 0].tolist()
        if len(got) != len(expected) or got != list(expected):
            _checks.invalid(
                f"the component {name!r}{where} must have the entries {expected[0]} to "
                f"{expected[-1]} in this order, got {got}"
            )
    for parameter, gradient in block._gradients.items():
        _check_block(gradient, key, f"{where} of the gradient {parameter!r}")


def _refuse(labels: Labels, axis: str) -> None:
    """Raise MetatensorError for Labels that have components among their names."""
    for name in labels._names:
        if _parse(name)[0] in ("o3_mu", "xyz"):
            _checks.invalid(
                f"{name!r} must be a component, whose entries rotations mix, got it among the "
                f"names of {axis}"
            )
