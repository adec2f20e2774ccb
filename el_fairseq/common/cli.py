"""What the package's command-line modules share: one clear line for what a user can mend."""

import sys


class UserError(Exception):
    """Bad input. The message names the thing, its value, what was expected and what to do."""


def run(main):
    """Run ``main``; a :class:`UserError` or a failing file operation ends in one line, status 1."""
    try:
        main()
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
