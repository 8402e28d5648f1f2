"""Results against a truth or against peers; the scoreboard."""
