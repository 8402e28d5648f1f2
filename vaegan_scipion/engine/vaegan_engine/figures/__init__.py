"""Drawings that pictures share."""
