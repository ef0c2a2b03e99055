"""Maps and jax."""
