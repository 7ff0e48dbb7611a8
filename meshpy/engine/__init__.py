"""What happens to a request: `route` where it goes, `authorize` whether it may, `explain` why. Pure.

The sidecar and the offline tools run this same code; so what `meshpy policy explain` says is what happens.
"""
