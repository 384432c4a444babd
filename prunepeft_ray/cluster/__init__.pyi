from .sharing.terms import Terms

__all__ = ["Terms"]
