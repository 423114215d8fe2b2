"""Evaluations of selections."""
