"""What a refinement writes: tables, stars, maps, the summary and its verdict."""
