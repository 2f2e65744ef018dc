"""What a builder's function is: parsing, versions, and loading of code modules."""
