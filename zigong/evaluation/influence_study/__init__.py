"""Study of the influence score: wrong labels, a datamodel and retraining, each compared with loss and chance."""
