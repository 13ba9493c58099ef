"""The versions of policies that the policy service assigns: fetched, checked and kept on disk."""
