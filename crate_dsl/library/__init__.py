"""What the words of the language mean; importing the package registers every atom."""

from crate_dsl.library import broadcasts  # noqa: F401
