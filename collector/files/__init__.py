"""Log files: who owns one, who writes it, what rolls over and what has to go."""
