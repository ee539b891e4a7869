"""Stages that make data sets: preprocess, validate and demo data."""
