"""State files: JSON that one command writes and others read."""

import json
from pathlib import Path

from .cli import UserError
from .files import writing


def read_json(path, advice):
    """The object in a JSON file, a ``dict``.

    ``advice`` is what a user can do about a file that is missing or damaged, such as "evaluate
    that run again".

    Raises:
        UserError: there is no such file, it is no whole JSON, or it holds something else.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
        if isinstance(value, dict):
            return value
        reason = f"it holds a {type(value).__name__}, expected a dict"
    except FileNotFoundError:
        raise UserError(f"there is no {path}: {advice}") from None
    except ValueError as error:  # also a UnicodeDecodeError
        reason = error
    raise UserError(f"{path} is damaged ({reason}): {advice}")


def write_json(path, value):
    """Write ``value`` as JSON, indented; the file appears, or is replaced, whole."""
    with writing(path) as file:
        json.dump(value, file, indent=2, ensure_ascii=False)
        file.write("\n")
