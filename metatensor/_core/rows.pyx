"""Positions of the rows of an int32 table."""
