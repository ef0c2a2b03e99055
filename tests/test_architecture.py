"""The floor plan: what imports what, what is loaded when; public things are documented."""

import ast
import graphlib
import importlib
import inspect
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import metatensor

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "metatensor"
DOCS = ROOT / "docs"

#: parts of the package; each may import from its own floor and the floors below
FLOORS = [
    ["_core", "_guard"],
    ["_arrays", "_array_algebra", "_array_conversion", "_array_exchange", "_array_groups"],
    [
        "_checks",
        "_display",
        "_operators",
        "_provenance",
        "_trees",
        "labels",
        "block",
        "merge",
        "tensor",
        "io",
    ],
    ["operations"],
    ["o3", "sklearn", "learn", "torch", "jax", "atomistic", "interop"],
    ["datasets", "testing", "_strategies"],
    ["sklearn.testing"],
]
#: the floor that knows the array libraries, and the first one above that may load them by name
KNOWS_LIBRARIES, FREE_FLOOR = 1, 4
ARRAY_LIBRARIES = {"torch", "jax", "cupy", "dask", "array_api_compat", "array_api_strict"}
NOT_LOADED = ARRAY_LIBRARIES - {"array_api_compat"} | {"sklearn", "ase", "matplotlib", "hypothesis"}
LONGEST_CHAIN = 13
#: operators are methods of blocks and maps, what they do is an operation: the only imports upwards,
#: when an operator is used and not at load
UPWARD = {
    "metatensor._operators": {"metatensor.operations.elementwise", "metatensor.operations.linalg"}
}
#: packages whose `__init__.py` is a public list
PUBLIC = [
    "",
    "io",
    "operations",
    "sklearn",
    "sklearn.testing",
    "learn",
    "learn.data",
    "learn.nn",
    "jax",
    "o3",
    "testing",
    "datasets",
    "torch",
    "torch.io",
]
#: modules that have the names of a public list once more
MIRRORS = {
    "metatensor.torch",
    "metatensor.torch.operations",
    "metatensor.torch.learn",
    "metatensor.torch.learn.data",
    "metatensor.torch.learn.nn",
}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def sources():
    """Files of every module of the package, by name."""
    files = {}
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix in (".py", ".pyx", ".pxd"):
            files.setdefault(module_name(path), []).append(path)
    return files


def is_package(name):
    return sources()[name][0].name == "__init__.py"


def statements(tree, at_load=True):
    """Every import statement but those for types, with whether it runs at load."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, at_load
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from statements(node, at_load and not inside)


@cache
def imports(name):
    """What a module imports, as (dotted name, runs at load), names of a package spelled out."""
    files = sources()[name]
    if files[0].suffix != ".py":
        text = "\n".join(path.read_text() for path in files)
        found = re.findall(r"^(?:from|c?import) +([\w.]+)", text, re.MULTILINE)
        return [(module, True) for module in found if module != name]
    result = []
    for node, at_load in statements(ast.parse(files[0].read_text())):
        if isinstance(node, ast.Import):
            result += [(alias.name, at_load) for alias in node.names]
        else:
            assert node.level == 0, f"{name} has a relative import: {ast.unparse(node)}"
            if node.module in sources() and is_package(node.module):
                result += [(f"{node.module}.{alias.name}", at_load) for alias in node.names]
            else:
                result.append((node.module, at_load))
    return result


def inner_imports(name):
    """What a module imports from this package."""
    return [(other, at_load) for other, at_load in imports(name) if is_inner(other)]


def is_inner(name):
    return name.split(".")[0] == "metatensor"


def floor(name):
    part, *below = name.split(".")[1:]
    for known in [".".join([part, *below[:1]]), part]:
        for number, parts in enumerate(FLOORS):
            if known in parts:
                return number
    pytest.fail(f"{name} has no floor: add {part!r} to FLOORS, and to the floor plan")


MODULES = sorted(sources())
INNER_MODULES = [name for name in MODULES if name != "metatensor"]


@pytest.mark.parametrize("name", INNER_MODULES)
def test_imports_point_down(name):
    known = {other for other, _ in inner_imports(name) if other in sources()}
    upward = {other for other in known if floor(other) > floor(name)} - UPWARD.get(name, set())
    assert not upward, f"{name} is on floor {floor(name)}, below {upward}"


@pytest.mark.parametrize("name", UPWARD)
def test_imports_upwards_are_used_and_not_at_load(name):
    assert UPWARD[name] <= {other for other, at_load in inner_imports(name) if not at_load}


@pytest.mark.parametrize("name", [name for name in MODULES if name not in MIRRORS])
def test_modules_import_modules(name):
    """Names come from the module that defines them: packages collect names for users alone."""
    wrong = {
        other
        for other, _ in inner_imports(name)
        if other not in sources()
        or (is_package(other) and not (is_package(name) and other.startswith(f"{name}.")))
    }
    if name == "metatensor":
        wrong.discard("metatensor.operations.*")
    assert not wrong, f"{name} imports from the `__init__.py` of a package: {wrong}"


def load_graph():
    return {
        name: {other for other, at_load in inner_imports(name) if at_load and other in sources()}
        for name in MODULES
    }


def test_no_cycles():
    try:
        graphlib.TopologicalSorter(load_graph()).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(reversed(error.args[1]))}")


def test_chains_are_short():
    """From one module to the next; the two lowest floors are one step each, public lists none."""
    graph = load_graph()
    chains = {}
    for name in graphlib.TopologicalSorter(graph).static_order():
        longest = max((chains[other] for other in graph[name]), key=len, default=[])
        low = not is_package(name) and floor(name) <= KNOWS_LIBRARIES
        counts = not is_package(name) and not (
            low and longest and floor(longest[-1]) == floor(name)
        )
        chains[name] = [*longest, name] if counts else longest
    longest = max(chains.values(), key=len)
    assert len(longest) <= LONGEST_CHAIN, " <- ".join(longest)


@pytest.mark.parametrize("name", [name for name in INNER_MODULES if floor(name) != KNOWS_LIBRARIES])
def test_one_floor_knows_the_array_libraries(name):
    if floor(name) >= FREE_FLOOR:
        return
    used = {other.split(".")[0] for other, _ in imports(name)}
    path = sources()[name][0]
    if path.suffix == ".py":
        used |= set(looked_up(ast.parse(path.read_text())))
    assert not used & ARRAY_LIBRARIES, f"{name} must call a function of `_arrays.py` instead"


def looked_up(tree):
    """Names of modules in ``sys.modules[...]`` and ``import_module(...)``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript):
            where, arguments = node.value, [node.slice]
        elif isinstance(node, ast.Call):
            where, arguments = node.func, node.args
        else:
            continue
        if re.search(r"sys\.modules|import_module|__import__", ast.unparse(where)):
            for argument in arguments:
                if isinstance(argument, ast.Constant):
                    yield str(argument.value).split(".")[0]


@pytest.mark.parametrize(
    "statement",
    [
        "import metatensor",
        "import metatensor.io",
        "import metatensor.testing",
        (
            "import metatensor as m, numpy as np\n"
            "one, k = m.Labels.single(), m.Labels.range('k', 1)\n"
            "t = m.TensorMap(k, [m.TensorBlock(np.zeros((1, 1)), one, [], one)])\n"
            "repr(t), t._repr_html_(), t.save_buffer(), t.keys_to_samples('k'), t == t.copy()"
        ),
    ],
)
def test_what_is_not_loaded(statement):
    code = f"import sys\n{statement}\nprint(*sorted(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    assert not set(run.stdout.split()) & NOT_LOADED


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.pyx")), ids=module_name)
def test_compiled_modules_have_stubs(path):
    assert path.with_suffix(".pyi").exists()


def test_tests_are_no_package():
    """A `tests/sklearn/__init__.py` would shadow scikit-learn."""
    assert not list((ROOT / "tests").rglob("__init__.py"))


# ---- the public list


def public(part):
    """Public names of a package or module, with what they are."""
    name = f"metatensor.{part}".rstrip(".")
    if name not in sources():
        return {}
    module = importlib.import_module(name)
    names = getattr(module, "__all__", []) if part else vars(module)
    return {
        name: thing
        for name in names
        if not name.startswith("_")
        and (inspect.isclass(thing := getattr(module, name)) or inspect.isfunction(thing))
        and is_inner(thing.__module__)
        and not is_alias(name, thing)
        and not (part == "torch" and thing is getattr(metatensor, name, None))
    }


def is_alias(name, thing):
    """Whether it is a second name of something, as functions for blocks are."""
    return inspect.isfunction(thing) and name != thing.__name__


THINGS = {
    f"metatensor.{part}.{name}".replace("..", "."): thing
    for part in PUBLIC
    for name, thing in public(part).items()
}


@pytest.mark.parametrize("part", [part for part in PUBLIC[1:] if f"metatensor.{part}" in sources()])
def test_public_modules_list_their_names(part):
    module = importlib.import_module(f"metatensor.{part}")
    assert sorted(set(module.__all__)) == sorted(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize("name", THINGS)
def test_public_things_have_docstrings(name):
    thing = THINGS[name]
    doc = inspect.getdoc(thing) or ""
    assert re.match(r"[A-Z].*\.", doc), f"{name} has no summary: a sentence on the first line"
    for member, what in vars(thing).items() if inspect.isclass(thing) else ():
        if not member.startswith("_") and (
            callable(what) or isinstance(what, property | staticmethod)
        ):
            assert inspect.getdoc(getattr(thing, member)), f"{name}.{member} has no docstring"


@pytest.mark.skipif(not DOCS.exists(), reason="the reference is not there")
@pytest.mark.parametrize("name", THINGS)
def test_public_things_are_in_the_reference(name):
    """By dotted name, by autodoc, on a line of its own, or as member of a whole module."""
    pages = [*DOCS.rglob("*.rst"), *DOCS.rglob("*.md")]
    text = "\n".join(page.read_text() for page in pages if "generated" not in page.parts)
    module, _, last = name.rpartition(".")
    listed = (
        rf"{re.escape(name)}\b|^\s*(\.\. auto\w+:: )?~?([\w.]+\.)?{last}\s*$"
        rf"|automodule:: {re.escape(module)}\s*$"
    )
    assert re.search(listed, text, re.MULTILINE), f"{name} is on no page of docs/"
