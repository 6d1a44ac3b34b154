"""`piccolo home new_app`: a package with one of each thing that an app can bring."""
