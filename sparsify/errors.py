"""The one exception that stands for bad input."""


class SparsifyError(Exception):
    """Bad input, described in one sentence: what is wrong, where, and how to mend it.

    The command line prints the sentence and exits with code 2.
    """
