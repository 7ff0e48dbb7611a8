"""Identity: who is who in the mesh, proven by certificates.

Every workload is a SPIFFE ID, `spiffe://<trust domain>/ns/<stack>/sa/<service>` (`spiffe`). It makes its own
key (`keys`) and sends a signing request. The authority (`ca`) takes only the key from it (`csr`); the
name comes from attestation, everything else from fixed profiles (`profile`). Root, perhaps offline, signs
intermediate, intermediate signs leaves of an hour. The result is an `Identity` (`identity`), which lives in
memory or in a directory (`store`).

Peers believe in a `TrustBundle` (`bundle`), which holds two roots while one replaces the other.
Between two peers OpenSSL verifies the chain (`tls`); then, after every handshake, `peer` applies the rules of
X509-SVID that OpenSSL does not know, and only that gives a `SpiffeId` to the rest of the program.

`spiffe`, `profile`, `csr` and `peer` are pure: bytes, `now` and serial numbers come in as arguments. `store`,
`identity` and `tls` touch files and OpenSSL. Every refusal is a `CertError`; hostile bytes raise no other.
Nothing here makes up a key where one is missing.
"""
