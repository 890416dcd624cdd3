//! Home directory, configuration layers and -c overrides, merged into one typed configuration.
