"""Real pretrained models, fetched by pip."""
