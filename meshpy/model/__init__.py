"""The shared vocabulary: frozen values that policies compile to and that sidecars and tools decide by."""
