"""ModelRegistry of weights: who serves, and how flows move to new weights."""
