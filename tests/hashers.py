"""Passwords as in production, but in a millisecond: tests make hundreds of people."""

from django.contrib.auth.hashers import PBKDF2PasswordHasher


class OneRound(PBKDF2PasswordHasher):
    """PBKDF2 with one round instead of a million."""

    iterations = 1
