"""The one exception that the commands turn into a line and exit code 2."""


class UserError(Exception):
    """Bad input or settings: the message is one line that names what came and what to do."""
