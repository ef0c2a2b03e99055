"""Files of fitted estimators that run no code when they are loaded."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import sklearn
from sklearn.base import BaseEstimator

from metatensor import _checks
from metatensor._core.zip_reader import ArchiveReader
from metatensor._core.zip_writer import ArchiveWriter
from metatensor.io import _files
from metatensor.sklearn import _model_reading, _model_writing

_FORMAT = "metatensor.sklearn model"
_VERSION = 1
_JSON = "model.json"
#: what wrong content raises, somewhere on the way
_WRONG = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError)


def save_model(path: Any, model: BaseEstimator) -> None:
    """Write a fitted estimator to a file that can be loaded without trusting who made it.

    The file is a zip archive. Its ``model.json`` has the classes, parameters and learnt attributes
    in a readable form. It names the other members: Labels, blocks and maps are ``.mts`` files,
    which :func:`metatensor.load` and its like read, and arrays ``.npy`` files. A path is written as
    a whole or not at all: until the new file is complete, the old one stays.

    Gradients: those in blocks and maps are saved.

    Parameters
    ----------
    path : str, path or file object
        where to write to, taken as it is; a file object is one with a method ``write`` that takes
        bytes
    model : estimator
        one of this package, or one of scikit-learn that is made of such: Pipeline, FeatureUnion,
        TransformedTargetRegressor, VotingRegressor, StackingRegressor, MultiOutputRegressor; also
        its linear models, scalers, PCA, KernelRidge and DummyRegressor. The `memory` of a Pipeline
        is not saved.

    Raises
    ------
    TypeError
        if `model` is no such estimator, or has something that is not data, as functions; the
        message says where
    MetatensorError
        if the file can not be written, or values are such that files can not have them

    See Also
    --------
    load_model : read the file
    metatensor.save : files of Labels, blocks and maps

    Notes
    -----
    Predictions of the loaded model are the same to the last bit: values, dtypes, order in memory,
    labels and `info` are kept. Tensors of torch come back as such, in main memory, without autograd
    history. Of a :class:`~sklearn.model_selection.GridSearchCV` save `best_estimator_`.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from metatensor.sklearn import Ridge, load_model, save_model
    >>> X, y = np.arange(6.0).reshape(3, 2), np.arange(3.0)
    >>> model = Ridge(alpha=0.1).fit(X, y)
    >>> path = os.path.join(tempfile.mkdtemp(), "model.zip")
    >>> save_model(path, model)
    >>> bool((load_model(path).predict(X) == model.predict(X)).all())
    True

    """
    if not isinstance(model, BaseEstimator) or isinstance(model, type):
        raise TypeError(f"`model` must be an estimator, got {_checks.kind(model)}")
    if not (_files.is_path(path) or hasattr(path, "write")):
        raise TypeError(f"`path` must be a path or a file object, got {_checks.kind(path)}")
    encoder = _model_writing.Encoder()
    description = {
        "format": _FORMAT,
        "version": _VERSION,
        "written_by": {
            "metatensor": sys.modules["metatensor"].__version__,
            "scikit-learn": sklearn.__version__,
        },
        "model": encoder.node(model, type(model).__name__),
    }
    content = json.dumps(description, indent=1, allow_nan=False).encode()

    def write(sink: _files.Sink) -> None:
        archive = ArchiveWriter(sink)
        archive.add(_JSON, content)
        for name, (header, array) in encoder.members.items():
            archive.add(name, header, array)
        archive.finish()

    if not _files.is_path(path):
        _files.write_to_object(path, write)
        return
    with _files.io_errors(path):
        _files.write_to_path(os.fsdecode(path), write)


def load_model(path: Any) -> Any:
    """Read a fitted estimator from a file that :func:`save_model` wrote.

    Everything in the file is checked, and nothing in it is executed: it can only name classes of
    this package and a few of scikit-learn, whose instances are made without calling anything.

    Parameters
    ----------
    path : str, path or file object
        what to read; a file object is one with a method ``read`` that gives bytes

    Returns
    -------
    estimator

    Raises
    ------
    MetatensorError
        if the file can not be read, is damaged, has something else than a model, names another
        class, or was written in a newer version of the format
    ImportError
        if the model has tensors of torch, which is not installed

    Warns
    -----
    sklearn.exceptions.InconsistentVersionWarning
        for estimators of scikit-learn that another version wrote

    See Also
    --------
    save_model : write the file

    """
    with _files.io_errors(path), _files.opened(path) as source:
        decoder, description = None, {}
        try:
            archive = ArchiveReader(source.size, source.data, source.readinto)
            decoder = _model_reading.Decoder(archive, source.size)
            description = _description(archive)
            model = decoder.node(description["model"], "model")
            if not isinstance(model, BaseEstimator) or isinstance(model, type):
                raise ValueError("it is no estimator")
            unused = archive.names.keys() - decoder.used - {_JSON}
            if unused:
                raise ValueError(f"the file has {sorted(unused)[0]!r}, which the model has not")
            archive.check_others()
            return model
        except _WRONG as error:
            where = "".join(decoder.where) + ": " if decoder and decoder.where else ""
            raise _checks.MetatensorError(
                f"serialization format error: unable to load a model from {source.name}: "
                f"{where}{_text(error)}{_writer(description)}"
            ) from error


def _writer(description: dict[str, Any]) -> str:
    """Tell which version wrote a file, if it is not this one."""
    writer, own = description.get("written_by"), sys.modules["metatensor"].__version__
    version = writer.get("metatensor") if isinstance(writer, dict) else None
    if not isinstance(version, str) or version == own:
        return ""
    return f"; the file was written by version {version[:40]!r} of metatensor, this is {own}"


def _text(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return str(error)


def _description(archive: ArchiveReader) -> dict[str, Any]:
    """Read the JSON, and check that this version knows its format."""
    if _JSON not in archive:
        raise ValueError(f"there is no {_JSON!r}, it is no file of `save_model`")
    description = _model_reading.parse(archive.content(_JSON))
    if not isinstance(description, dict) or description.get("format") != _FORMAT:
        raise ValueError("it is no file of `save_model`")
    version = description.get("version")
    if type(version) is not int or version != _VERSION:
        raise ValueError(
            f"it has version {version!r} of the format, this package reads version {_VERSION}; "
            "update metatensor-sklearn to the version that wrote it"
        )
    if set(description) != {"format", "version", "written_by", "model"}:
        raise ValueError(f"{_JSON!r} has the fields {list(description)}")
    return description
