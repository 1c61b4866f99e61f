"""Read one pickle as data, and show what it says. Imports nothing else of ours."""
