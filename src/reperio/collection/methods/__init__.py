"""The methods of a `Collection`, by subject. Each class has some of them; `Collection` is made of all."""
