"""The embedded default: a stack file run as processes on loopback, with the real proxy and control plane.

`plan` gives every service, and every dependency of every service, a loopback address of its own;
`runner` starts control plane, sidecars and apps; `measure` reads what the mesh reports; `shop` is the
sample application.
"""
