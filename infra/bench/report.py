"""What a measurement says: a value, and the limit that it was to meet."""

from dataclasses import dataclass

from infra.local.progress import say


@dataclass(frozen=True)
class Plan:
    """How Postgres answered a query, for information."""

    name: str
    lines: list[str]
    is_met: bool = True

    def print(self) -> None:
        """Print it below its name."""
        say(f"  {self.name}:")
        for line in self.lines:
            say(f"    {line}")


@dataclass(frozen=True)
class Line:
    """One measurement; limit: at least this much, or at most; None: for information."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    at_most: bool = False

    @property
    def is_met(self) -> bool:
        """Tell whether the value is on the right side of its limit."""
        if self.limit is None:
            return True
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    def print(self) -> None:
        """Print it aligned."""
        value = f"{self.value:,.0f}" if self.value >= 100 else f"{self.value:,.2f}"
        verdict = ""
        if self.limit is not None:
            sign = "≤" if self.at_most else "≥"
            verdict = f"{sign} {self.limit:,g}".ljust(12) + ("ok" if self.is_met else "SHORT")
        say(f"  {self.name:<58}{value:>10} {self.unit:<12}{verdict}".rstrip())
