"""The local backend: rootless user and network namespaces through bubblewrap."""
