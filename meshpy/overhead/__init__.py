"""What the mesh costs a stack of the user's own: the same requests with and without it, side by side.

`load` sends at a fixed rate and times each request from the moment it was due, so that a server that stalls
cannot slow the clock down (coordinated omission). Slices of the two sides alternate, as the machine under
them changes all the time. `containers` reads CPU and memory of the tasks on this node. `report` draws it.
"""
