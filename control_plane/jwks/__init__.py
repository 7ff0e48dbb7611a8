"""Keys of token issuers: fetched here, since sidecars reach nothing outside the mesh, and sent in snapshots.

`guard` says which addresses may be asked, `fetch` asks once, `issuer_keys` keeps what was fetched.
"""
