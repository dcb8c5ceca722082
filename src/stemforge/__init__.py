"""stemforge: one generative model of the stems of a song together, to separate, impute, generate and edit."""

__version__ = "0.1.0"
