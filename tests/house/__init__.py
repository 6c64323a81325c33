"""The rules of the house: imports, documents, and the tests themselves."""
