"""Optimiser steps on a model: the warm-up before the gradients, and the paper's periodic schedule."""
