"""Series that become known one degree at a time, as the solution of a differential equation does.

In ``y' = f(y)`` the block of degree ``k`` of ``f(y)`` is needed to form the block of degree
``k + 1`` of ``y``, which ``f`` is a function of. Every recurrence of the engine is causal: its
block of degree ``k`` needs blocks of its inputs of degree at most ``k``. So ``f`` is evaluated
once, on a ``Stream`` whose blocks above 0 are not known yet; what comes out of each operation is a
stream too, and remembers how its next block follows. The ``Tape`` holds the streams in the order in
which they came about, and moves all of them on by one degree. Each block is formed once:
``O(K**2)`` products up to degree ``K``, where evaluating ``f`` anew for every degree takes
``O(K**3)``.

Sources: McIlroy, *Squinting at power series* (1990); van der Hoeven, *Relax, but don't be too lazy*
(2002), section 4; Griewank & Walther, *Evaluating Derivatives*, 2nd ed. (2008), section 13.4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Block = Any


Term = Callable[[Sequence[Block], int], Block]


class Unknown(Exception):
    """A block was asked for before it can be known: this function needs its whole input at once."""


class Tape:
    """Streams in the order in which they came about: each only reads those before it."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []

    def advance(self) -> None:
        """Form the next block of every stream."""
        for stream in self.streams:
            stream.advance()

    def close(self) -> None:
        """Forget how the streams go on, and with it the cycle of references through ``y``."""
        for stream in self.streams:
            stream.term = None
        self.streams = []


class Stream(Sequence):
    """Blocks of degrees ``0 ... length - 1``, of which the first ``len(known)`` are known.

    ``term(known, k)`` forms the block of degree ``k`` from the lower ones, and from blocks of
    degree at most ``k`` of the streams before it on the tape.
    """

    def __init__(self, tape: Tape, first: Block, length: int, term: Term) -> None:
        self.tape = tape
        self.known = [first]
        self.length = length
        self.term: Term | None = term
        tape.streams.append(self)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, k: Any) -> Any:
        if isinstance(k, slice):
            first, last, step = k.indices(self.length)
            if last <= len(self.known):
                return tuple(self.known[first:last:step])
            if (first, step) != (0, 1):
                raise Unknown
            return Stream(self.tape, self.known[0], last, lambda known, j: self[j])
        if k < 0:
            k += self.length
        if k < len(self.known):
            return self.known[k]
        if k < self.length:
            raise Unknown
        raise IndexError(k)

    def advance(self) -> None:
        """Form the next block, if there is one."""
        k = len(self.known)
        if k < self.length and self.term is not None:
            self.known.append(self.term(self.known, k))
