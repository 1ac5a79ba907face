"""Study of training: the final model under changed settings, several seeds each."""
