"""Causal sweeps: interventions on the carriers, their matched controls, and what both do to readouts and answers."""
