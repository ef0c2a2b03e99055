"""Which differences between the packages are expected, and why, for `differential.py`.

A reason says what the result of this package is. Where the other package is wrong, results of this
one are checked in `differential_checks.py`.
"""

import numpy as np
from differential_checks import blocks_of, is_data
from differential_data import gradients_of

# ---- reasons


class Difference:
    """One difference between the outcomes of a call."""

    def __init__(self, step, ours, theirs, where, what):
        self.function, self.where, self.what = step["function"], where, what
        self.args, values = ours.get("given", ([], []))
        self.kwargs = dict(zip(step["kwargs"], values))
        self.ours, self.theirs = ours, theirs
        self.whole = self.args[0] if self.args else None
        self.blocks = blocks_of(self.whole) if is_data(self.whole) else []

    def ours_raises(self, *kinds):
        return raised(self.ours, kinds)

    def theirs_raises(self, kind, text=""):
        return raised(self.theirs, [kind]) and text in self.theirs["error"]["text"]

    @property
    def only_theirs(self):
        return self.where == "error" and "error" in self.theirs

    @property
    def parts(self):
        """All blocks and gradients of the first argument."""
        return [part for block in self.blocks for part in [block, *gradients_of(block)]]

    def takes(self, *prefixes):
        return self.function.startswith(prefixes)


def raised(outcome, kinds):
    return "error" in outcome and outcome["error"]["kinds"][0] in kinds


def nested(data):
    return is_data(data) and any(
        gradient["gradients"]
        for block in blocks_of(data)
        for gradient in block["gradients"].values()
    )


def inherited(d):
    return "/info" in d.where and d.what.endswith("and []")


def wrong_type(d):
    if not d.ours_raises("TypeError"):
        return False
    accidents = ["AttributeError", "AssertionError", "UnboundLocalError", "IndexError"]
    text = d.ours["error"]["text"]
    seen = ("`tensor", "must be a metatensor"), ("`index`", "must be an int")
    if any(text.startswith(start) and end in text for start, end in seen):
        return True  # the other package finds something else wrong, or nothing
    return d.where in ("kind of error", "warnings") and raised(d.theirs, [*accidents, "ValueError"])


def either_kind(d):
    """Blocks for functions of maps, and the reverse."""
    first = d.whole[0] if isinstance(d.whole, (list, tuple)) and d.whole else d.whole
    kind = "block" if "_block" in d.function and not d.function.endswith("_blocks") else "map"
    theirs = d.theirs_raises("AttributeError") or d.theirs_raises(
        "TypeError", "must be a metatensor"
    )
    other = is_data(first) and first["kind"] != kind
    return other and (d.only_theirs or (d.where == "kind of error" and theirs))


def linear_nested(d):
    """The results of sums and of what moves numbers are checked."""
    return "error" in d.where and d.theirs_raises("NotImplementedError", "gradients of gradients")


def integer_variance(d):
    """Compared with numpy in `check_reduction`."""
    integers = d.blocks and d.blocks[0]["values"].dtype.kind in "iu"
    sides = d.where.endswith("/values") or d.where == "warnings"
    return integers and d.takes("var_", "std_") and sides


def integer_average(d):
    integers = d.blocks and d.blocks[0]["values"].dtype.kind in "iub"
    kinds = ("and int", "and uint", "and bool")
    return integers and d.takes("mean_", "var_", "std_") and any(kind in d.what for kind in kinds)


def truth_values(d):
    """Sums of them are refused; averages are compared with numpy in `check_reduction`."""
    truth = d.blocks and d.blocks[0]["values"].dtype.kind == "b"
    return truth and ("error" in d.where or d.where.endswith("/values"))


def rounding_of_zero(d):
    """Where numbers are equal, but for their average: gradients are rounding, and bounded."""
    return (
        d.takes("std_")
        and "/gradients/" in d.where
        and d.where.endswith("/values")
        and any(
            np.ptp(block["values"].real, axis=-1 if "properties" in d.function else 0).min(
                initial=1
            )
            == 0
            for block in d.blocks
            if block["values"].size and block["values"].dtype.kind in "fc"
        )
    )


def small_integers(d):
    return (
        d.where == "error"
        and d.ours_raises("OverflowError")
        and ("out of the range of" in d.ours["error"]["text"])
    )


def large_constant(d):
    return (
        d.takes("append_dimension", "insert_dimension")
        and "error" in d.where
        and (d.ours_raises("ValueError") and "must fit in int32" in d.ours["error"]["text"])
    )


def numbers_of_numpy(d):
    return (
        d.takes("append_dimension", "insert_dimension")
        and d.only_theirs
        and (isinstance(d.args[-1], np.integer))
    )


def joined_dtype(d):
    dtypes = {b["values"].dtype for part in d.args[0] for b in blocks_of(part)}
    raises = d.only_theirs and d.theirs_raises("MetatensorError", "different dtypes")
    return len(dtypes) > 1 and (raises or d.where.endswith("/values") or d.where == "result/values")


def arrays_of_objects(d):
    return d.takes("operator.") and d.where == "result" and d.what.endswith("ndarray")


def zero_power(d):
    return d.takes("pow", "operator.pow") and d.args[1] == 0


def short_integers(d):
    """Averages are compared with numpy in `check_reduction`."""
    short = any(b["values"].dtype.itemsize < 4 and b["values"].dtype.kind in "iu" for b in d.blocks)
    quotient = d.takes("divide", "operator.truediv") and "/gradients/" in d.where
    return short and (quotient or (d.takes("mean_") and d.where.endswith("/values")))


def integers_with_floats(d):
    """With `--library torch`, as torch has it."""
    arithmetic = d.takes("add", "subtract", "multiply", "divide", "dot", "operator.")
    maps = [arg for arg in d.args if is_data(arg)]
    integers = any(b["values"].dtype.kind in "iu" for arg in maps for b in blocks_of(arg))
    return arithmetic and integers and "float64" in d.what and "float32" in d.what


def nested_compared(d):
    return d.takes("equal", "allclose", "operator.eq", "operator.ne") and nested(d.whole)


def complex_zero_power(d):
    zeros = any((b["values"] == 0).any() for b in d.blocks if b["values"].dtype.kind == "c")
    return d.takes("pow", "operator.pow") and d.where == "warnings" and zeros


def torch_gradients(d):
    text = "floating point dtype can require gradients"
    refused = d.ours_raises("RuntimeError") and text in d.ours["error"]["text"]
    return d.takes("requires_grad") and d.where == "error" and refused


def not_finite(d):
    """Numbers that are not finite stay so, without warnings."""
    parts = [
        part
        for arg in d.args
        if is_data(arg)
        for b in blocks_of(arg)
        for part in (b, *gradients_of(b))
    ]
    bad = any(
        part["values"].dtype.kind in "fc" and not np.isfinite(part["values"]).all()
        for part in parts
    )
    silent = d.where == "warnings" and d.what in (
        "[] and ['RuntimeWarning']",
        "['RuntimeWarning'] and []",
    )
    return bad and (silent or "not all finite" in d.what)


def one_text(d):
    """The other package takes the letters of a text for names."""
    texts = [names for names in d.kwargs.values() if isinstance(names, str) and len(names) > 1]
    return "error" in d.where and bool(texts)


def complex_variance(d):
    """Compared with numpy in `check_reduction`."""
    return d.takes("var_", "std_") and "and complex" in d.what and d.what.startswith("float")


def gradients_without_properties(d):
    text = "gradient properties must be the same as values properties"
    return (
        d.only_theirs
        and d.theirs_raises("MetatensorError", text)
        and any(not len(block["properties"]["values"]) for block in d.blocks)
    )


def no_blocks(d):
    """A map without blocks is valid, and so is the result; arguments are checked as ever."""
    return is_data(d.whole, "map") and not d.blocks


def average_gradients(d):
    """Compared with derivatives by complex steps in `check_reduction`."""
    averages = ("mean_over_samples", "var_over_samples", "std_over_samples")
    return d.takes(*averages) and "/gradients/" in d.where and d.where.endswith("/values")


def dtype_of_averages(d):
    integers = d.blocks and d.blocks[0]["values"].dtype.kind in "iub"
    texts = ["blocks with different dtypes"] if integers else []
    texts += ["the gradient values have dtype"]
    return (
        d.only_theirs
        and d.takes("mean_", "var_", "std_")
        and any(d.theirs_raises("MetatensorError", text) for text in texts)
    )


def averages_with_components(d):
    averages = ("mean_over_properties", "var_over_properties", "std_over_properties")
    with_components = any(block["components"] for block in d.blocks)
    texts = [("ValueError", "broadcast"), ("MetatensorError", "the values shape along axis")]
    wrong = d.only_theirs and any(d.theirs_raises(*text) for text in texts)
    return d.takes(*averages) and with_components and (wrong or d.where.endswith("/values"))


def nothing_left(d):
    """All names removed from a block without rows: `_`, as in other blocks, not no names."""
    names = [d.args[1]] if isinstance(d.args[1], str) else d.args[1]
    axis = "samples" if "samples" in d.function else "properties"
    empty = any(
        not len(block[axis]["values"]) and set(block[axis]["names"]) <= set(names)
        for block in d.blocks
    )
    same = f"all blocks must have the same {axis.removesuffix('s')}"
    if axis == "properties":
        same = "all blocks must have the same property"
    raises = d.only_theirs and d.theirs_raises("MetatensorError", same)
    return empty and (raises or d.where.endswith((f"{axis}/names", f"{axis}/values")))


def sort_keeps_argument(d):
    return d.where == "their arguments" and isinstance(d.kwargs.get("axes"), list)


def sort_without_rows(d):
    """Checked by `check_sort`, which compares contents and looks at the order."""
    axes = [axis["values"] for part in d.parts for axis in (part["samples"], part["properties"])]
    bare = any(not len(table) for table in axes)
    mistakes = [("IndexError", "too many indices"), ("MetatensorError", "already exists")]
    raises = d.only_theirs and any(d.theirs_raises(*mistake) for mistake in mistakes)
    return bare and (raises or d.where.endswith("/values"))


def component_order(d):
    """Checked by `check_content`."""
    names = [axis["names"][0] for axis in d.blocks[0]["components"]] if d.blocks else []
    moved = [d.args[1]] if isinstance(d.args[1], str) else d.args[1]
    follow = [len(names) - 1 - names.index(name) for name in moved if name in names]
    return d.where.endswith("/values") and any(count >= 2 for count in follow)


def joined_columns(d):
    """Checked by `check_join`."""
    parts = [block for part in d.args[0] for block in blocks_of(part)]
    names = {tuple(part["samples"]["names"]) for part in parts}
    return d.args[1] == "samples" and len(names) > 1 and "/samples/values" in d.where


def union_of_names(d):
    return d.only_theirs and d.theirs_raises("MetatensorError", "same property dimensions")


def several_mistakes(d):
    texts = ["`add_dimension` can not be used", "the names of Labels must be unique"]
    texts += ["`X` of `solve` must", "is not a dimension of these Labels", "must be unique, got"]
    texts += [
        "the samples differ",
        "the components differ",
        "`index` must be",
        "`axis` must be",
        "`axes` must be",
        "`values` must be",
        "`different_keys` must be",
        "must be in",
    ]
    found = d.ours["error"]["text"] if "error" in d.ours else ""
    functions = (
        "join",
        "split",
        "slice",
        "insert",
        "sort",
        "append",
        "permute",
        "rename",
        "remove",
        "solve",
        "unique",
    )
    return (
        d.where == "kind of error" and d.takes(*functions) and any(text in found for text in texts)
    )


def repeated(d):
    """Positions that occur twice give rows twice, each with its gradient."""
    lists = d.args[2] if d.takes("split") else [d.args[2]]
    positions = [part for part in lists if isinstance(part, (list, np.ndarray))]
    twice = any(len(set(part)) < len(part) or min(part, default=0) < 0 for part in positions)
    return twice and (d.where == "result" or "/samples/" in d.where or "/gradients/" in d.where)


def not_positions(d):
    return (
        d.where == "error"
        and d.ours_raises("TypeError")
        and (
            "must be integers" in d.ours["error"]["text"]
            or "boolean mask" in d.ours["error"]["text"]
        )
    )


def checked_always(d):
    """Mistakes in arguments are found in maps without blocks, and with one tensor, too."""
    few = is_data(d.whole, "map") and not d.blocks
    if d.takes("join") and isinstance(d.whole, (list, tuple)):
        few = len(d.whole) == 1 or any(not blocks_of(part) for part in d.whole if is_data(part))
        few |= d.kwargs.get("different_keys") == "intersection"
    early = few or d.takes("equal_metadata")
    return (
        d.where in ("error", "kind of error") and early and d.ours_raises("TypeError", "ValueError")
    )


def fill_that_fits(d):
    return (
        d.where == "error"
        and d.ours_raises("ValueError")
        and d.takes(".keys_to")
        and ("`fill_value` must fit" in d.ours["error"]["text"])
    )


def random_integers(d):
    integers = d.blocks and d.blocks[0]["values"].dtype.kind in "iub"
    return integers and d.takes("random_uniform_like") and d.ours_raises("ValueError")


def not_an_array(d):
    return (
        d.takes("block_from_array") and d.where == "kind of error" and d.ours_raises("ValueError")
    )


def no_names(d):
    none = (
        d.takes("unique_metadata") and isinstance(d.args[2], (str, list, tuple)) and not d.args[2]
    )
    return none and d.ours_raises("ValueError")


def not_linear(d):
    """Gradients of gradients are refused first."""
    return d.where == "kind of error" and d.ours_raises("NotImplementedError") and nested(d.whole)


def scalars(d):
    """0-d arrays, numbers of numpy other than float64, and `number + tensor`."""
    numbers = [arg for arg in d.args if not is_data(arg)]
    arithmetic = d.takes("add", "subtract", "multiply", "divide", "pow", "operator.")
    return (
        arithmetic
        and d.only_theirs
        and d.theirs_raises("TypeError")
        and all(
            np.ndim(number) == 0
            and isinstance(number, (int, float, complex, np.generic, np.ndarray))
            for number in numbers
        )
    )


def operators(d):
    """So that other things can be wrong with the operands."""
    return d.where == "kind of error" and d.theirs_raises("TypeError", "unsupported operand")


def equal_to_other_types(d):
    kinds = ["AttributeError", "ValueError", "TypeError"]
    false = "result" in d.ours and d.ours["result"] is (d.function == "operator.ne")
    types = {arg["kind"] if is_data(arg) else type(arg).__name__ for arg in d.args}
    return d.only_theirs and false and raised(d.theirs, kinds) and types not in ({"map"}, {"block"})


def gradient_dtype(d):
    text = "the gradient values have dtype"
    return (
        d.only_theirs
        and d.theirs_raises("MetatensorError", text)
        and (d.blocks[0]["values"].dtype.kind in "iu")
    )


def no_values(d):
    """Arithmetic with gradients of blocks without properties, or the like."""
    empty = any(not part["values"].size for part in d.parts)
    return (
        empty
        and "error" in d.where
        and d.theirs_raises("ValueError", "cannot reshape array of size 0")
    )


def complex_absolute_value(d):
    """Compared with differences in `check_abs`."""
    complex_values = d.blocks and d.blocks[0]["values"].dtype.kind == "c"
    zero = any((block["values"] == 0).any() for block in d.blocks)
    return complex_values and ("/gradients/" in d.where or (d.where == "warnings" and zero))


def nested_kept(d):
    return d.where.endswith("/gradients") and d.what.endswith("and []") and nested(d.whole)


def only_dimension(d):
    text = "the only dimension"
    return (
        d.takes("remove_dimension")
        and d.ours_raises("MetatensorError")
        and (text in d.ours["error"]["text"] and any(not p["values"].size for p in d.parts))
    )


def names_are_text(d):
    """Names that a block does not have are ignored, what is no name is not."""
    return (
        d.takes("sum_", "mean_", "var_", "std_")
        and "error" in d.where
        and (d.ours_raises("TypeError") and "must be a str" in d.ours["error"]["text"])
    )


DESIGN, RULE = "intended", "rule here"
BUG, FOUND = "known mistake there", "mistake there"
SELECT = ("slice", "split")

# (kind, what is right, predicate)
EXPECTED = [
    (RULE, "`info` is inherited, where the other drops it", inherited),
    (RULE, "a wrong type is a TypeError, not whatever fails first", wrong_type),
    (DESIGN, "one function takes maps and blocks", either_kind),
    (RULE, "linear and structural operations carry gradients of gradients", linear_nested),
    (DESIGN, "gradients of averages count all samples of a group", average_gradients),
    (
        BUG,
        "averages of float32 and of integers have one dtype, and gradients the same",
        dtype_of_averages,
    ),
    (
        BUG,
        "averages over properties with components divide along the last axis",
        averages_with_components,
    ),
    (RULE, "all dimensions removed gives `_`, in blocks without rows too", nothing_left),
    (BUG, "sort does not change its list of axes", sort_keeps_argument),
    (BUG, "blocks and gradients without rows are sorted", sort_without_rows),
    (BUG, "components that follow the moved one keep their order", component_order),
    (BUG, "samples whose names are permuted are joined by name", joined_columns),
    (
        RULE,
        "the union of keys with different property names: numbered in all blocks",
        union_of_names,
    ),
    (RULE, "several mistakes in one call: another one is named", several_mistakes),
    (RULE, "a position given twice takes the gradients twice", repeated),
    (RULE, "positions must be integers", not_positions),
    (
        RULE,
        "arguments are checked first, and for maps without blocks and single tensors",
        checked_always,
    ),
    (RULE, "maps without blocks are handled", no_blocks),
    (FOUND, "squared deviations of integers are not rounded down", integer_variance),
    (FOUND, "averages of integers are float64 in blocks without rows too", integer_average),
    (FOUND, "gradients are reduced also without properties", gradients_without_properties),
    (RULE, "sums of bool are refused, and averages are numbers", truth_values),
    (RULE, "numbers that are not finite stay so, without warnings in reductions", not_finite),
    (FOUND, "one name as text is one axis, whatever its length", one_text),
    (RULE, "with equal numbers the gradient of std is rounding", rounding_of_zero),
    (RULE, "integers that do not fit in their dtype are an error", small_integers),
    (DESIGN, "integers out of int32 are an error", large_constant),
    (DESIGN, "numbers of numpy are numbers", numbers_of_numpy),
    (RULE, "joined values have the dtype that holds all of them", joined_dtype),
    (DESIGN, "an array and a map do not make an array of objects", arrays_of_objects),
    (RULE, "the gradient of A ** 0 is zero, also where A is zero", zero_power),
    (
        FOUND,
        "short integers do not overflow in averages and gradients of quotients",
        short_integers,
    ),
    (RULE, "integers count as float64 next to floating point numbers", integers_with_floats),
    (RULE, "comparisons look at gradients of gradients", nested_compared),
    (RULE, "powers of complex zeros, which are not finite, warn", complex_zero_power),
    (RULE, "torch has no gradients with respect to integers", torch_gradients),
    (DESIGN, "reflected operators, and numbers of numpy", scalars),
    (DESIGN, "blocks have the operators of maps, and numbers can come first", operators),
    (DESIGN, "`==` with another type is False", equal_to_other_types),
    (FOUND, "integers with gradients and a number give float64 for both", gradient_dtype),
    (FOUND, "gradients of blocks without values are broadcast", no_values),
    (
        RULE,
        "the gradient of a complex absolute value is Re(conj(A) grad A) / |A|",
        complex_absolute_value,
    ),
    (RULE, "dimensions change, and gradients of gradients stay", nested_kept),
    (RULE, "the only dimension is never removed, without rows either", only_dimension),
    (RULE, "the variance of complex numbers is real, as in numpy", complex_variance),
    (RULE, "a fill value must fit in the dtype of the values", fill_that_fits),
    (RULE, "there are no random integers in [0, 1)", random_integers),
    (RULE, "what is no array is a ValueError, as for a TensorBlock", not_an_array),
    (RULE, "the unique rows of no dimensions are an error, not a row without names", no_names),
    (RULE, "gradients of gradients are refused before anything else", not_linear),
    (RULE, "names that are not text are a TypeError for blocks too", names_are_text),
]
FUNCTIONS = {
    equal_to_other_types: ("operator.eq", "operator.ne"),
    joined_dtype: ("join",),
    one_text: ("block_from_array",),
    complex_absolute_value: ("abs",),
    component_order: (".components_to_properties",),
    joined_columns: ("join",),
    union_of_names: ("join",),
    sort_keeps_argument: ("sort",),
    sort_without_rows: ("sort",),
    nothing_left: ("sum_", "mean_", "var_", "std_"),
    repeated: SELECT,
    not_positions: SELECT,
}


def explain(step, ours, theirs, where, what):
    """Return why a difference is expected, or None."""
    difference = Difference(step, ours, theirs, where, what)
    for source, reason, holds in EXPECTED:
        if difference.takes(*FUNCTIONS.get(holds, ("",))) and holds(difference):
            return f"{source}: {reason}"
    return None
