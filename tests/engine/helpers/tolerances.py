"""One table of tolerances: dtype name -> (rtol, atol)."""

TOLERANCES = {
    "float16": (2e-3, 2e-3),
    "float32": (1e-5, 1e-5),
    "float64": (1e-10, 1e-10),
}
