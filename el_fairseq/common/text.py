"""Lines of text files."""

from pathlib import Path

from .cli import UserError


def lines_of(path):
    """Lines of a UTF-8 file without their ends; ``\\n`` alone ends a line.

    (``str.splitlines`` would also split at U+2028 and its like, which stand in real text.)

    Raises:
        UserError: there is no such file, or it is not UTF-8; the message names the line.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise UserError(f"there is no {path}") from None
    try:
        lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path} is not UTF-8 in line {line}: convert it (iconv -t utf-8)"
        ) from None
    return lines[:-1] if lines[-1] == "" else lines
