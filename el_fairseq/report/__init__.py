"""Pictures and texts for people, from the results of runs."""
