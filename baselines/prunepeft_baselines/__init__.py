"""Baselines for PrunePEFT, which use only the public API of ``prunepeft_ray``, as any third-party method would."""
