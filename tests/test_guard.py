"""Two packages that share the folder `metatensor`."""

import os
import shutil
import subprocess
import sys

import pytest

import metatensor
from metatensor import _guard


@pytest.mark.parametrize("name", ["_c_api.py", "_c_lib.py"])
def test_foreign_file_in_our_folder(tmp_path, name):
    (tmp_path / name).touch()
    assert _guard.other_package(str(tmp_path), []) == str(tmp_path / name)


def test_foreign_distribution_beside_us(tmp_path):
    (tmp_path / "metatensor_core-0.2.6.dist-info").mkdir()
    found = _guard.other_package(str(tmp_path / "metatensor"), ["/nonexistent", str(tmp_path)])
    assert found == str(tmp_path / "metatensor_core-0.2.6.dist-info")


def test_similar_names_are_no_reason(tmp_path):
    (tmp_path / "metatensor_core_tools-1.0.dist-info").mkdir()
    (tmp_path / "metatensor_sklearn-0.1.0.dist-info").mkdir()
    assert _guard.other_package(str(tmp_path), [str(tmp_path)]) is None


@pytest.mark.parametrize("replace_init", [False, True])
def test_import_fails_with_one_clear_error(tmp_path, replace_init):
    package = tmp_path / "metatensor"
    source = os.path.dirname(metatensor.labels.__file__)
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__", "*.pyx"))
    (package / "_c_lib.py").touch()
    if replace_init:
        (package / "__init__.py").write_text("")
    statement = "import metatensor._core" if replace_init else "import metatensor"
    code = (
        "import sys\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "sys.meta_path = [f for f in sys.meta_path if 'Meson' not in type(f).__name__]\n"
        f"{statement}\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert result.returncode != 0
    assert "share the folder `metatensor`" in result.stderr
