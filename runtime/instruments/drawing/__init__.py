"""The figures of the instruments, apart from what is measured."""
