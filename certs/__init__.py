"""Identity: who is who in the mesh, proven by certificates.

Every workload is a SPIFFE ID, `spiffe://<trust domain>/ns/<stack>/sa/<service>` (`spiffe`). It makes its own
key (`keys`) and sends a signing request. The authority (`ca`) takes only the key from it (`csr`); the
name comes from attestation, everything else from fixed profiles (`profile`). Root, perhaps offline, signs
intermediate, intermediate signs leaves of an hour. The result is an `Identity` (`identity`), which lives in
memory or in a directory (`store`).

Peers believe in a `TrustBundle` (`bundle`), which holds two roots while one replaces the other.
Between two peers OpenSSL verifies the chain (`tls`, `openssl`); then, after every handshake, `peer` applies
the rules of X509-SVID that OpenSSL does not know, and only that gives a `SpiffeId` to the rest of us.

The X.509 library would be a fifth of a sidecar's memory. What certificates of the plainest form say is read
without it (`der`, `pem`, `plain`); all else, and every refusal, is its own (`svid`, `certificates`, `chain`),
imported when the first such certificate comes. Keys are made in a process that ends (`new_request`).

`spiffe`, `profile`, `csr`, `plain`, `svid`, `peer` and `chain` are pure: bytes, `now` and serial numbers come
in as arguments. `files`, `store`, `identity` and `tls` touch files and OpenSSL. Every refusal is a
`CertError`; hostile bytes raise no other.
Nothing here makes up a key where one is missing.
"""
