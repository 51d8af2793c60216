"""The one error that is the user's to mend: a single line with key, value, what is allowed."""


class Refused(ValueError):
    """A value, key, file or combination that cannot be used; the command line prints it and exits with 2.

    The message is one line: the key with its value, what is wrong, and the cure.
    """
