"""A package, so that no other of this name on the path is taken for it: Canaille's wheel brings one."""
