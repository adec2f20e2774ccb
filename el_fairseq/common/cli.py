"""What the package's command-line modules share: one-line errors that the user can fix."""

import argparse
import math
import re
import signal
import sys
from contextlib import contextmanager, suppress


class UserError(Exception):
    """Bad input. The message names the thing, its value, what was expected and what to do."""


def command_line(prog, description, usage=None):
    """The parser of a program, which is called as ``prog usage``."""
    return argparse.ArgumentParser(
        prog=prog,
        usage=usage and f"%(prog)s {usage}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def parse(parser):
    """The options of a program, and the arguments after the first ``--``, another program's."""
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    return parser.parse_args(words[:end]), words[end + 1 :]


def argument(read, expected, is_allowed=lambda value: True):
    """A reader for argparse of the values that are allowed; its error says what was expected."""

    def read_argument(text):
        with suppress(ValueError):
            value = read(text)
            if is_allowed(value):
                return value
        raise argparse.ArgumentTypeError(f"'{text}', expected {expected}")

    return read_argument


def matching(pattern, expected):
    """A reader for argparse of text that matches a whole pattern."""
    return argument(str, expected, re.compile(pattern).fullmatch)


def whole_number(least, most=math.inf):
    """A reader for argparse of a whole number from ``least`` to ``most``."""
    expected = f"a whole number from {least}" + f" to {most}" * (most < math.inf)
    return argument(int, expected, lambda number: least <= number <= most)


@contextmanager
def needs_extra(name):
    """For a program's imports: one that the package's extra ``name`` brings ends it in one line."""
    try:
        yield
    except ModuleNotFoundError as error:
        extra = "fairseq" if error.name == "fairseq" else name
        sys.exit(
            f"error: there is no {error.name} here: pip install '.[{extra}]' in el-fairseq's folder"
        )


def run(main):
    """Run ``main``; a :class:`UserError` or a failing file operation ends in one line, status 1.

    Each line is printed at once; what the terminal's encoding lacks is printed as ``?``.
    """
    if sys.stdout is not None:
        sys.stdout.reconfigure(errors="replace", line_buffering=True)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # as it was while Python imported
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        known = error.filename and error.strerror
        sys.exit(f"error: {error.filename}: {error.strerror}" if known else f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
