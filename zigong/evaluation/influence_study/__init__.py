"""Does the influence score find what matters? Wrong labels, a datamodel, retraining, each beside loss and chance."""
