"""The update: parameter groups, clipping, averaged weights."""
