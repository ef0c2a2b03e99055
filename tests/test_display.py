"""Text and HTML forms."""

from html.parser import HTMLParser

import numpy as np
import pytest

from metatensor import Labels, TensorBlock, TensorMap

VOID = {"hr"}


class Page(HTMLParser):
    """Text and tags of a page; refuses tags that are not closed in order."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.texts, self.depths = [], [], [], []
        self.feed(page)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append(data.strip())
            self.depths.append(self.open.count("details"))

    def visible(self):
        """Texts that show before anything is unfolded, without the summaries."""
        return [text for text, depth in zip(self.texts, self.depths) if depth == 0]


def axis(name, size):
    return Labels.range(name, size)


def block(shape=(3, 2), parameter=None, samples="s"):
    components = [axis("c" * (1 + i), size) for i, size in enumerate(shape[1:-1])]
    return TensorBlock(np.zeros(shape), axis(samples, shape[0]), components, axis("p", shape[-1]))


def block_with_gradients(names=("positions", "cell")):
    result = block((3, 4, 2))
    for name in names:
        gradient = TensorBlock(
            np.zeros((2, 3, 4, 2)),
            Labels(["sample", "atom"], np.array([[0, 1], [2, 0]])),
            [axis("xyz", 3), axis("c", 4)],
            axis("p", 2),
        )
        second = TensorBlock(
            np.zeros((1, 3, 4, 2)), axis("sample", 1), [axis("xyz", 3), axis("c", 4)], axis("p", 2)
        )
        gradient.add_gradient("h", second)
        result.add_gradient(name, gradient)
    return result


def tensor(n_keys):
    keys = Labels(["k1", "key2"], np.array([[i, -(10**i)] for i in range(n_keys)]).reshape(-1, 2))
    return TensorMap(keys, [block((i + 1, 2)) for i in range(n_keys)])


LONG = Labels(["aa", "b"], np.array([[i, -(10**i)] for i in range(6)]))


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (Labels(["aaa", "bbb"], np.array([[1, 2], [3, 4]])),
         "Labels\n    aaa  bbb\n     1    2\n     3    4"),
        (Labels.single(), "Labels\n    _\n    0"),
        (Labels.empty(["a", "b"]), "Labels\n    a  b"),
        (Labels.empty([]), "Labels\n   "),
        (Labels(["a"], np.array([[-(2**31)], [2**31 - 1]])),
         "Labels\n         a\n    -2147483648\n    2147483647"),
        (Labels(["a_long_name", "b"], np.array([[1, 1000]])),
         "Labels\n    a_long_name   b\n         1       1000"),
    ],
)  # fmt: skip
def test_labels_in_full(labels, text):
    assert repr(labels) == text
    assert str(labels) == text


@pytest.mark.parametrize(
    ("max_entries", "indent", "lines"),
    [
        (-1, 0, [" aa     b", " 0     -1", " 1     -10", " 2    -100", " 3    -1000", " 4   -10000",
                 " 5   -100000"]),
        (6, 2, [" aa     b", "   0     -1", "   1     -10", "   2    -100", "   3    -1000",
                "   4   -10000", "   5   -100000"]),
        (5, 0, [" aa     b", " 0     -1", " 1     -10", " 2    -100", "    ...", " 4   -10000",
                " 5   -100000"]),
        (4, 3, [" aa     b", "    0     -1", "    1     -10", "       ...", "    4   -10000",
                "    5   -100000"]),
        (3, 0, [" aa     b", " 0     -1", " 1     -10", "    ...", " 5   -100000"]),
        (2, 0, [" aa     b", " 0     -1", "    ...", " 5   -100000"]),
        (1, 0, [" aa     b", " 0     -1", "    ...", " 5   -100000"]),
        (0, 1, [" aa     b", "  0     -1", "     ...", "  5   -100000"]),
    ],
)  # fmt: skip
def test_labels_folded(max_entries, indent, lines):
    assert LONG.print(max_entries, indent).splitlines() == lines


def test_widths_come_from_the_rows_that_show():
    labels = Labels("a", np.array([[1], [10**8], [10**8 + 1], [2]]))
    assert labels.print(2) == " a\n 1\n  ...\n 2"


def test_str_folds_and_repr_does_not():
    assert str(LONG) == "Labels\n   " + LONG.print(4, 3)
    assert repr(LONG) == "Labels\n   " + LONG.print(-1, 3)


def test_entry():
    entry = Labels(["a", "b"], np.array([[0, -1]]))[0]
    assert entry.print() == "(a=0, b=-1)"
    assert str(entry) == repr(entry) == "LabelsEntry(a=0, b=-1)"


BLOCK = """TensorBlock with shape (3, 4, 2)
    samples: [s]
    components: [c]
    properties: [p]"""
GRADIENTS = """

    gradients:
        positions => TensorBlock with shape (2, 3, 4, 2)
        cell      => TensorBlock with shape (2, 3, 4, 2)"""
POSITIONS = """TensorBlock gradient for 'positions', with shape (2, 3, 4, 2)
    samples: [sample, atom]
    components: [xyz, c]
    properties: [p]

    gradients:
        h => TensorBlock with shape (1, 3, 4, 2)"""
NESTED = """TensorBlock gradient for 'positions/h', with shape (1, 3, 4, 2)
    samples: [sample]
    components: [xyz, c]
    properties: [p]"""


@pytest.mark.parametrize(
    ("example", "text"),
    [
        (block(), "TensorBlock with shape (3, 2)\n    samples: [s]\n    properties: [p]"),
        (block((3, 4, 2)), BLOCK),
        (block((3, 4, 5, 2)), BLOCK.replace("4, 2", "4, 5, 2").replace("[c]", "[c, cc]")),
        (block_with_gradients(), BLOCK + GRADIENTS),
        (block_with_gradients().gradient("positions"), POSITIONS),
        (block_with_gradients().gradient("positions").gradient("h"), NESTED),
        (TensorMap(Labels.single(), [block_with_gradients()]).block(), BLOCK + GRADIENTS),
        (
            TensorMap(Labels.single(), [block_with_gradients()]).block().gradient("positions"),
            POSITIONS,
        ),
    ],
)
def test_block(example, text):
    assert repr(example) == text
    assert str(example) == text


def test_shape_reads_the_same_for_every_library(xp):
    values = xp.asarray(np.zeros((3, 2)))
    assert str(TensorBlock(values, axis("s", 3), [], axis("p", 2))) == str(block())


def test_map():
    keys = Labels(["k1", "key2"], np.array([[0, 12345], [-7, 3]]))
    text = """TensorMap with 2 blocks
    keys: [k1, key2]
    blocks:
       0   12345   => TensorBlock with shape (3, 4, 2)
       -7    3     => TensorBlock with shape (3, 4, 2)"""
    example = TensorMap(keys, [block((3, 4, 2)), block((3, 4, 2))])
    assert str(example) == repr(example) == text


def test_map_with_one_block_and_with_none():
    one = TensorMap(Labels.single(), [block()])
    assert str(one).splitlines() == [
        "TensorMap with 1 block",
        "    keys: [_]",
        "    blocks:",
        "       0   => TensorBlock with shape (3, 2)",
    ]
    assert (
        str(TensorMap(Labels.empty("k"), []))
        == "TensorMap with 0 blocks\n    keys: [k]\n    blocks:"
    )


@pytest.mark.parametrize(
    ("max_keys", "lines"),
    [
        (0, ["       ..."]),
        (1, ["       0  -1   => TensorBlock with shape (1, 2)",
             "              ..."]),
        (2, ["       0  -1    => TensorBlock with shape (1, 2)",
             "       1  -10   => TensorBlock with shape (2, 2)",
             "               ..."]),
        (3, ["       0   -1    => TensorBlock with shape (1, 2)",
             "       1  -10    => TensorBlock with shape (2, 2)",
             "       2  -100   => TensorBlock with shape (3, 2)"]),
        (-1, ["       0   -1    => TensorBlock with shape (1, 2)",
              "       1  -10    => TensorBlock with shape (2, 2)",
              "       2  -100   => TensorBlock with shape (3, 2)"]),
    ],
)  # fmt: skip
def test_map_folded(max_keys, lines):
    assert tensor(3).print(max_keys).splitlines()[3:] == lines


@pytest.mark.parametrize(("n_keys", "folded"), [(7, False), (8, True)])
def test_str_of_a_map_shows_seven_keys(n_keys, folded):
    example = tensor(n_keys)
    assert str(example) == example.print(7)
    assert ("..." in str(example)) is folded
    assert "..." not in repr(example)


@pytest.mark.parametrize(
    ("example", "start"),
    [
        (LONG, "<div><strong>metatensor.Labels</strong></div>\n<hr"),
        (LONG[0], "<div><strong>metatensor.LabelsEntry</strong></div>\n<hr"),
        (block(), "<div><strong>metatensor.TensorBlock</strong> with shape (3, 2)</div>\n<hr"),
        (
            block_with_gradients().gradient("cell"),
            "<div><strong>metatensor.TensorBlock</strong> gradient for 'cell', with shape",
        ),
        (tensor(1), "<div><strong>metatensor.TensorMap</strong> with 1 block</div>\n<hr"),
        (tensor(2), "<div><strong>metatensor.TensorMap</strong> with 2 blocks</div>\n<hr"),
    ],
)
def test_html_title(example, start):
    page = example._repr_html_()
    assert page.startswith(start)
    assert not {"script", "style", "link", "iframe", "img"} & set(Page(page).tags)


@pytest.mark.parametrize(
    ("size", "visible", "folded", "summary"),
    [
        (0, 0, 0, None),
        (7, 7, 0, None),
        (8, 7, 1, "Show 1 more entries"),
        (200, 7, 193, "Show 193 more entries"),
        (1234, 7, 193, "Show 1227 more entries"),
    ],
)
def test_html_of_labels_is_folded(size, visible, folded, summary):
    page = Page(axis("atom", size)._repr_html_())
    numbers = [(int(text), depth) for text, depth in zip(page.texts, page.depths) if text.isdigit()]
    assert [depth for _, depth in numbers] == [0] * visible + [1] * folded
    assert [number for number, _ in numbers] == list(range(visible + folded))
    assert [text for text in page.texts if text.startswith("Show")] == (
        [summary] if summary else []
    )
    more = [text for text in page.texts if text.startswith("... and")]
    assert more == ([f"... and {size - 200} more"] if size > 200 else [])


def test_html_of_an_entry():
    entry = Labels(["a", "b"], np.array([[5, -6]]))[0]
    assert Page(entry._repr_html_()).texts == ["metatensor.LabelsEntry", "a", "b", "5", "-6"]


@pytest.mark.parametrize(("size", "shown"), [(0, ["(empty)"]), (2, ["0", "1"]), (20, None)])
def test_html_of_a_block_is_horizontal(size, shown):
    page = Page(block((size, 1))._repr_html_())
    shown = shown or [str(i) for i in range(20)]
    assert page.texts[2:] == ["samples:", "s", *shown, "properties:", "p", "0"]
    assert "details" not in page.tags


def test_html_of_a_block_lists_long_axes_on_demand():
    page = Page(block((21, 1))._repr_html_())
    first = [str(i) for i in range(20)]
    assert page.visible()[2:] == ["samples:", "s", *first, "...", "properties:", "p", "0"]
    summary = page.texts.index("Show all 21 entries (vertical)")
    assert page.texts[summary + 1 : summary + 23] == ["s", *first, "20"]
    assert page.depths[summary : summary + 23] == [1] * 23


def test_html_of_gradients_is_nested():
    page = Page(block_with_gradients(["positions"])._repr_html_())
    depth = dict(zip(page.texts, page.depths))
    assert depth["gradients:"] == 1  # the last one wins: those of the gradient
    assert depth["positions with shape (2, 3, 4, 2)"] == 1
    assert depth["h with shape (1, 3, 4, 2)"] == 2


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a & b", "</details>", "x\"y'z"])
def test_html_escapes_names(name):
    example = block_with_gradients([name])
    for page in (
        example._repr_html_(),
        example.gradient(name)._repr_html_(),
        TensorMap(Labels.single(), [example])._repr_html_(),
    ):
        parsed = Page(page)
        assert "script" not in parsed.tags
        assert any(name in text for text in parsed.texts)


@pytest.mark.parametrize(
    ("n_keys", "visible", "shown"), [(1, 1, 1), (7, 7, 7), (9, 7, 9), (25, 7, 20)]
)
def test_html_of_a_map_folds_blocks(n_keys, visible, shown):
    example = TensorMap(axis("key", n_keys), [block()] * n_keys)
    page = Page(example._repr_html_())
    titles = [
        depth for text, depth in zip(page.texts, page.depths) if text.startswith("TensorBlock")
    ]
    assert titles == [1] * visible + [2] * (shown - visible)
    assert page.texts[2:6] == ["keys:", "[key]", "blocks:", "key"]
    more = [text for text in page.texts if text.startswith(("Show", "... and"))]
    assert more == ([f"Show {n_keys - 7} more entries"] if n_keys > 7 else []) + (
        [f"... and {n_keys - 20} more"] if n_keys > 20 else []
    )


def test_html_of_a_large_map_stays_small():
    large = block((5000, 100))
    example = TensorMap(axis("key", 1000), [large] * 1000)
    assert len(example._repr_html_()) < 100_000
