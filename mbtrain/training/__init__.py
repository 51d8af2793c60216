"""Lightning's Trainer doing one iteration after another: module, loop, recorder, checkpoints, signals."""
