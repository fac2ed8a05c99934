"""numpy by its usual name, `import crate_dsl.library.arrays as np`, but imported when a number is first computed.

Writing a network computes none, and the import takes as long as deriving and optimising a network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy import *  # noqa: F403


def __getattr__(name: str) -> Any:  # noqa: ANN401 (whatever numpy has)
    import numpy

    return getattr(numpy, name)
