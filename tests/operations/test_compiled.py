"""Every operation in `metatensor.torch.compile`: recorded once, replayed for other numbers."""

import pytest

torch = pytest.importorskip("torch")

from metatensor import TensorBlock, TensorMap, testing  # noqa: E402
from metatensor.torch import compilation  # noqa: E402

#: operations whose answer depends on numbers, which are not known while they are recorded; torch
#: counts ranks in `lstsq`
ASK_FOR_NUMBERS = {"equal", "equal_raise", "allclose", "allclose_raise", "lstsq"}
#: operations that leave arrays as they are where Labels allow it
MAY_DO_NOTHING = {
    "join properties",
    "join_blocks properties",
    "slice samples",
    "split samples",
    "sort",
    "sort descending",
    "outer",
    "einsum components",
}
#: numbers that are not those of another run
UNKNOWN_NUMBERS = {"empty_like", "random_uniform_like"}


@pytest.fixture(autouse=True)
def not_compiled(monkeypatch):
    """Graphs run as they are, which is quick: whether torch compiles them is tested elsewhere."""
    monkeypatch.setattr(torch, "compile", lambda graph, **options: graph)


def same(result, expected):
    if isinstance(expected, (list, tuple)):
        assert len(result) == len(expected)
        for part, other in zip(result, expected, strict=True):
            same(part, other)
    elif isinstance(expected, TensorBlock | TensorMap):
        testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)
    elif isinstance(expected, torch.Tensor):
        torch.testing.assert_close(result, expected)
    else:
        assert result == expected


def test_recordings_give_what_operations_give(any_operation):
    for kind, n_components in zip(any_operation.kinds, 2 * any_operation.components[:2]):
        parts = {"kind": kind, "n_components": n_components, "asarray": torch.asarray}
        compiled = compilation.compile(any_operation.call)
        first = any_operation.arguments(**parts)
        if any_operation.name in ASK_FOR_NUMBERS:
            with pytest.raises(RuntimeError, match="asks for numbers"):
                compiled(*first)
            continue
        for given in (first, any_operation.arguments(seed=5, **parts)):
            result, expected = compiled(*given), any_operation.call(*given)
            if any_operation.name in UNKNOWN_NUMBERS:
                testing._assert_no_difference(result, expected, None)
            else:
                same(result, expected)


def test_one_recipe_for_other_rows(rule):
    """Which gradient rows there are changes index arrays, and not what is done with them.

    Where all rows are kept, or in order already, some operations do nothing.
    """
    if rule.name in ASK_FOR_NUMBERS:
        pytest.skip("can not be recorded")
    parts = {"kind": rule.kinds[-1], "n_components": rule.components[0], "asarray": torch.asarray}
    compiled = compilation.compile(rule.call)
    for rows in ("all", "some", "all"):
        given = rule.arguments(rows=rows, sizes=(5, 4), **parts)
        same(compiled(*given), rule.call(*given))
    assert compiled.n_graphs <= (2 if str(rule) in MAY_DO_NOTHING else 1)
