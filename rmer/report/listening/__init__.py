"""The page on which adversaries are listened to, and the sounds themselves."""
