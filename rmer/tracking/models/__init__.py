"""Networks as MLflow models that load without executing pickles."""
