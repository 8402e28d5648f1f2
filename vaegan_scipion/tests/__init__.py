"""Tests of the Scipion side; run with `scipion3 tests vaegan_scipion.tests.<module>`."""
