"""Models: plain nn.Modules; one that asks for `input_shape` or `num_outputs` is given them."""
