"""Scores and models are for a policy's owners: annotators never see either."""

from apps.accounts.permissions import permission
from apps.policies.permissions import is_owner

permission("models.view", scope="read", rule=is_owner)
