"""Who signs leaves: our own intermediate (`local`), or a CA elsewhere (`vault`, `step`), by one interface.

What comes from elsewhere is believed no more than a stranger's word: it is compared with what was asked for
before anybody gets it (`checked`).
"""
