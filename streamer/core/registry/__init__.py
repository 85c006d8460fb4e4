"""The registry of model weights, and the rollout of new weights to flows."""
