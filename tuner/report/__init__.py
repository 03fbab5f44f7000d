"""Figures, one self-contained page, console text, JUnit."""
