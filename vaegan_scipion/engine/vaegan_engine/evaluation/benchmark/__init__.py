"""The scoreboard: tasks, their scores, real sets, other methods, and the rows of results."""
