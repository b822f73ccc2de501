"""Checks of what comes for questions: against labels, against the baseline, one by one, and in every mode."""
