"""Models: one module each, with `PAPER`, `Options`, `SMALL`, `RECIPE`, `INPUT` and `build`."""
