"""The command `meshpy`: a file a command (`main` knows them by name), `output` prints for all of them."""
