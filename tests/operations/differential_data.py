"""Random Labels, blocks and maps as plain data, for `differential.py`."""

import copy

import numpy as np

SAMPLES, COMPONENTS, PROPERTIES = ["system", "atom", "center"], ["m", "xyz", "k"], ["n", "l", "p"]
KEYS, PARAMETERS = ["a", "b", "c"], ["positions", "strain", "x y"]
LAYOUTS = ["columns", "strided", "reversed", "readonly"]
DTYPES = ["float64"] * 14 + ["float32"] * 4 + ["int64"] * 2 + ["int32"] + ["complex128"] * 2
RARE = ["float16", "int8", "uint8", "int16", "complex64", "bool"]
STYLES = ["quarters"] * 6 + ["normal"] * 2 + ["few", "constant", "rows", "same", "special"]
SPECIAL = [0.0, -0.0, 1.0, -2.5, np.nan, np.inf, -np.inf]


class Maker:
    """Random names, Labels, blocks and maps."""

    def __init__(self, seed, number):
        self.rng = np.random.default_rng([seed, number])

    def chance(self, probability):
        return self.rng.random() < probability

    def pick(self, choices):
        return choices[self.rng.integers(len(choices))]

    def integer(self, low, high):
        """Return a Python integer, `high` included."""
        return int(self.rng.integers(low, high + 1))

    def some(self, choices, least=0, most=None):
        """Return some of the choices, in any order."""
        most = len(choices) if most is None else min(most, len(choices))
        count = self.integer(min(least, most), most)
        return [choices[i] for i in self.rng.permutation(len(choices))[:count].tolist()]

    def labels(self, names, size, spread=5):
        size = min(size, spread ** len(names))
        numbers = self.rng.permutation(spread ** len(names))[:size]
        digits = [numbers // spread**power % spread - 2 for power in range(len(names))]
        table = np.stack(digits, axis=1) if digits else np.zeros((size, 0))
        if size > 2 and self.chance(0.02):
            table[0] += self.pick([-(2**31) + 2, 2**31 - 1 - spread])
        return {"kind": "labels", "names": list(names), "values": table.astype(np.int32)}

    def numbers(self, shape, dtype, style=None):
        style = style or self.pick(STYLES)
        dtype = np.dtype(dtype)
        values = {
            "quarters": lambda: self.rng.integers(-12, 13, shape) / 4,
            "few": lambda: self.rng.integers(-1, 2, shape),
            "normal": lambda: self.rng.normal(size=shape),
            "constant": lambda: np.full(shape, self.integer(-3, 3) / 2),
            "rows": lambda: np.broadcast_to(self.rng.integers(-5, 5, shape[1:]) / 2, shape),
            "same": lambda: np.broadcast_to(self.rng.normal(size=shape[1:]), shape),
            "special": lambda: self.rng.choice(SPECIAL, shape),
            "positive": lambda: self.rng.integers(1, 13, shape) / 4,
        }[style]()
        if dtype.kind in "iu":
            values = np.nan_to_num(values, posinf=9, neginf=-9) * 4
        if dtype.kind == "u":
            values = np.abs(values)
        if dtype.kind == "c":
            values = values + 1j * self.rng.integers(-3, 4, shape) / 2
        return np.asarray(values).astype(dtype)

    def form(self, dtype=None, nested=0.03, **fixed):
        """Return what the blocks of a map have in common."""
        gradients = {}
        for parameter in self.some(PARAMETERS, 0, 2) if self.chance(0.65) else []:
            extra = self.some(["xyz_1", "xyz_2"], 0, 2)
            axes = [self.axis([axis], self.integer(1, 3)) for axis in extra]
            gradients[parameter] = {
                "names": ["sample", *self.some(["A", "atom", "B"], 0, 2)],
                "components": axes,
                "nested": self.chance(nested),
            }
        made = {
            "samples": self.some(SAMPLES, 1, 3),
            "components": self.some(COMPONENTS, 0, self.pick([0, 0, 1, 2, 3])),
            "properties": self.some(PROPERTIES, 1, 2),
            "gradients": gradients,
            "dtype": dtype or self.pick(RARE if self.chance(0.06) else DTYPES),
            "style": None,
            "empty": 0.08,
            "large": self.chance(0.03),
        }
        return made | fixed

    def block(self, form, samples=None, components=None, properties=None):
        empty = form["empty"]
        large = form["large"]
        sizes = [100, 300] if large else [1, 2, 3, 4, 5, 6, 8]
        size = 0 if self.chance(empty) else self.pick(sizes)
        samples = samples or self.labels(form["samples"], size, 40 if large else 5)
        size = 0 if self.chance(empty) else self.pick([9, 20, 33] if large else [1, 2, 2, 3, 4, 5])
        properties = properties or self.labels(form["properties"], size, 12 if large else 5)
        if components is None:
            components = [self.axis([axis], self.integer(1, 3)) for axis in form["components"]]
        return self.filled(form, samples, components, properties, form["gradients"])

    def filled(self, form, samples, components, properties, gradients):
        shape = [len(part["values"]) for part in (samples, *components, properties)]
        made = {
            "kind": "block",
            "values": self.numbers(tuple(shape), form["dtype"], form["style"]),
            "samples": samples,
            "components": components,
            "properties": properties,
            "gradients": {},
        }
        if self.chance(0.2):
            made["layout"] = self.pick(LAYOUTS)
        for parameter, gradient in gradients.items():
            made["gradients"][parameter] = self.filled(
                form,
                self.gradient_samples(gradient["names"], shape[0]),
                copy.deepcopy(gradient["components"]) + components,
                properties,
                {"cell": {"names": ["sample", "B"], "components": [], "nested": False}}
                if gradient["nested"]
                else {},
            )
        return made

    def axis(self, names, size):
        """Return the Labels of a component, most of which count from zero."""
        if self.chance(0.7):
            table = np.arange(size, dtype=np.int32).reshape(-1, 1)
            return {"kind": "labels", "names": names, "values": table}
        return self.labels(names, size)

    def gradient_samples(self, names, n_samples):
        """Return rows for all, some or none of the samples, in order or not."""
        share = self.pick([1.0, 1.0, 0.5, 0.5, 0.0])
        rows = []
        for sample in range(n_samples):
            if self.chance(share):
                count = self.integer(1, 3) if len(names) > 1 else 1
                others = self.labels(names[1:], count, spread=3)["values"]
                rows += [[sample, *other] for other in others.tolist()]
        table = np.array(rows, dtype=np.int32).reshape(-1, len(names))
        if self.chance(0.5):
            table = table[self.rng.permutation(len(table))]
        return {"kind": "labels", "names": names, "values": table}

    def map(self, form=None, least=0):
        form = form or self.form()
        size = 0 if least == 0 and self.chance(0.03) else self.pick([1, 1, 2, 3, 4, 6])
        keys = self.labels(self.some(KEYS, 1, 3), size, spread=3)
        shared = self.block(form)
        same = {
            part: shared[part]
            for part, chance in (("samples", 0.3), ("components", 0.85), ("properties", 0.5))
            if self.chance(chance)
        }
        blocks = [self.block(form, **same) for _ in keys["values"]]
        info = {"made by": "differential"} if self.chance(0.05) else {}
        return {"kind": "map", "keys": keys, "blocks": blocks, "info": info}

    def whole(self, function, form=None):
        """Return a block for functions of blocks, else a map."""
        if "_block" in function and not function.endswith("_blocks"):
            return self.block(form or self.form())
        return self.map(form)

    def renewed(self, data, style=None):
        """Return the same with other numbers."""
        data = copy.deepcopy(data)
        for block in blocks_of(data):
            for part in [block, *gradients_of(block)]:
                part["values"] = self.numbers(part["values"].shape, part["values"].dtype, style)
        return data

    def names(self, data, axis, most=None):
        """Return some names of an axis, as a string, list or tuple."""
        found = some_block(data)[axis]["names"] if some_block(data) else ["system"]
        names = self.some(found, self.pick([0, 1, 1, 1]), most)
        if self.chance(0.05):
            names.append("nothing")
        if len(names) == 1 and self.chance(0.5):
            return names[0]
        return tuple(names) if self.chance(0.1) else names


def blocks_of(data):
    return data["blocks"] if data["kind"] == "map" else [data]


def some_block(data):
    return next(iter(blocks_of(data)), None)


def gradients_of(block):
    """Return all gradients of a block, those of gradients too."""
    found = list(block["gradients"].values())
    return found + [nested for gradient in found for nested in gradients_of(gradient)]


# ---- the same data but for one thing


def varied(maker, data):
    """Return data that differs in one thing, if it can."""
    data = copy.deepcopy(data)
    if data["kind"] == "map" and maker.chance(0.25):
        order = maker.rng.permutation(len(data["blocks"]))
        data["blocks"] = [data["blocks"][position] for position in order]
        data["keys"]["values"] = data["keys"]["values"][order]
        if maker.chance(0.5):
            return data
    if data["kind"] == "map" and len(data["blocks"]) and maker.chance(0.15):
        vary_keys(maker, data)
        return data
    if blocks_of(data):
        block = maker.pick(blocks_of(data))
        maker.pick(VARIATIONS)(maker, block, blocks_of(data))
    return data


def vary_keys(maker, data):
    keys = data["keys"]
    position = maker.integer(0, len(data["blocks"]) - 1)
    if maker.chance(0.4):
        keys["values"] = np.delete(keys["values"], position, axis=0)
        del data["blocks"][position]
    elif maker.chance(0.5):
        keys["values"][position, 0] += 3
    else:
        keys["names"] = keys["names"][::-1]


def vary_numbers(maker, block, blocks):
    part = maker.pick([block, *gradients_of(block)])
    values = part["values"]
    if values.size:
        kinds = [1] if values.dtype.kind not in "fc" else [1.0, 1e-5, 1e-9, 5e-13, np.nan, np.inf]
        position = maker.integer(0, values.size - 1)
        values.reshape(-1)[position] += values.dtype.type(maker.pick(kinds))


def vary_order(maker, block, blocks):
    block["samples"]["values"] = block["samples"]["values"][::-1]


def vary_rows(maker, block, blocks):
    if len(block["samples"]["values"]):
        block["samples"]["values"] = block["samples"]["values"].copy()
        block["samples"]["values"][0, 0] += 7


def vary_gradient_rows(maker, block, blocks):
    for gradient in block["gradients"].values():
        if len(gradient["values"]) and not gradient["gradients"]:
            gradient["values"] = gradient["values"][:-1]
            gradient["samples"]["values"] = gradient["samples"]["values"][:-1]


def vary_gradient_order(maker, block, blocks):
    for gradient in block["gradients"].values():
        if not gradient["gradients"]:
            gradient["values"] = gradient["values"][::-1]
            gradient["samples"]["values"] = gradient["samples"]["values"][::-1]


def vary_properties(maker, block, blocks):
    for part in [block, *gradients_of(block)]:
        table = part["properties"]["values"]
        table = table[::-1] if len(table) > 1 else table + 1
        part["properties"] = part["properties"] | {"values": table}


def vary_components(maker, block, blocks):
    for part in [block, *gradients_of(block)]:
        if block["components"]:
            part["components"][-1] = dict(part["components"][-1])
            part["components"][-1]["values"] = part["components"][-1]["values"] + 1


def vary_names(maker, block, blocks):
    axis = maker.pick(["samples", "properties"])
    for whole in blocks:
        for part in [whole, *gradients_of(whole)] if axis == "properties" else [whole]:
            names = part[axis]["names"]
            names = names[::-1] if len(names) > 1 else ["other"]
            part[axis] = part[axis] | {"names": names}


def vary_parameters(maker, block, blocks):
    for whole in blocks:
        for parameter in list(whole["gradients"])[:1]:
            gradient = whole["gradients"].pop(parameter)
            if maker.chance(0.3):
                whole["gradients"]["another"] = gradient


def vary_parameter_order(maker, block, blocks):
    for whole in blocks:
        whole["gradients"] = dict(reversed(whole["gradients"].items()))


def vary_dtype(maker, block, blocks):
    for whole in blocks:
        for part in [whole, *gradients_of(whole)]:
            dtype = np.float32 if part["values"].dtype != np.float32 else np.float64
            part["values"] = part["values"].real.astype(dtype)


VARIATIONS = [vary_numbers] * 6 + [vary_order, vary_rows, vary_gradient_rows, vary_gradient_order]
VARIATIONS += [vary_properties, vary_components, vary_names, vary_parameters, vary_parameter_order]
VARIATIONS += [vary_dtype]
