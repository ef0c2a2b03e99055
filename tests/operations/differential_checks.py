"""Results of this package, computed once more or taken apart, for `differential.py`.

All reductions are computed with plain numpy, and their gradients by differences; what moves numbers
must keep the place of each in terms of Labels.
"""

import numpy as np

# ---- reductions, once more


def reduced(block, axis, removed, how):
    """Return the values, the Labels of the axis, and the gradients of a reduction."""
    names, table = block[axis]["names"], block[axis]["values"]
    kept = [position for position, name in enumerate(names) if name not in removed]
    if kept:
        rows, groups = np.unique(table[:, kept], axis=0, return_inverse=True)
        names = [names[position] for position in kept]
    else:
        rows, groups, names = np.zeros((min(1, len(table)), 1)), np.zeros(len(table), int), ["_"]
    groups = groups.reshape(-1)

    values, gradients = block["values"], {}
    if axis == "properties":
        values = np.moveaxis(values, -1, 0)
    x = values.astype(np.result_type(values.dtype, np.float64)) if how != "sum" else values
    for parameter, gradient in block["gradients"].items():
        of = samples_gradient if axis == "samples" else properties_gradient
        gradients[parameter] = of(x, gradient, groups, how)
    parts = [HOW[how](x[groups == group]) for group in range(len(rows))]
    found = np.stack(parts) if parts else np.zeros((0, *x.shape[1:]), x.dtype)
    if axis == "properties":
        found = np.moveaxis(found, 0, -1)
    return found, {"names": names, "values": rows}, gradients


def derivative(x, direction, how, exact):
    """Return the derivative of a function of a group of rows in a direction.

    NaN stands for what is not known: where numbers are equal, a rounded average gives rounding
    divided by rounding.
    """
    if how in ("sum", "mean"):
        return HOW[how](direction)
    # exact but for rounding, as the variance is a polynomial of second degree
    found = (HOW["var"](x + direction) - HOW["var"](x - direction)) / 2
    if how == "var":
        return found
    std = HOW["std"](x)
    rounding = (std != 0) & (std <= 1e-14 * np.abs(x).max(axis=0, initial=0))
    found = np.where(rounding, np.nan, found)
    zero = np.where(np.isfinite(found) & exact, 0, np.nan)
    return np.divide(found, 2 * std, out=zero, where=std != 0)


def is_exact(values):
    return values.dtype.kind not in "fc" or values.real.dtype.itemsize == 8


def samples_gradient(x, gradient, groups, how):
    table = gradient["samples"]["values"]
    new = np.concatenate([groups[table[:, :1]], table[:, 1:]], axis=1)
    rows, places = np.unique(new, axis=0, return_inverse=True)
    extra = gradient["values"].shape[1 : gradient["values"].ndim - x.ndim + 1]
    exact = is_exact(gradient["values"])
    found = np.zeros((len(rows), *extra, *x.shape[1:]), x.dtype)
    for place, row in enumerate(rows):
        members = np.flatnonzero(groups == row[0])
        parts = np.flatnonzero(places.reshape(-1) == place)
        for component in np.ndindex(*extra):
            direction = np.zeros_like(x[members])
            for number in parts:
                position = np.searchsorted(members, table[number, 0])
                direction[position] += gradient["values"][(number, *component)]
            found[(place, *component)] = derivative(x[members], direction, how, exact)
    return rows, found


def properties_gradient(x, gradient, groups, how):
    table, size = gradient["samples"]["values"], gradient["values"].ndim - x.ndim
    extra = gradient["values"].shape[1 : size + 1]
    n_groups, exact = int(groups.max(initial=-1)) + 1, is_exact(gradient["values"])
    found = np.zeros((len(table), *extra, *x.shape[2:], n_groups), x.dtype)
    for number, row in enumerate(table):
        for component in np.ndindex(*extra):
            direction = np.moveaxis(gradient["values"][(number, *component)], -1, 0)
            for group in range(n_groups):
                members = groups == group
                change = derivative(x[members][:, row[0]], direction[members], how, exact)
                found[(number, *component)][..., group] = change
    return table, found


HOW = {
    "sum": lambda x: x.sum(axis=0, dtype=x.dtype),
    "mean": lambda x: x.mean(axis=0),
    "var": lambda x: (np.abs(x - x.mean(axis=0)) ** 2).mean(axis=0),
    "std": lambda x: np.sqrt((np.abs(x - x.mean(axis=0)) ** 2).mean(axis=0)),
}


def check_reduction(step, outcome):
    how, axis = step["function"].removesuffix("_block").split("_over_")
    whole, names = outcome["given"][0]
    names = [names] if isinstance(names, str) else names
    for number, (block, result) in enumerate(zip(blocks_of(whole), blocks_of(outcome["result"]))):
        if how in ("sum", "mean"):
            yield from check_nested(how, axis, block, names, result)
        values, labels, gradients = reduced(block, axis, names, how)
        where = f"reference of block {number}"
        if result[axis]["names"] != labels["names"]:
            yield where, f"{axis} names {labels['names']}"
        elif not np.array_equal(result[axis]["values"], labels["values"]):
            yield where, f"{axis} {labels['values']}"
        elif not near(result["values"], values):
            yield where, f"values {values} but got {result['values']}"
        for parameter, (rows, found) in gradients.items():
            gradient = result["gradients"][parameter]
            if not np.array_equal(gradient["samples"]["values"], rows):
                yield f"{where}, gradient {parameter}", f"rows {rows}"
            elif not near(gradient["values"], found):
                yield f"{where}, gradient {parameter}", f"{found} but got {gradient['values']}"


def check_nested(how, axis, block, removed, result):
    """Gradients of gradients are reduced with the weights of linear reductions."""
    _, labels, gradients = reduced(block, axis, removed, "sum")
    kept = [p for p, name in enumerate(block[axis]["names"]) if name not in removed]
    table = block[axis]["values"][:, kept]
    groups = [labels["values"].tolist().index(row) if kept else 0 for row in table.tolist()]
    counts = np.bincount(groups, minlength=len(labels["values"])) if groups else np.zeros(0)
    weights = 1 / counts if how == "mean" else np.ones(len(counts))
    for parameter, gradient in block["gradients"].items():
        for name, nested in gradient["gradients"].items():
            other = result["gradients"][parameter]["gradients"][name]
            wanted = {}
            for row, values in zip(nested["samples"]["values"].tolist(), nested["values"]):
                place = gradient["samples"]["values"][row[0]].tolist()
                if axis == "samples":
                    group = groups[place[0]]
                    rows = gradients[parameter][0].tolist()
                    key = (rows.index([group, *place[1:]]), *row[1:])
                    wanted[key] = wanted.get(key, 0) + values * weights[group]
                else:
                    parts = [values[..., np.array(groups) == g].sum(-1) for g in range(len(counts))]
                    wanted[tuple(row)] = np.stack(parts, -1) * weights if parts else values
            found = dict(zip(map(tuple, other["samples"]["values"].tolist()), other["values"]))
            if found.keys() != wanted.keys() or not all(
                near(found[key], np.asarray(wanted[key])) for key in wanted
            ):
                yield f"nested gradient {parameter}/{name}", f"{wanted} but got {found}"


def near(found, wanted, relative=1e-11):
    """Compare what is finite; numbers that are not are compared with the other package's."""
    if found.shape != wanted.shape:
        return False
    finite = np.isfinite(wanted)
    precision = {2: 0.05, 4: 1e-4}.get(found.real.dtype.itemsize, relative)
    scale = max(1, np.abs(wanted, where=finite, out=np.zeros(wanted.shape)).max(initial=0))
    with np.errstate(invalid="ignore"):
        return not np.any(finite & ~(np.abs(found - wanted) <= precision * scale))


def is_data(value, *kinds):
    return isinstance(value, dict) and value["kind"] in (kinds or ("map", "block"))


def blocks_of(data):
    return data["blocks"] if data["kind"] == "map" else [data]


# ---- numbers by the names and values of everything around them


def content(whole):
    """Return {place: number}, where the order of rows, of columns and of axes does not count.

    There are no places if axes share names.
    """
    found = {}
    for block in blocks_of(whole)[:1]:
        names = [
            axis["names"] for axis in (block["samples"], *block["components"], block["properties"])
        ]
        if len(set(sum(names, []))) < len(sum(names, [])):
            return found
    if whole["kind"] == "block":
        add_content(found, frozenset(), whole, places(whole["samples"]))
    else:
        rows = places(whole["keys"])
        for key, block in zip(rows, whole["blocks"]):
            add_content(found, key, block, places(block["samples"]))
    return found


def add_content(found, key, block, samples):
    axes = [places(axis) for axis in [*block["components"], block["properties"]]]
    for position, number in np.ndenumerate(block["values"]):
        place = key | samples[position[0]]
        place = place.union(*(axis[entry] for axis, entry in zip(axes, position[1:])))
        found[place] = number.item()
    for parameter, gradient in block["gradients"].items():
        table, names = gradient["samples"]["values"], gradient["samples"]["names"]
        rows = [
            samples[row[0]]
            | {("row", parameter, name, entry) for name, entry in zip(names[1:], row[1:])}
            for row in table.tolist()
        ]
        add_content(found, key | {("gradient", parameter)}, gradient, rows)


def places(labels):
    return [frozenset(zip(labels["names"], row)) for row in labels["values"].tolist()]


def same_content(first, second):
    return first.keys() == second.keys() and all(
        number == second[place] or number != number for place, number in first.items()
    )


def check_content(step, outcome):
    if not same_content(content(outcome["given"][0][0]), content(outcome["result"])):
        yield "content", "is not what was given"


def check_join(step, outcome):
    """What was given is there, and the rest is zero; if names and keys stay as they are."""
    parts, result = outcome["given"][0][0], outcome["result"]
    options = dict(zip(step["kwargs"], outcome["given"][1]))
    names = some_names(result)
    if options.get("add_dimension") or not names or any(some_names(p) != names for p in parts):
        return
    keys = places(result["keys"])
    wanted = {
        place: number
        for part in parts
        for place, number in content(part).items()
        if any(key <= place for key in keys)
    }
    found = content(result)
    if any(found[place] for place in found.keys() - wanted.keys()) or any(
        found.get(place) != number for place, number in wanted.items() if number == number
    ):
        yield "content", "is not what was given"


def some_names(whole):
    """Return the names of all properties of a map, in any order of the samples."""
    if not is_data(whole, "map"):
        return None
    return [(set(b["samples"]["names"]), b["properties"]["names"]) for b in whole["blocks"][:1]]


def check_sort(step, outcome):
    yield from check_content(step, outcome)
    args = dict(zip(step["kwargs"], outcome["given"][1]))
    axes = args.get("axes", "all")
    axes = ["keys", "samples", "components", "properties"] if axes == "all" else axes
    direction = -1 if args.get("descending") else 1
    result = outcome["result"]
    tables = [result["keys"]["values"]] if result["kind"] == "map" and "keys" in axes else []
    for block in blocks_of(result):
        for part in [block, *block["gradients"].values()]:
            tables += [part["samples"]["values"]] if "samples" in axes else []
            tables += [part["properties"]["values"]] if "properties" in axes else []
            if "components" in axes:
                tables += [component["values"] for component in part["components"]]
    for table in tables:
        rows = table.tolist()[::direction]
        if rows != sorted(rows):
            yield "order", f"{table}"


def check_abs(step, outcome):
    """Compare gradients with differences; the absolute value of zero has the gradient zero."""
    pairs = zip(blocks_of(outcome["given"][0][0]), blocks_of(outcome["result"]))
    for block, result in pairs:
        x = block["values"].astype(np.result_type(block["values"].dtype, np.float64))
        for parameter, gradient in block["gradients"].items():
            extra = (1,) * (gradient["values"].ndim - x.ndim)
            at = x[gradient["samples"]["values"][:, 0]]
            at = at.reshape(len(at), *extra, *x.shape[1:])
            change = 1e-6 * gradient["values"]
            found = (np.abs(at + change) - np.abs(at - change)) / 2e-6
            if not near(result["gradients"][parameter]["values"], found, 1e-4):
                yield f"gradient {parameter}", f"is not {found}"


CHECKS = {
    "abs": check_abs,
    "join": check_join,
    "sort": check_sort,
    "sort_block": check_sort,
    ".components_to_properties": check_content,
    "permute_dimensions": check_content,
    "make_contiguous": check_content,
    "make_contiguous_block": check_content,
    "detach": check_content,
}


def check(step, outcome):
    """Return what is wrong with a result of this package, as far as known here."""
    function = check_reduction if "_over_" in step["function"] else CHECKS.get(step["function"])
    with np.errstate(all="ignore"):
        return list(function(step, outcome)) if function else []
