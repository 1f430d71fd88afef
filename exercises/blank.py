"""Makes the exercises from their solutions: every function above `main` becomes a gap. `make exercises` runs it.

Exercise and solution are one source: edit solutions/ and run this. tests/test_exercises.py holds them together.
"""

import ast
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILES = ("traffic_sign_inference.py", "feature_extraction.py", "train_feature_extraction.py")  # in the lab's order


def gaps(source):
    """The functions of a script (str) that are a student's to write, all but `main`: {name: its ast.FunctionDef}.

    Raises SyntaxError for a source that is not Python.
    """
    return {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name != "main"}


def blanked(source, file):
    """The exercise (str) made from the source of a solution, whose `file` name the gaps mention when they are called."""
    lines = source.splitlines(keepends=True)
    for name, function in reversed(gaps(source).items()):
        first, last = function.body[1].lineno - 1, function.end_lineno  # body[0] is the docstring
        lines[first:last] = [f"    # TODO: about {last - first} lines.\n",
                             f'    raise command_line.BadInput("{name} in {file} is still open: fill in its TODO")\n']
    return "".join(lines)


def with_gap_again(source, name, exercise):
    """The `source` of a student's script with the function `name` as it is in the source of the `exercise`.

    Raises SyntaxError for a source that is not Python. A function that is missing is put in front of `main`, or at the end.
    """
    lines, fresh = source.splitlines(keepends=True), gaps(exercise)[name]
    fresh_lines = exercise.splitlines(keepends=True)[fresh.lineno - 1:fresh.end_lineno]
    functions = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    if name in functions:
        old = functions[name]
        first = min([old.lineno, *(decorator.lineno for decorator in old.decorator_list)])
        lines[first - 1:old.end_lineno] = fresh_lines
    else:
        place = functions["main"].lineno - 1 if "main" in functions else len(lines)
        lines[place:place] = [*fresh_lines, "\n", "\n"]
    return "".join(lines)


def main():
    for file in FILES:
        solution = (HERE / "solutions" / file).read_text("utf-8")
        (HERE / file).write_text(blanked(solution, file), "utf-8")


if __name__ == "__main__":
    main()
