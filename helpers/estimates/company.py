"""How long the money lasts."""

from __future__ import annotations

from math import inf

from helpers.estimates.quantities import positive


def runway_months(cash: float, monthly_costs: float, monthly_revenue: float = 0.0) -> float:
    """Months until the cash is gone at a constant burn: cash / (costs - revenue); infinite when it earns its costs.

    Bills that are due at once (a cloud invoice in arrears) come off the cash first. Raises TypeError or ValueError
    for bad numbers.
    """
    positive("cash", cash, zero=True)
    positive("monthly_costs", monthly_costs, zero=True)
    positive("monthly_revenue", monthly_revenue, zero=True)
    burn = monthly_costs - monthly_revenue
    return cash / burn if burn > 0 else inf
