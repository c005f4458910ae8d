"""How a guardrail learns: texts to counts, counts to a classifier, scores to a threshold.

No Django here. `features`, `artifact` and `calibration` are what the web process needs to score a
text, and use NumPy alone; `classifier` and `threshold` run in workers and use scikit-learn, SciPy.
"""
