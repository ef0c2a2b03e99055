"""Random calls of operations, as plain data, for `differential.py`.

A case is a list of steps, each with the name of a function and its arguments. Arguments of later
steps refer to results of earlier ones. Case `number` of `seed` is always the same.
"""

import copy

import numpy as np
from differential_data import (
    COMPONENTS,
    DTYPES,
    PARAMETERS,
    PROPERTIES,
    SAMPLES,
    Maker,
    blocks_of,
    gradients_of,
    some_block,
    varied,
)

REDUCTIONS = ["sum", "mean", "var", "std"]
ELEMENTWISE = ["add", "subtract", "multiply", "divide"]
LIKE = ["empty_like", "zeros_like", "ones_like", "random_uniform_like"]
# mostly wrong, as any argument
WRONG = [None, "nothing", 3.5, -1, 7, (), [], [None], ["nothing"], ("atom",), np.zeros(2), True]


# ---- arguments of each function


def arithmetic(maker, function):
    scalars = [2, -1.5, 0, 0.0, 1, True, 3, np.float64(0.5), 1e-3]
    first = maker.whole(function, maker.form(style="positive" if maker.chance(0.3) else None))
    if maker.chance(0.35):
        return [
            first,
            maker.pick([np.float32(2), np.int64(3), 1j, "x", None, np.array(2.0)])
            if maker.chance(0.15)
            else maker.pick(scalars),
        ], {}
    second = maker.renewed(first, "positive" if maker.chance(0.6) else None)
    return [first, varied(maker, second) if maker.chance(0.35) else second], {}


def power(maker, function):
    first = maker.whole(function, maker.form(style="positive" if maker.chance(0.5) else None))
    exponent = maker.pick([2, 0.5, -1, 3, 0, 1, 2.0, 1.5, True, -0.5, np.float64(2)])
    return [first, first if maker.chance(0.05) else exponent], {}


def only(maker, function):
    return [maker.whole(function)], {}


def pair(maker, function):
    first = maker.whole(function)
    second = first if maker.chance(0.3) else varied(maker, first)
    return [first, second], {}


def close(maker, function):
    args, kwargs = pair(maker, function)
    if maker.chance(0.5):
        kwargs = {"rtol": maker.pick([1e-13, 1e-7, 0.0]), "atol": maker.pick([1e-12, 1e-6, 0])}
    if maker.chance(0.4):
        kwargs["equal_nan"] = maker.chance(0.7)
        for whole in args:
            for block in blocks_of(whole)[:1]:
                if block["values"].size and block["values"].dtype.kind in "fc":
                    block["values"].reshape(-1)[0] = np.nan
    return args, kwargs


def metadata(maker, function):
    args, kwargs = pair(maker, function)
    if maker.chance(0.6):
        axes = maker.some(["samples", "components", "properties"])
        choices = [axes, axes, tuple(axes), "all", "samples", ["keys"], ["nothing"]]
        kwargs["check"] = maker.pick(choices)
    if maker.chance(0.4):
        kwargs["check_gradients"] = maker.chance(0.5)
    return args, kwargs


def dot(maker, function):
    form = maker.form(empty=0.04)
    first = maker.map(form)
    other = maker.form(
        properties=form["properties"], components=[], gradients={}, empty=0.04, dtype=form["dtype"]
    )
    if maker.chance(0.1):
        other = maker.form(properties=form["properties"], dtype=form["dtype"])
    second = copy.deepcopy(first)
    second["blocks"] = [maker.block(other, properties=b["properties"]) for b in first["blocks"]]
    if maker.chance(0.3):
        second = varied(maker, second)
    return [first, second], {}


def least_squares(maker, function):
    form = maker.form(
        style="normal",
        dtype=maker.pick(["float64"] * 4 + ["float32", "complex128", "int64"]),
        nested=0.0,
        empty=0.01,
    )
    X = maker.map(form)
    Y = copy.deepcopy(X)
    for block in Y["blocks"]:
        properties = maker.labels(["y", "z"], maker.integer(1, 3))
        for part in [block, *gradients_of(block)]:
            part["properties"] = properties
            shape = (*part["values"].shape[:-1], len(properties["values"]))
            part["values"] = maker.numbers(shape, form["dtype"], "normal")
    if maker.chance(0.25):
        Y = varied(maker, Y)
    return [X, Y], {"rcond": maker.pick([1e-10, 1e-10, 1e-10, None])}


def solve(maker, function):
    # upstream refuses gradients, as theirs have other properties
    form = maker.form(
        style="normal",
        components=[],
        empty=0.0,
        gradients={},
        dtype=maker.pick(["float64", "float64", "float32", "complex128", "int64"]),
    )
    X = maker.map(form)
    for position, block in enumerate(X["blocks"]):
        if maker.chance(0.93):
            size = maker.integer(1, 4)
            properties = maker.labels(form["properties"], size)
            size = len(properties["values"])
            samples = maker.labels(form["samples"], size)
            properties["values"] = properties["values"][: len(samples["values"])]
            block = maker.block(form, samples=samples, properties=properties)
            if maker.chance(0.03):
                block["values"][:] = 1
            X["blocks"][position] = block
    Y = copy.deepcopy(X)
    for block in Y["blocks"]:
        properties = maker.labels(["y"], maker.integer(1, 3))
        block["properties"] = properties
        shape = (len(block["values"]), len(properties["values"]))
        block["values"] = maker.numbers(shape, form["dtype"], "normal")
    return [X, varied(maker, Y) if maker.chance(0.25) else Y], {}


def join(maker, function):
    axis = maker.pick(["samples", "properties"])
    form = maker.form()
    keep = "properties" if axis == "samples" else "samples"
    parts, first = [], maker.map(form, least=1)
    for _ in range(maker.pick([1, 2, 2, 2, 3, 4])):
        part = copy.deepcopy(first)
        own = dict(form)
        if maker.chance(0.15) and axis == "properties":
            own["properties"] = maker.some(PROPERTIES, 1, 2)
        part["blocks"] = [
            maker.block(own, components=b["components"], **{keep: b[keep]}) for b in first["blocks"]
        ]
        part["info"] = {}
        if maker.chance(0.3) and len(part["blocks"]) > 1:
            part["keys"]["values"] = np.delete(part["keys"]["values"], 0, axis=0)
            del part["blocks"][0]
        parts.append(varied(maker, part) if maker.chance(0.12) else part)
    kwargs = {}
    if maker.chance(0.65):
        kwargs["add_dimension"] = maker.pick(["tensor", "tensor", "tensor", "part", "atom", "n"])
    if function == "join_blocks":
        parts = [part["blocks"][0] for part in parts if part["blocks"]]
    elif maker.chance(0.7):
        choices = ["union"] * 6 + ["intersection"] * 4 + ["error"] * 2 + ["all"]
        kwargs["different_keys"] = maker.pick(choices)
    if maker.chance(0.1):
        parts = maker.pick([tuple(parts), [], parts[:1], [*parts, None], parts[0]])
    return [parts, axis if maker.chance(0.97) else maker.pick(["keys", "components", 3])], kwargs


def reduction(maker, function):
    axis = "samples" if "samples" in function else "properties"
    whole = maker.whole(function)
    return [whole, maker.names(whole, axis)], {}


def chosen(maker, whole, axis):
    """Return something that selects on an axis."""
    block = maker.pick(blocks_of(whole)) if blocks_of(whole) else None
    labels = block[axis] if block else maker.labels(["system"], 2)
    names, size = labels["names"], len(labels["values"])
    kind = maker.pick(["same"] * 3 + ["subset"] * 3 + ["list", "list", "array", "wrong"])
    if kind == "same":
        rows = labels["values"][maker.rng.permutation(size)[: maker.integer(0, size)]]
        other = maker.labels(names, maker.integer(0, 4))["values"]
        return {
            "kind": "labels",
            "names": names,
            "values": np.unique(np.concatenate([rows, other]), axis=0)[::-1],
        }
    if kind == "subset":
        return maker.labels(maker.some(names, 0), maker.integer(0, 4))
    if kind == "wrong":
        return maker.pick(
            [
                maker.labels(["nothing"], 2),
                (0, 1),
                0,
                "atom",
                np.zeros((2, 1), int),
                [0.5],
                [99],
                [-1],
                np.array([True, False]),
                None,
                [],
                np.zeros(1),
            ]
        )
    positions = [maker.integer(-size, size - 1) for _ in range(maker.integer(0, 4) if size else 0)]
    if maker.chance(0.8):
        positions = list(dict.fromkeys(position % size for position in positions))
    return positions if kind == "list" else np.array(positions, dtype=maker.pick([int, np.int32]))


def taking(maker, function):
    whole, axis = maker.whole(function), maker.pick(["samples", "properties"])
    return [whole, axis if maker.chance(0.98) else "keys", chosen(maker, whole, axis)], {}


def parting(maker, function):
    whole, axis = maker.whole(function), maker.pick(["samples", "properties"])
    parts = [chosen(maker, whole, axis) for _ in range(maker.integer(0, 3))]
    if maker.chance(0.03):
        parts = tuple(parts)
    return [whole, axis if maker.chance(0.97) else maker.pick(["keys", 3]), parts], {}


def block_choice(maker, function):
    whole = maker.map()
    rows, names = whole["keys"]["values"], whole["keys"]["names"]
    count = maker.integer(1, len(names))
    names = names[:count] if maker.chance(0.6) else maker.some(names, 0)
    keys = maker.labels(names, maker.integer(0, 4), spread=3)
    if maker.chance(0.4):
        chosen_rows = rows[maker.rng.permutation(len(rows))[: maker.integer(0, len(rows))]]
        keys = {"kind": "labels", "names": whole["keys"]["names"], "values": chosen_rows}
    if maker.chance(0.06):
        keys = maker.labels(["nothing"], 1)
    return [whole, keys], copying(maker)


def copying(maker):
    return {"copy": maker.pick([True, False, True, False, 1])} if maker.chance(0.4) else {}


def drop_empty(maker, function):
    return [maker.map(maker.form(empty=0.3))], copying(maker)


def sorting(maker, function):
    kwargs = {}
    if maker.chance(0.6):
        axes = ["samples", "components", "properties", "keys"]
        choices = [*axes, "all", maker.some(axes), maker.some(axes), maker.some(axes)]
        kwargs["axes"] = maker.pick([*choices, ("samples",), "nothing", ["nothing"]])
    if maker.chance(0.4):
        kwargs["descending"] = maker.chance(0.7)
    return [maker.whole(function)], kwargs


def like(maker, function):
    kwargs = {}
    if maker.chance(0.6):
        names = maker.some(PARAMETERS)
        kwargs["gradients"] = maker.pick([names, names, "positions", [], None, "nothing"])
    return [maker.whole(function)], kwargs


def from_array(maker, function):
    sizes = [maker.integer(0 if maker.chance(0.05) else 1, 3) for _ in range(maker.integer(1, 5))]
    shape = tuple(sizes)
    kwargs = {}
    middle = max(0, len(shape) - 2)
    for axis, choices in (("sample", SAMPLES), ("property", PROPERTIES), ("component", COMPONENTS)):
        if maker.chance(0.45):
            exact = (middle, middle) if axis == "component" and maker.chance(0.8) else (0, 2)
            names = maker.some(choices, *exact)
            middle -= len(names) - 1
            one = len(names) == 1 and maker.chance(0.3)
            kwargs[f"{axis}_names"] = names[0] if one else names
    return [maker.numbers(shape, maker.pick(DTYPES))], kwargs


def one_hot(maker, function):
    labels = maker.labels(maker.some(SAMPLES, 1, 2), maker.integer(0, 5))
    dimension = maker.labels([maker.pick(labels["names"])], maker.integer(3, 5))
    if maker.chance(0.1):
        dimension = maker.labels(maker.some([*SAMPLES, "nothing"], 1, 2), 4)
    return [labels, dimension], {}


def unique(maker, function):
    whole, axis = maker.whole(function), maker.pick(["samples", "properties"])
    block, kwargs = some_block(whole), {}
    names = maker.names(whole, axis)
    if block and block["gradients"] and maker.chance(0.5):
        kwargs["gradient"] = maker.pick([*block["gradients"], "nothing"])
        gradient = block["gradients"].get(kwargs["gradient"])
        names = maker.some(gradient[axis]["names"], 1) if gradient else names
    axis = axis if maker.chance(0.95) else maker.pick(["components", "keys", 3])
    return [whole, axis, names], kwargs


def removing(maker, function):
    kwargs = {"remove": maker.some(PARAMETERS)} if maker.chance(0.7) else {}
    return [maker.whole(function)], kwargs


def axis_of(maker):
    axes = ["keys", "samples", "properties"]
    return maker.pick(axes) if maker.chance(0.94) else maker.pick(["components", "nothing", 3])


def names_on(whole, axis):
    if axis == "keys":
        return whole["keys"]["names"]
    block = some_block(whole)
    if block is None or axis not in ("samples", "properties"):
        return block["components"][0]["names"] if block and block["components"] else ["nothing"]
    return block[axis]["names"]


def added(maker, whole, axis):
    """Return the name and values of a new dimension."""
    block = some_block(whole)
    sizes = {"keys": len(whole["keys"]["values"])}
    if block:
        sizes |= {part: len(block[part]["values"]) for part in ("samples", "properties")}
    size = sizes.get(axis, 2)
    values = maker.pick([1, -3, maker.rng.integers(-2, 3, size), maker.rng.integers(0, 3, size)])
    if maker.chance(0.1):
        wrong = [[0] * size, np.int64(1), 0.5, np.zeros(size), 2**40, np.zeros((size, 1), int)]
        values = maker.pick(wrong)
    fresh = maker.pick(["fresh", "fresh", "fresh", "sample", "not valid", names_on(whole, axis)[0]])
    return [fresh, values]


def append(maker, function):
    whole, axis = maker.map(), axis_of(maker)
    return [whole, axis, *added(maker, whole, axis)], {}


def insert(maker, function):
    whole, axis = maker.map(), axis_of(maker)
    return [whole, axis, maker.pick([0, 0, 0, 1, -1, 2, -2, 3, -3]), *added(maker, whole, axis)], {}


def permute(maker, function):
    whole, axis = maker.map(), axis_of(maker)
    size = len(names_on(whole, axis))
    order = maker.rng.permutation(size).tolist()
    if maker.chance(0.2):
        negative = [-1 - position for position in order]
        order = maker.pick([order[1:], [*order, 0], negative, [0] * size, [size] * size])
    return [whole, axis, order], {}


def remove(maker, function):
    # dimensions that can go without making rows the same
    whole, axis = maker.map(), axis_of(maker)
    name = maker.pick([*names_on(whole, axis), "nothing"])
    if maker.chance(0.6) and axis in ("samples", "properties"):
        for block in blocks_of(whole):
            for part in [block, *gradients_of(block)] if axis == "properties" else [block]:
                names = [*part[axis]["names"], "extra"]
                table = np.pad(part[axis]["values"], ((0, 0), (0, 1)), constant_values=4)
                part[axis] = {"kind": "labels", "names": names, "values": table}
        name = "extra"
    return [whole, axis, name], {}


def rename(maker, function):
    whole, axis = maker.map(), axis_of(maker)
    names = names_on(whole, axis)
    old = maker.pick([*names, *names, "nothing", "atom", "sample"])
    return [whole, axis, old, maker.pick(["fresh", "fresh", "sample", "not valid", names[-1]])], {}


def moving(maker, function):
    whole = maker.map(maker.form(nested=0.01))
    names = maker.some(whole["keys"]["names"], maker.pick([0, 1, 1, 1]))
    moved = names[0] if len(names) == 1 and maker.chance(0.5) else names
    if maker.chance(0.15):
        size = maker.integer(0, 3) if function.endswith("properties") else maker.pick([0, 0, 0, 2])
        moved = maker.labels(names or ["a"], size, spread=3)
    kwargs = {"sort_samples": maker.chance(0.5)} if maker.chance(0.5) else {}
    if maker.chance(0.2):
        kwargs["fill_value"] = maker.pick([0.0, -1, 2.5, None, np.nan])
    return [whole, "nothing" if maker.chance(0.03) else moved], kwargs


def component_moving(maker, function):
    whole = maker.map(maker.form(components=maker.some(COMPONENTS, 1)))
    block = some_block(whole)
    names = [axis["names"][0] for axis in block["components"]] if block else ["m"]
    names = maker.some(names, maker.pick([0, 1, 1, 1, 1, 1]))
    return [whole, names[0] if len(names) == 1 and maker.chance(0.5) else names], {}


def binary_operator(maker, function):
    args, kwargs = arithmetic(maker, function)
    if maker.chance(0.1):
        args = args[::-1]
    if maker.chance(0.1):
        args = [(isinstance(part, dict) and some_block(part)) or part for part in args]
    return args, kwargs


ARGUMENTS = {
    **{name: arithmetic for name in ELEMENTWISE},
    "pow": power,
    "abs": only,
    **{
        f"{name}_over_{axis}{twin}": reduction
        for name in REDUCTIONS
        for axis in ("samples", "properties")
        for twin in ("", "_block")
    },
    **{f"equal{twin}": pair for twin in ("", "_raise", "_block", "_block_raise")},
    **{f"allclose{twin}": close for twin in ("", "_raise", "_block", "_block_raise")},
    **{f"equal_metadata{twin}": metadata for twin in ("", "_raise", "_block", "_block_raise")},
    "dot": dot,
    "lstsq": least_squares,
    "solve": solve,
    "join": join,
    "join_blocks": join,
    **{name: taking for name in ("slice", "slice_block")},
    **{name: parting for name in ("split", "split_block")},
    **{name: block_choice for name in ("drop_blocks", "filter_blocks")},
    "drop_empty_blocks": drop_empty,
    **{name: sorting for name in ("sort", "sort_block")},
    **{
        f"{name}{twin}": only
        for name in ("is_contiguous", "make_contiguous", "detach", "requires_grad")
        for twin in ("", "_block")
    },
    **{f"{name}{twin}": like for name in LIKE for twin in ("", "_block")},
    "block_from_array": from_array,
    "one_hot": one_hot,
    **{name: unique for name in ("unique_metadata", "unique_metadata_block")},
    **{name: removing for name in ("remove_gradients", "remove_gradients_block")},
    "append_dimension": append,
    "insert_dimension": insert,
    "permute_dimensions": permute,
    "remove_dimension": remove,
    "rename_dimension": rename,
    ".keys_to_samples": moving,
    ".keys_to_properties": moving,
    ".components_to_properties": component_moving,
    **{f"operator.{name}": binary_operator for name in ("add", "sub", "mul", "truediv")},
    "operator.matmul": dot,
    "operator.pow": power,
    **{f"operator.{name}": only for name in ("neg", "pos")},
    **{f"operator.{name}": pair for name in ("eq", "ne")},
}
# those with more ways to go wrong come more often
WEIGHTS = {"join": 4, "sort": 3, "slice": 3, "split": 2, "lstsq": 2, "dot": 2, "join_blocks": 2}
WEIGHTS |= {f"{name}_over_{axis}": 3 for name in REDUCTIONS for axis in ("samples", "properties")}
FUNCTIONS = [name for name in ARGUMENTS for _ in range(WEIGHTS.get(name, 1))]


# ---- chains


def chain_step(maker, last):
    """Return a call on the result of the step before, which is a map."""
    result = {"kind": "result", "step": last}

    def name(axis):
        return {"kind": "name", "axis": axis, "number": maker.integer(0, 3), "step": last}

    def selection(axis):
        rows = maker.some([-2, -1, 0, 1, 2], 1)
        return {"kind": "selection", "values": rows} | name(axis) | {"kind": "selection"}

    axis = maker.pick(["samples", "properties"])
    calls = {
        "reduce": lambda: (f"{maker.pick(REDUCTIONS)}_over_{axis}", [result, name(axis)]),
        "move": lambda: (f".keys_to_{axis}", [result, name("keys")]),
        "component": lambda: (".components_to_properties", [result, name("components")]),
        "slice": lambda: ("slice", [result, axis, selection(axis)]),
        "sort": lambda: ("sort", [result]),
        "join": lambda: ("join", [[result, result], axis, "error", f"part_{last}"]),
        "scalar": lambda: (maker.pick(ELEMENTWISE), [result, maker.pick([2, -0.5])]),
        "add": lambda: (maker.pick(ELEMENTWISE[:3]), [result, result]),
        "dimension": lambda: ("append_dimension", [result, axis, f"fresh_{last}", 3]),
        "remove": lambda: ("remove_dimension", [result, axis, name(axis)]),
        "abs": lambda: ("abs", [result]),
        "drop": lambda: ("drop_blocks", [result, selection("keys")]),
        "filter": lambda: ("filter_blocks", [result, selection("keys")]),
        "dot": lambda: ("dot", [result, result]),
        "gradients": lambda: ("remove_gradients", [result]),
        "like": lambda: ("ones_like", [result]),
        "contiguous": lambda: ("make_contiguous", [result]),
        "unique": lambda: ("unique_metadata", [result, axis, name(axis)]),
        "pow": lambda: ("pow", [result, 2]),
        "equal": lambda: ("equal_metadata", [result, result]),
    }
    return calls[maker.pick([*["reduce"] * 3, *["move"] * 3, "slice", *calls])]()


def chain(maker):
    first = maker.map(maker.form(nested=0.01, dtype=maker.pick(["float64", "float64", "float32"])))
    name, args = maker.pick(
        [("multiply", [first, 1]), ("remove_gradients", [first, ["x y"]]), (".copy", [first])]
    )
    steps = [step(name, args)]
    for last in range(maker.integer(2, 4)):
        name, args = chain_step(maker, last)
        steps.append(step(name, args))
        if name in ("unique_metadata", "equal_metadata"):
            break
    return steps


def step(function, args, kwargs=None):
    return {"function": function, "args": args, "kwargs": kwargs or {}}


def spoiled(maker, function, args, kwargs):
    """Replace an argument by something else, which is mostly wrong."""
    position = maker.integer(0, len(args) - 1)
    others = [*WRONG, maker.map(), maker.block(maker.form()), maker.labels(["a"], 2)]
    args = list(args)
    args[position] = maker.pick(others)
    return args, kwargs


# names of the arguments, for functions of maps; those of blocks begin with "block"
KEYWORDS = {
    arithmetic: ["A", "B"],
    power: ["A", "B"],
    only: ["tensor"],
    pair: ["tensor_1", "tensor_2"],
    close: ["tensor_1", "tensor_2"],
    metadata: ["tensor_1", "tensor_2"],
    dot: ["tensor_1", "tensor_2"],
    least_squares: ["X", "Y"],
    solve: ["X", "Y"],
    join: ["tensors", "axis"],
    taking: ["tensor", "axis", "selection"],
    parting: ["tensor", "axis", "selections"],
    block_choice: ["tensor", "keys"],
    drop_empty: ["tensor"],
    sorting: ["tensor"],
    like: ["tensor"],
    from_array: ["array"],
    one_hot: ["labels", "dimension"],
    unique: ["tensor", "axis", "names"],
    removing: ["tensor"],
    append: ["tensor", "axis", "name", "values"],
    insert: ["tensor", "axis", "index", "name", "values"],
    permute: ["tensor", "axis", "dimensions_indexes"],
    remove: ["tensor", "axis", "name"],
    rename: ["tensor", "axis", "old", "new"],
}


def keywords(function):
    """Return the names of the arguments of a function."""
    if function == "abs":
        return ["A"]
    if "_over_" in function:
        axis = "sample_names" if "samples" in function else "property_names"
        names = ["tensor", axis]
    else:
        names = KEYWORDS[ARGUMENTS[function]]
    if "_block" in function and not function.endswith("_blocks") or function == "join_blocks":
        names = [name.replace("tensor", "block") for name in names]
    return names


def case(seed, number):
    maker = Maker(seed, number)
    if maker.chance(0.15):
        return {"number": number, "steps": chain(maker)}
    function = maker.pick(FUNCTIONS)
    args, kwargs = ARGUMENTS[function](maker, function)
    if maker.chance(0.06):
        args, kwargs = spoiled(maker, function, args, kwargs)
    made = step(function, args, kwargs)
    if function[0].isalpha() and not function.startswith("operator") and maker.chance(0.1):
        made["keywords"] = keywords(function)
    return {"number": number, "steps": [made]}
