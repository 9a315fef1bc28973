"""One training run: recipe, schedule, batches, loop, averaged weights, teacher."""
