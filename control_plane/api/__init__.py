"""The two HTTP faces: operators (policies, status, tokens) and sidecars (certificates, streams)."""
