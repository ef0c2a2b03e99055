"""Expressions of products over named axes, such as ``"s | m | n, s | m | n -> s | | n"``."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple, NoReturn

_TOKEN = re.compile(r"\s*(?:(?P<name>[A-Za-z_]\w*)|(?P<mark>->|[|,])|(?P<wrong>\S))", re.ASCII)
_HINT = 'write each operand as "samples | components | properties", with names parted by spaces'


class Axes(NamedTuple):
    """Letters of the axes of an operand, or of the result; none for an axis without names."""

    samples: str
    components: str
    #: several for a result, whose properties are all their combinations
    properties: str


class Plan:
    """What is multiplied and summed: axes with the same letter are the same.

    Parameters
    ----------
    who : str
        name of the operation, for messages
    operands : tuple of Axes
        of each factor
    result : Axes
        what is not in it is summed
    names : tuple of str
        of the properties of the result

    """

    def __init__(
        self, who: str, operands: tuple[Axes, ...], result: Axes, names: tuple[str, ...]
    ) -> None:
        self.who = who
        self.operands = operands
        self.result = result
        self.names = names
        #: letters of all the axes of each factor, and of the result
        self.terms = ["".join(operand) for operand in operands]
        self.target = "".join(result)


class Names(NamedTuple):
    """Names of the dimensions of an operand, and of the result."""

    samples: tuple[str, ...]
    components: tuple[str, ...]
    properties: tuple[str, ...]


class Expression(NamedTuple):
    operands: tuple[Names, ...]
    plan: Plan


class _Token(NamedTuple):
    text: str
    position: int


@lru_cache(maxsize=256)
def parse(text: str) -> Expression:
    """Read an expression.

    Raises
    ------
    ValueError
        that shows the place at fault

    """
    return _Parser(re.sub(r"\s", " ", text)).parse()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        #: letter of each group of names, and the group of each name
        self._letters: dict[tuple[str, ...], str] = {}
        self._groups: dict[str, tuple[str, ...]] = {}

    def parse(self) -> Expression:
        tokens = list(self._tokens())
        arrows = [token for token in tokens if token.text == "->"]
        if len(arrows) != 1:
            place = arrows[1].position if arrows else len(self._text)
            self._refuse(place, f'must have one "->" before the result, got {len(arrows)}')
        arrow = tokens.index(arrows[0])
        operands, given, start = [], [], 0
        for comma in [n for n in range(arrow) if tokens[n].text == ","] + [arrow]:
            names = self._names(tokens[start:comma], tokens[comma].position)
            given.append(Names(*[tuple([token.text for token in axis]) for axis in names]))
            operands.append(self._operand_axes(*names))
            start = comma + 1
        *_, properties = names = self._names(tokens[arrow + 1 :], len(self._text))
        result = self._result_axes(*names)
        plan = Plan("einsum", tuple(operands), result, tuple([token.text for token in properties]))
        return Expression(tuple(given), plan)

    def _refuse(self, position: int, message: str) -> NoReturn:
        raise ValueError(f"`expression` {message}\n    {self._text}\n    {' ' * position}^")

    def _tokens(self) -> Iterator[_Token]:
        for match in _TOKEN.finditer(self._text):
            kind = str(match.lastgroup)
            token = _Token(match[kind], match.start(kind))
            if kind == "wrong":
                self._refuse(token.position, f"has an unexpected {token.text!r}; {_HINT}")
            yield token

    def _names(self, tokens: list[_Token], end: int) -> list[list[_Token]]:
        """Return the names of samples, components and properties in one operand, or the result."""
        axes: list[list[_Token]] = [[]]
        seen = set()
        for token in tokens:
            if token.text == "|":
                axes.append([])
            elif token.text == ",":
                self._refuse(token.position, "must have one result, got several")
            elif token.text in seen:
                self._refuse(
                    token.position,
                    f"has the name {token.text!r} twice in one place; axes that are not the same "
                    "need different names, see `rename_dimension`",
                )
            else:
                axes[-1].append(token)
            seen |= {token.text} - {"|"}
        if len(axes) != 3:
            place = tokens[0].position if tokens else end
            self._refuse(place, f"must have two bars here, got {len(axes) - 1}; {_HINT}")
        return axes

    def _operand_axes(
        self, samples: list[_Token], components: list[_Token], properties: list[_Token]
    ) -> Axes:
        return Axes(
            self._letter(samples),
            "".join([self._letter([token]) for token in components]),
            self._letter(properties),
        )

    def _letter(self, tokens: list[_Token]) -> str:
        """Return the letter of a group of names in an operand, a new one if it is new."""
        group = tuple([token.text for token in tokens])
        if not group or group in self._letters:
            return self._letters.get(group, "")
        for token in tokens:
            other = self._groups.setdefault(token.text, group)
            if other != group:
                self._refuse(
                    token.position,
                    f"must have each name in one axis, got {token.text!r} in {' '.join(other)!r} "
                    f"and in {' '.join(group)!r}",
                )
        if len(self._letters) == len(string.ascii_lowercase):
            self._refuse(tokens[0].position, "can have at most 26 axes")
        self._letters[group] = string.ascii_lowercase[len(self._letters)]
        return self._letters[group]

    def _result_axes(
        self, samples: list[_Token], components: list[_Token], properties: list[_Token]
    ) -> Axes:
        axes = [self._split(samples), self._split(components), self._split(properties)]
        if len(axes[0]) > 1:
            self._refuse(samples[0].position, "must have the samples of one operand in the result")
        for token in components:
            group = self._groups[token.text]
            if len(group) > 1:
                self._refuse(
                    token.position,
                    f"must have components with one name in the result, got {' '.join(group)!r}",
                )
        return Axes(*axes)

    def _split(self, tokens: list[_Token]) -> str:
        """Return the letters of names in the result, which are those of whole axes of operands."""
        letters, start = "", 0
        while start < len(tokens):
            name, position = tokens[start]
            if name not in self._groups:
                self._refuse(position, f"has {name!r} in the result, and in no operand")
            group = self._groups[name]
            if tuple([token.text for token in tokens[start : start + len(group)]]) != group:
                self._refuse(position, f"must have {' '.join(group)!r} together in the result")
            letters += self._letters[group]
            start += len(group)
        return letters
