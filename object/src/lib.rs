//! What operations mean: keys, onodes, extents, attributes, omap.
