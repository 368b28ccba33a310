"""One figure a file: a frozen view of numbers made from a document, and its drawing."""
