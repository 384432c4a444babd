"""The rivals of PrunePEFT, written against the public API of ``prunepeft_ray`` alone, as anybody's method would be."""
