"""The runtime trains, evaluates and converts what the compiler wrote; it knows networks only by their interface."""

import crate_dsl  # noqa: F401  # before anything else: Ctrl-C then ends a command quietly also while modules are read
