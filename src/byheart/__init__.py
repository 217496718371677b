"""byheart: show, and measure, when a diffusion model knows its training images by heart."""

__version__ = "0.1.0"
