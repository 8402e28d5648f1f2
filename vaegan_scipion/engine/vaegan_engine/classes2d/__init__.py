"""Class averages: expectation maximisation in the plane."""
