"""Dose in structures: occupancy, dose-volume histograms, doses carried through uncertain deformations."""
