"""Tables of text."""

from dataclasses import dataclass

from tabulate import tabulate


@dataclass(frozen=True)
class Table:
    """A table with a title, column names, and rows of text; the first ``words`` are no numbers."""

    title: str
    columns: list
    rows: list
    words: int = 1

    def text(self, style):
        """As text in one of tabulate's styles, columns of words to the left, others right."""
        align = ["left"] * self.words + ["right"] * (len(self.columns) - self.words)
        shown = tabulate(
            self.rows, self.columns, tablefmt=style, colalign=align, disable_numparse=True
        )
        return f"{self.title}\n\n{shown}\n" if self.title else f"{shown}\n"
