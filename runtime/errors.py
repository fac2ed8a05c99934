"""What the runtime raises where it cannot go on."""

from __future__ import annotations


class UserError(Exception):
    """Something that the user can put right; the text says what is wrong and what would be right."""


class Misfit(UserError):
    """Data are of another size than a network; `found` says that alone, and the text how an untrained one would fit."""

    def __init__(self, found: str, advice: str) -> None:
        super().__init__(f"{found}{advice}")
        self.found = found


class Stopped(Exception):
    """A run was asked to stop; `signal` gives the exit status 128 + signal, as a shell expects."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


class Inapplicable(Exception):
    """There is nothing of this kind to measure in a network; the text says why, in words for the reader."""


class Quiet(Exception):
    """This process ends since another one said why."""
