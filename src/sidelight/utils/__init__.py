"""Files and names: what every other folder reads and writes with, and nothing of sidelight's own subject."""
