"""What goes to the Hub: a folder staged, carded, checked and put up in one commit, by functions that are called."""
