"""The pages of the documentation that are made from the code, and what reads its docstrings and links."""
