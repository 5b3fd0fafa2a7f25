"""Data sets as tensors: built-in sets, image folders, arrays and user modules, split and fingerprinted."""
