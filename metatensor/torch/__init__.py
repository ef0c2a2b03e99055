"""Maps and torch."""
