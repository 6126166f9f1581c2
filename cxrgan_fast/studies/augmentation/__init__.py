"""Do synthetic X-rays help a classifier? Folds, arms, classifiers, outcomes and statistics."""
