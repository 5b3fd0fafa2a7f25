"""Image classifiers: built-in architectures and user modules, with normalisation inside."""
