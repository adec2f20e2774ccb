"""Tables of text."""

from dataclasses import dataclass

from tabulate import tabulate


@dataclass(frozen=True)
class Table:
    """A table with a title, column names, and rows of text."""

    title: str
    columns: list
    rows: list

    def text(self, style):
        """As text in one of tabulate's styles, the first column to the left, others right."""
        align = ["left"] + ["right"] * (len(self.columns) - 1)
        shown = tabulate(
            self.rows, self.columns, tablefmt=style, colalign=align, disable_numparse=True
        )
        return f"{self.title}\n\n{shown}\n" if self.title else f"{shown}\n"
