"""Labelled tracks: data sets, manifests, splits, folds, audits, caches."""
