"""Verbs of the command line that look at what is there: a student, two runs, the user's data, the parser itself."""
