"""One way to train, predict and read features, used by baseline, attacks and defenses alike."""
