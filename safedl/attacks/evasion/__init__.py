"""One file per attack; `batches` runs any of them over many images."""
