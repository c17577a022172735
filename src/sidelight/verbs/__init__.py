"""The verbs of the command line: `VERB_verb(args)` of each, in the module that `sidelight.cli.WHERE` names."""
