"""Readers of every source that `load` knows: arrays, tables, prepared folders, sessions of windows."""
