"""Labelled block-sparse tensors with gradients."""
